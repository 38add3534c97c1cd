//! In which order libtorch keeps the values of images and kernels: no result depends on it beyond
//! rounding, but the time does.

use tch::Tensor;

use crate::error::{Error, Result};

/// libtorch's term for the order of a tensor's axes in memory. Axes are called the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFormat {
    /// One plane per channel, as libtorch makes tensors.
    Contiguous,
    /// All channels of a pixel side by side.
    ChannelsLast,
}

impl MemoryFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Contiguous, Self::ChannelsLast];

    /// The one to train and to evaluate in. On a processor oneDNN pads planes to blocks of 16 channels, and
    /// libtorch pools them pixel by pixel; with the channels last it does neither (`cargo bench --bench
    /// training -- lenet-5` times both). On a GPU cuDNN's convolutions on tensor cores, in TF32 and bf16, work with the
    /// channels last, and copy what lies otherwise; that was not measured here.
    pub const PREFERRED: Self = Self::ChannelsLast;

    /// The same values in this format. Only images and kernels, which have four axes, have one;
    /// everything else comes back as it is.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn of(self, tensor: &Tensor) -> Result<Tensor> {
        let size = tensor.size();
        let &[count, channels, height, width] = &size[..] else {
            return Ok(tensor.shallow_clone());
        };
        let arrange = || match self {
            Self::Contiguous => tensor.f_contiguous(),
            // One channel lies the same either way, but libtorch goes by its stride.
            Self::ChannelsLast if channels == 1 => {
                let strides = [height * width, 1, width, 1];
                tensor.f_contiguous()?.f_as_strided([count, 1, height, width], strides, None)
            }
            Self::ChannelsLast => {
                tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
            }
        };
        arrange().map_err(Error::torch("arrange a tensor"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_values_stay_and_the_strides_change() {
        let planes = Tensor::arange(2 * 3 * 4 * 5, (Kind::Float, Device::Cpu)).view([2, 3, 4, 5]);
        let last = MemoryFormat::ChannelsLast.of(&planes).unwrap();
        assert_eq!((last.size(), last.stride()), (planes.size(), vec![60, 1, 15, 3]));
        assert!(last.equal(&planes));
        let back = MemoryFormat::Contiguous.of(&last).unwrap();
        assert_eq!(back.stride(), planes.stride());

        let one = planes.view([6, 1, 4, 5]);
        let last = MemoryFormat::ChannelsLast.of(&one).unwrap();
        assert_eq!(last.stride(), [20, 1, 5, 1]);
        assert!(last.equal(&one));

        let row = Tensor::ones([1, 3], (Kind::Float, Device::Cpu));
        assert_eq!(MemoryFormat::ChannelsLast.of(&row).unwrap().stride(), row.stride());
    }
}

//! libtorch's convolutions, which are oneDNN's. The weights stay in standard order: put in oneDNN's beforehand
//! (`mkldnn_reorder_conv2d_weight`) they were 3% to 12% slower, as oneDNN then computes otherwise (AlexNet's conv3 to
//! conv5, 1 to 8 images at once, AMD EPYC, family 25, model 17).

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kernels::convolution::{ConvLibrary, Geometry, PreparedConv};
use crate::kernels::layout::ImageLayout;

/// libtorch as a library of convolutions.
pub(super) struct TorchConvolutions(());

impl TorchConvolutions {
    /// None where libtorch was built without oneDNN, or where oneDNN does not know this processor.
    pub(super) fn new() -> Option<Self> {
        let geometry =
            Geometry { channels: 1, height: 3, width: 3, side: 3, stride: 1, padding: 1 };
        let library = Self(());
        let prepared = library.prepare(&geometry, &[0.0; 9], &[0.0]).ok()?;
        prepared.run(&[0.0; 9], &ImageLayout::plain([1, 3, 3]), 1, &mut |_| {}).ok()?;
        Some(library)
    }
}

impl ConvLibrary for TorchConvolutions {
    fn name(&self) -> String {
        "libtorch 2.11.0".into()
    }

    fn prepare(
        &self,
        geometry: &Geometry,
        weights: &[f32],
        bias: &[f32],
    ) -> Result<Box<dyn PreparedConv>> {
        let Geometry { channels, side, .. } = *geometry;
        Error::check_length(
            "convolution",
            "weights",
            bias.len() * channels * side * side,
            weights.len(),
        )?;
        let sizes = [bias.len(), channels, side, side].map(|size| size as i64);
        let weights = Tensor::f_from_slice(weights).and_then(|weights| weights.f_view(sizes));
        let weights = weights.map_err(Error::torch("prepare a convolution"))?;
        let bias = Tensor::f_from_slice(bias).map_err(Error::torch("prepare a convolution"))?;
        Ok(Box::new(TorchConv { geometry: *geometry, operands: Operands { weights, bias } }))
    }
}

/// Weights and bias in libtorch's hands.
struct Operands {
    weights: Tensor,
    bias: Tensor,
}

// SAFETY: they are never written after they are made, libtorch counts references atomically, and its operators may
// read one tensor from several threads at once.
unsafe impl Sync for Operands {}

struct TorchConv {
    geometry: Geometry,
    operands: Operands,
}

impl PreparedConv for TorchConv {
    fn run(
        &self,
        x: &[f32],
        layout: &ImageLayout,
        images: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<()> {
        let Geometry { channels, height, width, stride, padding, .. } = self.geometry;
        let shape = [channels, height, width];
        Error::check_room("convolution", "the images", layout.floats(shape, images), x.len())?;
        let ImageLayout { offset, image_stride, channel_stride, row_stride, pixel_stride } =
            *layout;
        let sizes = [images, channels, height, width].map(|size| size as i64);
        let strides =
            [image_stride, channel_stride, row_stride, pixel_stride].map(|step| step as i64);
        let [stride, padding] = [stride, padding].map(|size| size as i64);
        let Operands { weights, bias } = &self.operands;
        let convolve = || {
            let first = x[offset.min(x.len())..].as_ptr();
            // SAFETY: the images lie within `x`, as was checked, and the tensor does not outlive this function.
            let x = unsafe {
                Tensor::f_from_blob(first.cast(), &sizes, &strides, Kind::Float, Device::Cpu)
            }?;
            let y =
                x.f_mkldnn_convolution(weights, Some(bias), [padding; 2], [stride; 2], [1, 1], 1)?;
            y.f_contiguous()
        };
        let y = on_one_thread(|| tch::no_grad(convolve)).map_err(Error::torch("convolve"))?;
        // SAFETY: a contiguous tensor of f32 on the processor has so many there, and lives until after the call.
        let results = unsafe { std::slice::from_raw_parts(y.data_ptr().cast(), y.numel()) };
        take(results);
        Ok(())
    }
}

/// Has libtorch compute on the calling thread alone.
fn on_one_thread<T>(compute: impl FnOnce() -> T) -> T {
    let threads = tch::get_num_threads();
    if threads == 1 {
        return compute();
    }
    tch::set_num_threads(1);
    let computed = compute();
    tch::set_num_threads(threads);
    computed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::convolution::{ConvLayer, Convolution, Weights};
    use ndarray::Array2;
    use rand::RngExt;
    use std::sync::Arc;

    #[test]
    fn its_convolutions_are_ours() {
        let library: Arc<dyn ConvLibrary> =
            Arc::new(TorchConvolutions::new().expect("libtorch with oneDNN"));
        let mut rng = crate::seed::stream(1, "convolutions", &[]);
        for (geometry, groups) in [
            (Geometry { channels: 3, height: 9, width: 7, side: 3, stride: 1, padding: 1 }, 1),
            (Geometry { channels: 4, height: 8, width: 8, side: 5, stride: 1, padding: 0 }, 2),
            (Geometry { channels: 2, height: 23, width: 21, side: 7, stride: 4, padding: 2 }, 1),
            (Geometry { channels: 6, height: 4, width: 5, side: 1, stride: 1, padding: 0 }, 3),
        ] {
            let Geometry { channels, height, width, side, .. } = geometry;
            // Of several groups, each with another number of outputs.
            let matrices: Vec<Array2<f32>> = (0..groups)
                .map(|group| {
                    let shape = (4 + group, channels / groups * side * side);
                    Array2::from_shape_fn(shape, |_| rng.random_range(-1.0..1.0))
                })
                .collect();
            let views: Vec<_> = matrices.iter().map(|matrix| matrix.view()).collect();
            let outputs: usize = matrices.iter().map(Array2::nrows).sum();
            let bias: Vec<f32> = (0..outputs).map(|_| rng.random_range(-1.0..1.0)).collect();
            let weights = Weights::Dense(&views);
            let layer = ConvLayer { geometry, weights, bias: Some(&bias), relu: true };
            let x: Vec<f32> =
                (0..3 * channels * height * width).map(|_| rng.random_range(-1.0..1.0)).collect();
            let ours = Convolution::new(&layer).unwrap();
            let theirs = Convolution::with_conv_library(&library, &layer).unwrap();
            assert_eq!(theirs.label(), "convolution_f32_library (libtorch 2.11.0)");
            let mut found = [ours, theirs].map(|convolution| {
                let mut y = vec![f32::NAN; 3 * convolution.output().iter().product::<usize>()];
                convolution.run(&x, 3, &mut y).unwrap();
                y
            });
            let [ours, theirs] = &mut found;
            for (ours, theirs) in ours.iter().zip(theirs) {
                approx::assert_abs_diff_eq!(*ours, *theirs, epsilon = 1e-4);
            }
        }
    }

    #[test]
    fn threads_are_as_many_as_before() {
        let before = tch::get_num_threads();
        assert_eq!(on_one_thread(tch::get_num_threads), 1);
        assert_eq!(tch::get_num_threads(), before);
    }
}

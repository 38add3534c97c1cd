//! A network of the zoo on libtorch, ready to run: its weights on a device, in one of two memory formats.

use tch::{Device, Tensor};

use super::forward::{Mode, forward};
use super::memory_format::MemoryFormat;
use super::{Tensors, to_tensor};
use crate::error::Result;
use crate::network::{Network, NodeMasks, Weights};
use crate::timing::{MeasureConfig, try_interleave};

/// The weights of `network` as tensors on `device`, with the mask tensors of its masks.
#[derive(Debug)]
pub struct TorchNetwork {
    network: Network,
    parameters: Tensors,
    mask_tensors: Tensors,
    format: MemoryFormat,
}

impl TorchNetwork {
    /// Copies `weights` to `device`. Nodes that `masks` block are multiplied by 0, as a masked
    /// network does; a mask that is absent costs nothing.
    ///
    /// # Errors
    /// Weights or masks that are not the network's.
    pub fn new(
        network: &Network,
        weights: &Weights,
        masks: &NodeMasks,
        device: Device,
    ) -> Result<Self> {
        weights.check(network)?;
        let mut parameters = Tensors::new();
        for parameter in network.parameters()? {
            let tensor = to_tensor(weights.get(&parameter.name)?, device)?;
            parameters.insert(parameter.name, tensor);
        }
        let mut mask_tensors = Tensors::new();
        for site in network.mask_sites()? {
            if let Some(alive) = masks.get(&site.name) {
                let values: Vec<f32> =
                    alive.iter().map(|&alive| f32::from(u8::from(alive))).collect();
                let mask_tensor = Tensor::from_slice(&values).to_device(device).view([1, -1]);
                mask_tensors.insert(site.name, mask_tensor);
            }
        }
        Ok(Self {
            network: network.clone(),
            parameters,
            mask_tensors,
            format: MemoryFormat::Contiguous,
        })
    }

    /// The same with its kernels in another memory format; images are brought into it as they come.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn in_format(&self, format: MemoryFormat) -> Result<Self> {
        let arrange = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), format.of(tensor)?));
        let parameters = self.parameters.iter().map(arrange).collect::<Result<_>>()?;
        let copy =
            |(name, mask_tensor): (&String, &Tensor)| (name.clone(), mask_tensor.shallow_clone());
        let mask_tensors = self.mask_tensors.iter().map(copy).collect();
        Ok(Self { network: self.network.clone(), parameters, mask_tensors, format })
    }

    /// The same in the memory format in which it runs `images` the fastest, by a short contest.
    ///
    /// # Errors
    /// Images of another shape.
    pub fn fastest_on(&self, images: &Tensor) -> Result<Self> {
        let mut candidates = MemoryFormat::ALL
            .iter()
            .map(|&format| self.in_format(format))
            .collect::<Result<Vec<_>>>()?;
        let device = images.device();
        let mut calls: Vec<_> = candidates
            .iter()
            .map(|candidate| {
                move || -> Result<()> {
                    drop(candidate.run(images)?);
                    if let Device::Cuda(index) = device {
                        tch::Cuda::synchronize(index as i64);
                    }
                    Ok(())
                }
            })
            .collect();
        let mut turns: Vec<&mut dyn FnMut() -> Result<()>> =
            calls.iter_mut().map(|call| call as _).collect();
        let timings = try_interleave(&mut turns, MeasureConfig::QUICK)?;
        let times = timings.iter().map(|timing| timing.median).enumerate();
        let best = times.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place);
        Ok(candidates.swap_remove(best))
    }

    /// The network, its parameters and the mask tensors of its masks.
    pub fn parts(&self) -> (&Network, &Tensors, &Tensors) {
        (&self.network, &self.parameters, &self.mask_tensors)
    }

    /// The class scores `[batch, classes]` of `images`, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// Images of another shape.
    pub fn run(&self, images: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| {
            let images = self.format.of(images)?;
            forward(&self.network, &self.parameters, &self.mask_tensors, &images, Mode::Inference)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    use crate::network::zoo;
    use crate::timing::interleave;

    #[test]
    fn the_memory_format_that_is_taken_is_the_faster_one() {
        let network = zoo::lenet_5();
        let weights = Weights::random(&network, 1).unwrap();
        let torch = TorchNetwork::new(&network, &weights, &NodeMasks::new(), Device::Cpu).unwrap();
        let images = Tensor::rand([64, 1, 28, 28], (Kind::Float, Device::Cpu));
        let taken = torch.fastest_on(&images).unwrap().format;
        let mut calls = MemoryFormat::ALL.map(|format| {
            let (candidate, images) = (torch.in_format(format).unwrap(), &images);
            move || drop(candidate.run(images).unwrap())
        });
        let mut turns = calls.each_mut().map(|call| call as &mut dyn FnMut());
        let timings = interleave(&mut turns, MeasureConfig::new(9, MeasureConfig::QUICK.min_turn));
        let times = timings.iter().map(|timing| timing.median);
        let best = times.clone().fold(f64::INFINITY, f64::min);
        let (_, own) = MemoryFormat::ALL.into_iter().zip(times).find(|one| one.0 == taken).unwrap();
        // The other one takes about twice as long here; where both are as fast, either may be taken.
        assert!(own <= 1.3 * best, "{taken:?} takes {own} s, the other {best} s");
    }
}

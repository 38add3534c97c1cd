//! A network's weights as tensors on a device, with the masks of single ones, and the mean of several networks'.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::network::{Network, Weights};
use crate::prune::WeightMask;
use crate::torch::{MemoryFormat, Tensors, to_tensor};

/// A network's parameters as tensors, and the names of those that learn.
pub(super) fn parameters_of(
    network: &Network,
    weights: &Weights,
    format: MemoryFormat,
    device: Device,
) -> Result<(Tensors, Vec<String>)> {
    let (mut parameters, mut trained) = (Tensors::new(), Vec::new());
    for parameter in network.parameters()? {
        let learns = parameter.role.is_trained();
        let tensor = format.of(&to_tensor(weights.get(&parameter.name)?, device)?)?;
        let tensor = tensor.set_requires_grad(learns);
        if learns {
            trained.push(parameter.name.clone());
        }
        parameters.insert(parameter.name, tensor);
    }
    Ok((parameters, trained))
}

/// Masks as tensors of 1 and 0, as their parameters are shaped.
pub(super) fn mask_tensors(
    masks: &BTreeMap<String, WeightMask>,
    parameters: &Tensors,
    format: MemoryFormat,
    device: Device,
) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (name, mask) in masks {
        let flags = mask.map(|&kept| f32::from(u8::from(kept))).into_dyn();
        let shape = parameters[name].size();
        let tensor = to_tensor(&flags, device)?.f_reshape(&shape);
        let tensor = tensor.map_err(Error::torch("shape a mask"))?;
        tensors.insert(name.clone(), format.of(&tensor)?);
    }
    Ok(tensors)
}

/// The mean of so many weights, of which `mean` is that of all but the last.
pub(super) fn mean_of(mean: &Weights, last: &Weights, count: usize) -> Result<Weights> {
    let share = 1.0 / count as f32;
    let join = |(name, mean): (&str, &ArrayD<f32>)| {
        let last = last.get(name)?;
        Ok((name.to_owned(), mean + &((last - mean) * share)))
    };
    mean.iter().map(join).collect()
}

/// Zeroes the weights that a mask blocks.
pub(super) fn apply_mask(parameter: &mut Tensor, mask: &Tensor) -> Result<()> {
    let masked = tch::no_grad(|| parameter.f_mul_(mask).map(drop));
    masked.map_err(Error::torch("mask the weights"))
}

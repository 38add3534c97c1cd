//! Multiplying in bf16, with weights that stay in f32.

use tch::Kind;

use super::recipe::Precision;
use crate::baselines::torch::Tensors;
use crate::error::{Error, Result};

/// The parameters to multiply with in a step; `None` where they are the f32 ones themselves.
///
/// In bf16: the weights and biases of convolutions and dense layers, everything else as it is. Their
/// gradients arrive in f32, at the parameters that were cast.
pub fn working_copy(parameters: &Tensors, precision: Precision) -> Result<Option<Tensors>> {
    match precision {
        Precision::F32 => Ok(None),
        Precision::Bf16 => in_bf16(parameters).map(Some),
    }
}

fn in_bf16(parameters: &Tensors) -> Result<Tensors> {
    let multiplies = |name: &str, tensor: &tch::Tensor| match name.rsplit_once('.') {
        // A batch normalisation has a weight too, but of one axis, and its bias beside a running mean.
        Some((layer, "bias")) => !parameters.contains_key(&format!("{layer}.running_mean")),
        _ => tensor.dim() >= 2,
    };
    let cast = |(name, tensor): (&String, &tch::Tensor)| {
        let tensor = if multiplies(name, tensor) {
            tensor.f_to_kind(Kind::BFloat16)?
        } else {
            tensor.shallow_clone()
        };
        Ok((name.clone(), tensor))
    };
    parameters.iter().map(cast).collect::<Result<_, _>>().map_err(Error::torch("cast to bf16"))
}

//! The forward pass of a network, which training differentiates and which kernels are compared with.

use tch::{Kind, Tensor};

use super::Tensors;
use crate::error::{Error, Result};
use crate::network::{Group, Groups, Network, Op};

/// What a forward pass is for.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Running averages in batch normalisation, no dropout.
    Inference,
    /// Batch statistics, and dropout at these rates by layer name, each a number on the device (at the
    /// layer's own rate where it is not listed).
    Training(&'a Tensors),
}

/// Runs `network` on `images`, `[batch, channels, height, width]`, and returns the class scores,
/// `[batch, classes]`, in f32. A convolution or dense layer multiplies in the numbers of its weights;
/// normalisations work in f32. `mask tensors` multiplies the nodes of the masks that it names, each `[1, nodes]`.
///
/// # Errors
/// A parameter that is missing; whatever libtorch refuses.
pub fn forward(
    network: &Network,
    parameters: &Tensors,
    mask_tensors: &Tensors,
    images: &Tensor,
    mode: Mode<'_>,
) -> Result<Tensor> {
    let mut x = images.shallow_clone();
    for (place, layer) in network.layers.iter().enumerate() {
        let name = &layer.name;
        let get = |part: &str| {
            let full = format!("{name}.{part}");
            parameters.get(&full).ok_or_else(|| {
                Error::malformed(
                    format!("weights of {}", network.name),
                    format!("an array {full}"),
                    "none",
                )
            })
        };
        let refused = || Error::torch(format!("run {name} of {}", network.name));
        x = match &layer.op {
            Op::Conv(conv) => {
                let x = in_kind_of(get("bias")?, &x).map_err(refused())?;
                let (bias, stride, padding) =
                    (get("bias")?, conv.stride as i64, conv.padding as i64);
                match &conv.groups {
                    Groups::Even(groups) => x
                        .f_conv2d(get("weight")?, Some(bias), stride, padding, 1, *groups as i64)
                        .map_err(refused())?,
                    Groups::Uneven(groups) => {
                        let kernels = (0..groups.len())
                            .map(|place| get(&format!("weight.{place}")))
                            .collect::<Result<Vec<_>>>()?;
                        uneven(&x, groups, &kernels, bias, stride, padding).map_err(refused())?
                    }
                }
            }
            Op::Linear(_) => {
                let (weight, bias) = (get("weight")?, get("bias")?);
                let x = in_kind_of(bias, &x).map_err(refused())?;
                x.f_flatten(1, -1).and_then(|x| x.f_linear(weight, Some(bias))).map_err(refused())?
            }
            // What a layer has just written, and no gradient needs: half the memory, and its traffic. What is
            // timed runs plain calls.
            Op::Relu if matches!(mode, Mode::Training(_)) && writes_anew(network, place) => {
                x.f_relu_().map_err(refused())?
            }
            Op::Relu => x.f_relu().map_err(refused())?,
            Op::MaxPool(pool) => {
                let [kernel, stride, padding] =
                    [pool.kernel, pool.stride, pool.padding].map(|n| n as i64);
                x.f_max_pool2d(kernel, stride, padding, 1, false).map_err(refused())?
            }
            Op::AveragePool(pool) => {
                let [kernel, stride, padding] =
                    [pool.kernel, pool.stride, pool.padding].map(|n| n as i64);
                x.f_avg_pool2d(kernel, stride, padding, false, true, None).map_err(refused())?
            }
            Op::LocalResponseNorm(norm) => {
                let size = norm.size as i64;
                let normalise = || {
                    let x = x.f_to_kind(Kind::Float)?;
                    let mean = x.f_square()?.f_avg_pool2d(size, 1, size / 2, false, true, None)?;
                    x.f_div(
                        &mean
                            .f_mul_scalar(norm.alpha)?
                            .f_add_scalar(1.0)?
                            .f_pow_tensor_scalar(norm.beta)?,
                    )
                };
                normalise().map_err(refused())?
            }
            Op::BatchNorm(norm) => {
                let training = matches!(mode, Mode::Training(_));
                let x = x.f_to_kind(Kind::Float).map_err(refused())?;
                x.f_batch_norm(
                    Some(get("weight")?),
                    Some(get("bias")?),
                    Some(get("running_mean")?),
                    Some(get("running_var")?),
                    training,
                    norm.momentum,
                    norm.epsilon,
                    true,
                )
                .map_err(refused())?
            }
            Op::Dropout(dropout) => match mode {
                Mode::Inference => x,
                Mode::Training(rates) => match rates.get(name) {
                    None => x.f_dropout(dropout.p, true).map_err(refused())?,
                    Some(rate) => dropped(&x, rate).map_err(refused())?,
                },
            },
            Op::Mask => match mask_tensors.get(name) {
                None => x,
                // In the numbers of the maps, which a mask tensor in f32 would turn into f32.
                Some(mask_tensor) if x.dim() == 4 => in_kind_of(&x, mask_tensor)
                    .and_then(|mask_tensor| x.f_mul(&mask_tensor.f_unsqueeze(-1)?.f_unsqueeze(-1)?))
                    .map_err(refused())?,
                Some(mask_tensor) => x.f_mul(mask_tensor).map_err(refused())?,
            },
        };
    }
    let scores = x.f_flatten(1, -1).and_then(|x| x.f_to_kind(Kind::Float));
    scores.map_err(Error::torch(format!("flatten the scores of {}", network.name)))
}

/// Whether the layer before this one makes a tensor of its own that its gradients do not read.
fn writes_anew(network: &Network, place: usize) -> bool {
    let before = place.checked_sub(1).map(|before| &network.layers[before].op);
    matches!(before, Some(Op::Conv(_) | Op::Linear(_)))
}

/// Dropout at a rate below 1 that lies on the device: nothing waits for its value.
fn dropped(x: &Tensor, rate: &Tensor) -> Result<Tensor, tch::TchError> {
    let kept = x.f_rand_like()?.f_ge_tensor(rate)?;
    let scale = kept.f_div(&rate.f_rsub_scalar(1.0)?)?;
    x.f_mul(&scale.f_to_kind(x.kind())?)
}

/// `x` in the numbers that `parameter` has.
fn in_kind_of(parameter: &Tensor, x: &Tensor) -> Result<Tensor, tch::TchError> {
    if x.kind() == parameter.kind() { Ok(x.shallow_clone()) } else { x.f_to_kind(parameter.kind()) }
}

/// A convolution whose groups have different sizes, group by group. A group that pruning left without
/// inputs emits its bias.
fn uneven(
    x: &Tensor,
    groups: &[Group],
    kernels: &[&Tensor],
    bias: &Tensor,
    stride: i64,
    padding: i64,
) -> Result<Tensor, tch::TchError> {
    let (mut first_input, mut first_output) = (0, 0);
    let mut outputs = Vec::with_capacity(groups.len());
    for (group, kernel) in groups.iter().zip(kernels) {
        let (inputs, nodes) = (group.inputs as i64, group.outputs as i64);
        if nodes > 0 {
            let bias = bias.f_narrow(0, first_output, nodes)?;
            outputs.push(if inputs > 0 {
                let x = x.f_narrow(1, first_input, inputs)?;
                x.f_conv2d(kernel, Some(&bias), stride, padding, 1, 1)?
            } else {
                let (size, side) = (x.size(), kernel.size()[3]);
                let [height, width] =
                    [size[2], size[3]].map(|n| (n + 2 * padding - side) / stride + 1);
                bias.f_view([1, nodes, 1, 1])?.f_expand([size[0], nodes, height, width], false)?
            });
        }
        first_input += inputs;
        first_output += nodes;
    }
    Tensor::f_cat(&outputs, 1)
}

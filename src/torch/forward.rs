//! The forward pass of a network, which training differentiates and which kernels are compared with.

use tch::{Device, Kind, TchError, Tensor};

use super::Tensors;
use super::dropout::dropout;
use crate::error::{Error, Result};
use crate::network::{BatchNorm, Conv, Group, Groups, LocalResponseNorm, Network, Op, Pool};

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
/// normalisations work in f32. `mask_tensors` multiplies the nodes of the masks that it names, each `[1, nodes]`.
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
        let own = Parameters { network, parameters, layer: name };
        let computed = match &layer.op {
            Op::Conv(conv) => convolution(&own, conv, &x)?,
            Op::Linear(_) => linear(own.get("weight")?, own.get("bias")?, &x),
            // What a layer has just written, and no gradient needs: half the memory, and its traffic. What is
            // timed runs plain calls.
            Op::Relu if matches!(mode, Mode::Training(_)) && writes_anew(network, place) => {
                x.f_relu_()
            }
            Op::Relu => x.f_relu(),
            Op::MaxPool(pool) => {
                let [kernel, stride, padding] = sizes(pool);
                x.f_max_pool2d(kernel, stride, padding, 1, false)
            }
            Op::AveragePool(pool) => {
                let [kernel, stride, padding] = sizes(pool);
                x.f_avg_pool2d(kernel, stride, padding, false, true, None)
            }
            Op::LocalResponseNorm(norm) => local_response_norm(norm, &x),
            Op::BatchNorm(norm) => batch_norm(&own, norm, mode, &x)?,
            Op::Dropout(own_rate) => match mode {
                Mode::Inference => Ok(x),
                Mode::Training(rates) => match rates.get(name) {
                    Some(rate) => dropout(&x, rate),
                    None if x.device() == Device::Cpu => {
                        dropout(&x, &Tensor::from(own_rate.p as f32))
                    }
                    None => x.f_dropout(own_rate.p, true),
                },
            },
            Op::Mask => match mask_tensors.get(name) {
                None => Ok(x),
                Some(mask) => masked(mask, &x),
            },
        };
        x = computed.map_err(Error::torch(format!("run {name} of {}", network.name)))?;
    }
    let scores = x.f_flatten(1, -1).and_then(|x| x.f_to_kind(Kind::Float));
    scores.map_err(Error::torch(format!("flatten the scores of {}", network.name)))
}

type Computed = Result<Tensor, TchError>;

/// The parameters of one layer.
struct Parameters<'a> {
    network: &'a Network,
    parameters: &'a Tensors,
    layer: &'a str,
}

impl Parameters<'_> {
    fn get(&self, part: &str) -> Result<&Tensor> {
        let full = format!("{}.{part}", self.layer);
        self.parameters.get(&full).ok_or_else(|| {
            let place = format!("weights of {}", self.network.name);
            Error::malformed(place, format!("an array {full}"), "none")
        })
    }
}

fn convolution(own: &Parameters<'_>, conv: &Conv, x: &Tensor) -> Result<Computed> {
    let bias = own.get("bias")?;
    let (stride, padding) = (conv.stride as i64, conv.padding as i64);
    let of_kind = in_kind_of(bias, x);
    Ok(match &conv.groups {
        Groups::Even(groups) => {
            let weight = own.get("weight")?;
            of_kind.and_then(|x| x.f_conv2d(weight, Some(bias), stride, padding, 1, *groups as i64))
        }
        Groups::Uneven(groups) => {
            let kernels = (0..groups.len())
                .map(|place| own.get(&format!("weight.{place}")))
                .collect::<Result<Vec<_>>>()?;
            of_kind.and_then(|x| uneven(&x, groups, &kernels, bias, stride, padding))
        }
    })
}

fn linear(weight: &Tensor, bias: &Tensor, x: &Tensor) -> Computed {
    in_kind_of(bias, x)?.f_flatten(1, -1)?.f_linear(weight, Some(bias))
}

/// Kernel, stride and padding.
fn sizes(pool: &Pool) -> [i64; 3] {
    [pool.kernel, pool.stride, pool.padding].map(|size| size as i64)
}

fn local_response_norm(norm: &LocalResponseNorm, x: &Tensor) -> Computed {
    let (x, size) = (x.f_to_kind(Kind::Float)?, norm.size as i64);
    let mean = x.f_square()?.f_avg_pool2d(size, 1, size / 2, false, true, None)?;
    x.f_div(&mean.f_mul_scalar(norm.alpha)?.f_add_scalar(1.0)?.f_pow_tensor_scalar(norm.beta)?)
}

fn batch_norm(
    own: &Parameters<'_>,
    norm: &BatchNorm,
    mode: Mode<'_>,
    x: &Tensor,
) -> Result<Computed> {
    let training = matches!(mode, Mode::Training(_));
    let [weight, bias] = [own.get("weight")?, own.get("bias")?].map(Some);
    let [mean, var] = [own.get("running_mean")?, own.get("running_var")?].map(Some);
    let (momentum, epsilon) = (norm.momentum, norm.epsilon);
    Ok(x.f_to_kind(Kind::Float)
        .and_then(|x| x.f_batch_norm(weight, bias, mean, var, training, momentum, epsilon, true)))
}

/// The nodes of `x`, each times its entry of `mask`, `[1, nodes]`.
fn masked(mask: &Tensor, x: &Tensor) -> Computed {
    if x.dim() != 4 {
        return x.f_mul(mask);
    }
    // In the numbers of the maps, which a mask in f32 would turn into f32.
    x.f_mul(&in_kind_of(x, mask)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?)
}

/// Whether the layer before this one makes a tensor of its own that its gradients do not read.
fn writes_anew(network: &Network, place: usize) -> bool {
    let before = place.checked_sub(1).map(|before| &network.layers[before].op);
    matches!(before, Some(Op::Conv(_) | Op::Linear(_)))
}

/// `x` in the numbers that `parameter` has.
fn in_kind_of(parameter: &Tensor, x: &Tensor) -> Computed {
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
) -> Computed {
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

//! Networks on libtorch: the forward pass that training differentiates and that our kernels are
//! measured against.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use tch::{Device, Kind, Tensor};

use super::memory_format::MemoryFormat;
use crate::error::{Error, Result};
use crate::measure::{Effort, try_interleave};
use crate::network::{Group, Groups, Network, NodeMasks, Op, Weights};

/// Tensors by the authors' parameter names.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a forward pass is for.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Running averages in batch normalisation, no dropout.
    Inference,
    /// Batch statistics, and dropout at these rates by layer name, each a number on the device (at the
    /// layer's own rate where it is not listed).
    Training(&'a Tensors),
}

/// Copies an array to `device`.
pub fn to_tensor(array: &ArrayD<f32>, device: Device) -> Result<Tensor> {
    let values: Vec<f32> = array.iter().copied().collect();
    let shape: Vec<i64> = array.shape().iter().map(|&length| length as i64).collect();
    let copy = || Tensor::f_from_slice(&values)?.f_reshape(&shape)?.f_to_device(device);
    copy().map_err(Error::torch("copy an array"))
}

/// Copies a tensor to the host, as f32.
pub fn to_array(tensor: &Tensor) -> Result<ArrayD<f32>> {
    let shape: Vec<usize> = tensor.size().iter().map(|&length| length as usize).collect();
    let mut values = vec![0_f32; tensor.numel()];
    let mut copy = || {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        tensor.f_contiguous()?.f_copy_data(&mut values, tensor.numel())
    };
    copy().map_err(Error::torch("copy a tensor to the host"))?;
    ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|error| {
        Error::argument("copy a tensor", "as many values as its shape", error.to_string())
    })
}

/// The weights of `network` as tensors on `device`, with the gates of its masks.
#[derive(Debug)]
pub struct TorchNetwork {
    network: Network,
    parameters: Tensors,
    gates: Tensors,
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
        let mut gates = Tensors::new();
        for site in network.mask_sites()? {
            if let Some(alive) = masks.get(&site.name) {
                let values: Vec<f32> =
                    alive.iter().map(|&alive| f32::from(u8::from(alive))).collect();
                let gate = Tensor::from_slice(&values).to_device(device).view([1, -1]);
                gates.insert(site.name, gate);
            }
        }
        Ok(Self { network: network.clone(), parameters, gates, format: MemoryFormat::Contiguous })
    }

    /// The same with its kernels in another memory format; images are brought into it as they come.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn in_format(&self, format: MemoryFormat) -> Result<Self> {
        let arrange = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), format.of(tensor)?));
        let parameters = self.parameters.iter().map(arrange).collect::<Result<_>>()?;
        let copy = |(name, gate): (&String, &Tensor)| (name.clone(), gate.shallow_clone());
        let gates = self.gates.iter().map(copy).collect();
        Ok(Self { network: self.network.clone(), parameters, gates, format })
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
        let timings = try_interleave(&mut turns, Effort::LITTLE)?;
        let times = timings.iter().map(|timing| timing.median).enumerate();
        let best = times.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place);
        Ok(candidates.swap_remove(best))
    }

    /// The network, its parameters and the gates of its masks.
    pub fn parts(&self) -> (&Network, &Tensors, &Tensors) {
        (&self.network, &self.parameters, &self.gates)
    }

    /// The class scores `[batch, classes]` of `images`, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// Images of another shape.
    pub fn run(&self, images: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| {
            let images = self.format.of(images)?;
            forward(&self.network, &self.parameters, &self.gates, &images, Mode::Inference)
        })
    }
}

/// Runs `network` on `images`, `[batch, channels, height, width]`, and returns the class scores,
/// `[batch, classes]`, in f32. A convolution or dense layer multiplies in the numbers of its weights;
/// normalisations work in f32. `gates` multiplies the nodes of the masks that it names, each `[1, nodes]`.
///
/// # Errors
/// A parameter that is missing; whatever libtorch refuses.
pub fn forward(
    network: &Network,
    parameters: &Tensors,
    gates: &Tensors,
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
            Op::Mask => match gates.get(name) {
                None => x,
                // In the numbers of the maps, which a gate in f32 would turn into f32.
                Some(gate) if x.dim() == 4 => in_kind_of(&x, gate)
                    .and_then(|gate| x.f_mul(&gate.f_unsqueeze(-1)?.f_unsqueeze(-1)?))
                    .map_err(refused())?,
                Some(gate) => x.f_mul(gate).map_err(refused())?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::interleave;
    use crate::network::zoo;

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
        let timings = interleave(&mut turns, Effort::new(9, Effort::LITTLE.turn));
        let times = timings.iter().map(|timing| timing.median);
        let best = times.clone().fold(f64::INFINITY, f64::min);
        let (_, own) = MemoryFormat::ALL.into_iter().zip(times).find(|one| one.0 == taken).unwrap();
        // The other one takes about twice as long here; where both are as fast, either may be taken.
        assert!(own <= 1.3 * best, "{taken:?} takes {own} s, the other {best} s");
    }
}

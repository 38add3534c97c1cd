//! Stochastic gradient descent with momentum and weight decay, as PyTorch's `SGD` computes it:
//! v = momentum v + (grad + decay w), w = w - rate v.
//!
//! The optimiser of `tch` would do, were its momentum not out of reach: a checkpoint without it
//! could not go on where it stopped.

use tch::{Kind, Tensor};

use super::recipe::PerParameter;
use crate::error::{Error, Result};
use crate::torch::Tensors;

/// The optimiser's state: a velocity for each parameter that has been stepped.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    weight_decay_of: PerParameter,
    rate_factor_of: PerParameter,
    velocities: Tensors,
}

impl Sgd {
    /// An optimiser at rest. `weight_decay_of` overrides the decay of single parameters,
    /// `rate_factor_of` multiplies their learning rate.
    pub fn new(
        momentum: f64,
        weight_decay: f64,
        weight_decay_of: PerParameter,
        rate_factor_of: PerParameter,
    ) -> Self {
        let velocities = Tensors::new();
        Self { momentum, weight_decay, weight_decay_of, rate_factor_of, velocities }
    }

    /// The velocities by parameter name.
    pub fn velocities(&self) -> &Tensors {
        &self.velocities
    }

    /// Goes on from velocities that were saved.
    pub fn resume(&mut self, velocities: Tensors) {
        self.velocities = velocities;
    }

    /// One step of one parameter, in place.
    ///
    /// # Errors
    /// A gradient of another shape.
    pub fn step(
        &mut self,
        name: &str,
        parameter: &mut Tensor,
        gradient: &Tensor,
        rate: f64,
    ) -> Result<()> {
        let decay = self.weight_decay_of.get(name).unwrap_or(self.weight_decay);
        let rate = rate * self.rate_factor_of.get(name).unwrap_or(1.0);
        let velocity = match self.velocities.get_mut(name) {
            Some(velocity) => velocity,
            None => {
                let zero = parameter.f_detach().and_then(|p| p.f_zeros_like());
                let zero = zero.map_err(Error::torch("make a velocity"))?;
                self.velocities.entry(name.to_owned()).or_insert(zero)
            }
        };
        let momentum = self.momentum;
        let mut update = |parameter: &mut Tensor| -> Result<(), tch::TchError> {
            if on_host([parameter, gradient, velocity]) {
                step_on_host(parameter, gradient, velocity, [rate, momentum, decay]);
                return Ok(());
            }
            let mut change = velocity.f_mul_scalar_(momentum)?.f_add_(gradient)?;
            if decay != 0.0 {
                change = change.f_add_(&parameter.f_mul_scalar(decay)?)?;
            }
            let _ = parameter.f_sub_(&change.f_mul_scalar(rate)?)?;
            Ok(())
        };
        tch::no_grad(|| update(parameter)).map_err(Error::torch(format!("step {name}")))
    }
}

/// Whether all are f32 in host memory, of one size and without gaps, their values in the same order.
fn on_host(tensors: [&Tensor; 3]) -> bool {
    let like = tensors[0];
    let size = like.size();
    let strides = |tensor: &Tensor| -> Vec<i64> {
        // That of an axis of length 1 says nothing.
        let pairs = tensor.stride().into_iter().zip(&size);
        pairs.map(|(stride, &length)| if length == 1 { 0 } else { stride }).collect()
    };
    let expected = strides(like);
    without_gaps(like)
        && tensors.iter().all(|tensor| {
            tensor.device() == tch::Device::Cpu
                && tensor.kind() == Kind::Float
                && tensor.size() == size
                && strides(tensor) == expected
        })
}

/// Whether a tensor's values fill a stretch of memory, planes or channels last.
fn without_gaps(tensor: &Tensor) -> bool {
    let last = || tensor.f_permute([0, 2, 3, 1]).is_ok_and(|tensor| tensor.is_contiguous());
    tensor.is_contiguous() || (tensor.dim() == 4 && last())
}

/// The same in one pass over memory. libtorch's operations would take six.
fn step_on_host(
    parameter: &mut Tensor,
    gradient: &Tensor,
    velocity: &mut Tensor,
    [rate, momentum, decay]: [f64; 3],
) {
    let length = parameter.numel();
    // SAFETY: `on_host` has seen that all three are `length` f32 without gaps in host memory, in the
    // same order. They are three tensors: a parameter, its gradient, which autograd has just made, and a
    // velocity, which only `Sgd` holds. So no two slices overlap, and nothing else runs on them now.
    let (parameter, gradient, velocity) = unsafe {
        (
            std::slice::from_raw_parts_mut(parameter.data_ptr().cast::<f32>(), length),
            std::slice::from_raw_parts(gradient.data_ptr().cast::<f32>(), length),
            std::slice::from_raw_parts_mut(velocity.data_ptr().cast::<f32>(), length),
        )
    };
    let [rate, momentum, decay] = [rate as f32, momentum as f32, decay as f32];
    for ((parameter, &gradient), velocity) in parameter.iter_mut().zip(gradient).zip(velocity) {
        *velocity = momentum * *velocity + (gradient + decay * *parameter);
        *parameter -= rate * *velocity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::MemoryFormat;
    use tch::nn::{self, OptimizerConfig};
    use tch::{Device, Kind};

    #[test]
    fn steps_are_those_of_libtorchs_own_optimiser() {
        let store = nn::VarStore::new(Device::Cpu);
        let theirs = store.root().var("w", &[40], nn::Init::Const(0.5));
        let mut optimiser = nn::sgd(0.9, 0.0, 0.01, false).build(&store, 0.1).unwrap();

        let mut parameter = Tensor::full([40], 0.5, (Kind::Float, Device::Cpu));
        let mut ours = Sgd::new(0.9, 0.01, PerParameter::default(), PerParameter::default());
        let target = Tensor::arange(40, (Kind::Float, Device::Cpu)) / 40.0;
        for _ in 0..20 {
            let loss = (&theirs - &target).square().sum(Kind::Float);
            optimiser.backward_step(&loss);
            let gradient = (&parameter - &target) * 2.0;
            ours.step("w", &mut parameter, &gradient, 0.1).unwrap();
        }
        let apart = (&parameter - &theirs).abs().max().double_value(&[]);
        assert!(apart <= 1e-6, "{apart}");
    }

    #[test]
    fn the_order_of_the_values_in_memory_changes_no_step() {
        let shape = [4, 3, 5, 5];
        let kernel = Tensor::arange(300, (Kind::Float, Device::Cpu)).view(shape) / 300.0;
        let gradient = kernel.sin();
        let last = |tensor: &Tensor| MemoryFormat::ChannelsLast.of(tensor).unwrap();
        // In one format, in the other, and each in its own, which takes another path.
        let kernels = [kernel.copy(), last(&kernel), last(&kernel)];
        let gradients = [gradient.copy(), last(&gradient), gradient.copy()];
        let stepped = kernels.into_iter().zip(gradients).enumerate().map(
            |(place, (mut kernel, gradient))| {
                let mut sgd = Sgd::new(0.9, 0.01, PerParameter::default(), PerParameter::default());
                assert_eq!(on_host([&kernel, &gradient, &kernel.zeros_like()]), place < 2);
                for _ in 0..3 {
                    sgd.step("w", &mut kernel, &gradient, 0.1).unwrap();
                }
                kernel
            },
        );
        let stepped: Vec<Tensor> = stepped.collect();
        assert!(stepped[1].equal(&stepped[0]));
        assert!(stepped[2].allclose(&stepped[0], 1e-6, 1e-6, false));
    }

    #[test]
    fn a_parameter_can_have_a_decay_and_a_learning_rate_of_its_own() {
        let own = |number| {
            let mut numbers = PerParameter::default();
            numbers.insert("w", number);
            numbers
        };
        let step = |decay_of, factor_of| {
            let mut parameter = Tensor::ones([1], (Kind::Float, Device::Cpu));
            let gradient = parameter.zeros_like();
            let mut sgd = Sgd::new(0.9, 0.0, decay_of, factor_of);
            sgd.step("w", &mut parameter, &gradient, 1.0).unwrap();
            parameter.double_value(&[0])
        };
        assert_eq!(step(PerParameter::default(), own(0.5)), 1.0);
        assert_eq!(step(own(0.25), PerParameter::default()), 0.75);
        assert_eq!(step(own(0.25), own(0.5)), 0.875);
    }
}

//! Multiplying in bf16, with weights that stay in f32.

use tch::{Device, Kind};

use super::recipe::Precision;
use crate::device::cpu;
use crate::error::{Error, Result};
use crate::network::{Network, Op};
use crate::torch::Tensors;

/// The parameters to multiply with in a step; `None` where they are the f32 ones themselves.
///
/// In bf16: the weights and biases of convolutions and dense layers, everything else as it is. Their
/// gradients arrive in f32, at the parameters that were cast.
///
/// # Errors
/// Whatever libtorch refuses.
pub fn working_copy(
    network: &Network,
    parameters: &Tensors,
    precision: Precision,
) -> Result<Option<Tensors>> {
    if precision.is_f32() {
        return Ok(None);
    }
    let mut narrow: Vec<&str> = network
        .layers
        .iter()
        .filter(|layer| matches!(layer.op, Op::Conv(_) | Op::Linear(_)))
        .map(|layer| layer.name.as_str())
        .collect();
    if precision == Precision::Bf16Hidden {
        narrow.pop();
    }
    let is_narrow = |parameter: &str| {
        let layer = parameter.split_once('.').map_or(parameter, |(layer, _)| layer);
        narrow.contains(&layer)
    };
    let cast = |(name, tensor): (&String, &tch::Tensor)| {
        let tensor = if is_narrow(name) {
            tensor.f_to_kind(Kind::BFloat16)?
        } else {
            tensor.shallow_clone()
        };
        Ok((name.clone(), tensor))
    };
    parameters
        .iter()
        .map(cast)
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(Error::torch("cast to bf16"))
}

/// What to say before training where the device has no instructions for this precision: it is a choice for
/// speed, and there the opposite.
pub fn warning(precision: Precision, device: Device) -> Option<String> {
    let emulated = !precision.is_f32() && device == Device::Cpu && !cpu::multiplies_bf16();
    emulated.then(|| {
        format!(
            "this processor has no instructions for {}: libtorch emulates them, and a step takes several times \
             as long as with --precision f32",
            precision.name()
        )
    })
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;
    use crate::network::{Weights, zoo};
    use crate::torch::{Mode, forward, to_tensor};

    #[test]
    fn layers_that_multiply_are_cast_and_the_last_one_where_it_is_hidden() {
        let in_bf16 = |name: &str, precision| -> Vec<String> {
            let network = zoo::by_name(name).unwrap();
            let empty = || Tensor::zeros([1], (Kind::Float, Device::Cpu));
            let all = network.parameters().unwrap().into_iter().map(|p| (p.name, empty()));
            let copy = working_copy(&network, &all.collect(), precision).unwrap();
            let cast = |(_, tensor): &(String, Tensor)| tensor.kind() == Kind::BFloat16;
            copy.into_iter().flatten().filter(cast).map(|(name, _)| name).collect()
        };
        assert!(in_bf16("lenet-5", Precision::F32).is_empty());
        let hidden =
            ["conv1", "conv2", "ip1"].map(|of| [format!("{of}.bias"), format!("{of}.weight")]);
        assert_eq!(in_bf16("lenet-5", Precision::Bf16Hidden), hidden.concat());
        let last = ["ip2.bias", "ip2.weight"].map(str::to_owned);
        assert_eq!(in_bf16("lenet-5", Precision::Bf16), [&hidden.concat()[..], &last].concat());
        // AlexNet has batch normalisations, which have weights too.
        let alexnet = in_bf16("alexnet", Precision::Bf16);
        assert_eq!(alexnet.len(), 2 * 8, "{alexnet:?}");
    }

    #[test]
    fn bf16_is_warned_of_where_it_is_emulated() {
        for precision in Precision::ALL {
            let emulated = !precision.is_f32() && !cpu::multiplies_bf16();
            let warned = warning(precision, Device::Cpu);
            assert_eq!(warned.is_some(), emulated, "{warned:?}");
            assert!(warned.is_none_or(|text| text.contains(precision.name())));
            assert_eq!(warning(precision, Device::Cuda(0)), None);
        }
    }

    #[test]
    fn gates_learn_in_bf16_what_they_learn_in_f32() {
        let network = zoo::lenet_5();
        let weights = Weights::random(&network, 1).unwrap();
        let parameters = network.parameters().unwrap().into_iter().map(|p| {
            let tensor = to_tensor(weights.get(&p.name).unwrap(), Device::Cpu).unwrap();
            (p.name, tensor)
        });
        let parameters: Tensors = parameters.collect();
        tch::manual_seed(1);
        let images = Tensor::rand([32, 1, 28, 28], (Kind::Float, Device::Cpu));
        let gradients = |precision| {
            let open = |nodes: usize| Tensor::ones([1, nodes as i64], (Kind::Float, Device::Cpu));
            let sites = network.mask_sites().unwrap().into_iter();
            let mask_tensors: Tensors =
                sites.map(|site| (site.name, open(site.nodes).set_requires_grad(true))).collect();
            let copy = working_copy(&network, &parameters, precision).unwrap();
            let (used, rates) = (copy.as_ref().unwrap_or(&parameters), Tensors::new());
            let scores =
                forward(&network, used, &mask_tensors, &images, Mode::Training(&rates)).unwrap();
            let mask_tensors: Vec<&Tensor> = mask_tensors.values().collect();
            let loss = scores.square().mean(Kind::Float);
            Tensor::run_backward(&[loss], &mask_tensors, false, false)
        };
        for (own, low) in gradients(Precision::F32).iter().zip(gradients(Precision::Bf16)) {
            assert_eq!(low.kind(), Kind::Float);
            let error = f64::try_from((own - low).norm() / own.norm()).unwrap();
            assert!(error < 0.02, "{error} of the gradient's norm");
        }
    }
}

//! A training step's forward and backward pass, for benches.

use scalpel::network::Network;
use scalpel::torch::MemoryFormat;
use scalpel::torch::{Mode, Tensors, forward, to_tensor};
use scalpel::train::initial_weights;
use scalpel::train::precision::working_copy;
use scalpel::train::recipe::{Distribution, Initial, Precision};
use tch::{Device, Reduction, Tensor};

/// Random parameters of a network on the CPU, which learn, in a memory format.
pub fn parameters(network: &Network, format: MemoryFormat) -> Tensors {
    let normal = || Distribution::Normal { deviation: 0.01, bias: 0.0 };
    let initial = Initial { conv: normal(), ip: normal() };
    let weights = initial_weights(network, &initial, 1).expect("weights");
    let tensor = |name: &str, learns: bool| {
        let tensor = to_tensor(weights.get(name).expect("a parameter"), Device::Cpu);
        let tensor = format.of(&tensor.expect("a tensor")).expect("a tensor in that format");
        tensor.set_requires_grad(learns)
    };
    let all = network.parameters().expect("parameters");
    all.iter().map(|p| (p.name.clone(), tensor(&p.name, p.role.is_trained()))).collect()
}

/// A forward and a backward pass over images and their labels, multiplied in a precision. There may be no
/// masks.
pub fn step(
    network: &Network,
    parameters: &Tensors,
    mask_tensors: &Tensors,
    precision: Precision,
    (images, labels): (&Tensor, &Tensor),
) {
    let rates = Tensors::new();
    let copy = working_copy(network, parameters, precision).expect("parameters in that precision");
    let weights = copy.as_ref().unwrap_or(parameters);
    let scores = forward(network, weights, mask_tensors, images, Mode::Training(&rates));
    let loss = scores.expect("scores").cross_entropy_loss::<&Tensor>(
        labels,
        None,
        Reduction::Mean,
        -100,
        0.0,
    );
    let learning: Vec<&Tensor> =
        parameters.values().chain(mask_tensors.values()).filter(|p| p.requires_grad()).collect();
    let gradients = Tensor::run_backward(&[&loss], &learning, false, false);
    assert_eq!(gradients.len(), learning.len());
}

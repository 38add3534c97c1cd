//! A compacted network computes what the masked one does, for all five networks.

use ndarray::Array4;
use proptest::prelude::*;
use rand::RngExt;
use scalpel::engine::reference;
use scalpel::network::{BatchNorm, Groups, Layer, Network, NodeMasks, Op, Weights, zoo};
use scalpel::prune::compact::compact;
use scalpel::{error::Error, seed};

/// Masks over every site, each with a share of living nodes of its own, none and all among them.
fn random_masks(network: &Network, seed: u64, at_least_one: bool) -> NodeMasks {
    let mut rng = seed::stream(seed, "masks", &[]);
    let mut masks = NodeMasks::new();
    for site in network.mask_sites().unwrap() {
        let share = rng.random_range(-0.1..1.1_f64).clamp(0.0, 1.0);
        let mut alive: Vec<bool> = (0..site.nodes).map(|_| rng.random_bool(share)).collect();
        if at_least_one && !alive.contains(&true) {
            alive[0] = true;
        }
        masks.insert(site.name, alive);
    }
    masks
}

fn images(network: &Network, batch: usize, seed: u64) -> Array4<f32> {
    let [channels, height, width] = network.input;
    let mut rng = seed::stream(seed, "images", &[]);
    Array4::from_shape_simple_fn((batch, channels, height, width), || rng.random_range(-1.0..1.0))
}

/// The largest difference, relative to the largest value.
fn apart(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    let (mut largest, mut difference) = (0.0_f64, 0.0_f64);
    for (a, b) in a.zip(b) {
        largest = largest.max(a.abs());
        difference = if (a - b).is_nan() { f64::NAN } else { difference.max((a - b).abs()) };
    }
    difference / largest.max(f64::MIN_POSITIVE)
}

fn check_by_plain_loops(name: &str, seed: u64) {
    let network = zoo::narrow(name).unwrap();
    let weights = Weights::random(&network, seed).unwrap();
    let masks = random_masks(&network, seed, false);
    let images = images(&network, 2, seed);
    let masked = reference::run(&network, &weights, &masks, images.view()).unwrap();
    let (small, small_weights) = compact(&network, &weights, &masks).unwrap();
    let compacted =
        reference::run(&small, &small_weights, &NodeMasks::new(), images.view()).unwrap();
    assert_eq!(masked.dim(), compacted.dim());
    let apart = apart(masked.iter().copied(), compacted.iter().copied());
    assert!(apart <= 1e-5, "{name}, seed {seed}: {apart}");

    for site in network.mask_sites().unwrap() {
        let producer = &network.layers[site.producer].name;
        let bias = small_weights.get(&format!("{producer}.bias")).unwrap();
        let living = masks[&site.name].iter().filter(|&&alive| alive).count();
        assert_eq!(bias.len(), living, "{name}: {producer} must be smaller");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn compacted_networks_compute_what_masked_ones_do(seed in any::<u64>()) {
        for name in ["lenet-300-100", "lenet-5", "convnet", "nin", "alexnet"] {
            check_by_plain_loops(name, seed);
        }
    }
}

#[test]
fn groups_that_keep_unequal_counts_become_uneven() {
    let network = zoo::narrow("alexnet").unwrap();
    let weights = Weights::random(&network, 3).unwrap();
    // conv2 has two groups, each of 2 inputs and 5 nodes.
    let masks = NodeMasks::from([
        ("mask_conv1".into(), vec![true, false, true, true]),
        (
            "mask_conv2".into(),
            [true, true, false, true, false, false, false, true, false, false].into(),
        ),
    ]);
    let (small, _) = compact(&network, &weights, &masks).unwrap();
    let conv2 = small.layers.iter().find(|layer| layer.name == "conv2").unwrap();
    let Op::Conv(conv2) = &conv2.op else { panic!("conv2 is no convolution") };
    let Groups::Uneven(groups) = &conv2.groups else { panic!("{:?}", conv2.groups) };
    let counts: Vec<(usize, usize)> = groups.iter().map(|g| (g.inputs, g.outputs)).collect();
    assert_eq!(counts, [(1, 3), (2, 1)]);
}

/// conv, relu, [mask], batch normalisation, [mask], conv.
fn with_norm(mask_before: bool, mask_after: bool) -> Network {
    let mut layers = Vec::new();
    let lenet = zoo::lenet_5();
    let layer = |name: &str| lenet.layers.iter().find(|l| l.name == name).unwrap().clone();
    layers.extend([layer("conv1"), layer("relu_conv1")]);
    if mask_before {
        layers.push(Layer { name: "mask_before".into(), op: Op::Mask });
    }
    let norm = BatchNorm { epsilon: 0.1, momentum: 0.1 };
    layers.push(Layer { name: "bn1".into(), op: Op::BatchNorm(norm) });
    if mask_after {
        layers.push(Layer { name: "mask_after".into(), op: Op::Mask });
    }
    layers.extend([layer("conv2"), layer("ip2")]);
    Network { name: "normed".into(), input: [1, 12, 12], layers }
}

#[test]
fn a_mask_before_a_batch_normalisation_is_not_compacted_unless_one_after_it_follows() {
    let alive: Vec<bool> = (0..20).map(|node| node % 3 != 0).collect();
    let network = with_norm(true, false);
    let weights = Weights::random(&network, 1).unwrap();
    let masks = NodeMasks::from([("mask_before".into(), alive.clone())]);
    let error = compact(&network, &weights, &masks).unwrap_err();
    let Error::Layer { layer, expected, .. } = &error else { panic!("{error}") };
    assert_eq!(layer, "bn1");
    assert!(expected.contains("a mask after"), "{error}");

    let network = with_norm(true, true);
    let masks =
        NodeMasks::from([("mask_before".into(), alive.clone()), ("mask_after".into(), alive)]);
    let images = images(&network, 2, 1);
    let masked = reference::run(&network, &weights, &masks, images.view()).unwrap();
    let (small, weights) = compact(&network, &weights, &masks).unwrap();
    let compacted = reference::run(&small, &weights, &NodeMasks::new(), images.view()).unwrap();
    assert!(apart(masked.iter().copied(), compacted.iter().copied()) <= 1e-5);
}

#[test]
fn a_mask_after_a_batch_normalisation_must_block_what_the_one_before_it_did() {
    let network = with_norm(true, true);
    let weights = Weights::random(&network, 1).unwrap();
    let before: Vec<bool> = (0..20).map(|node| node >= 2).collect();
    for blocked_after in [vec![5], vec![0, 5], vec![1, 5]] {
        let after = (0..20).map(|node| !blocked_after.contains(&node)).collect();
        let masks =
            NodeMasks::from([("mask_before".into(), before.clone()), ("mask_after".into(), after)]);
        let error = compact(&network, &weights, &masks).unwrap_err().to_string();
        assert!(error.contains("layer bn1"), "{blocked_after:?}: {error}");
    }
}

#[test]
fn masks_that_are_not_the_networks_are_refused() {
    let network = zoo::lenet_300_100();
    let weights = Weights::random(&network, 1).unwrap();
    for (name, nodes, message) in
        [("mask_ip1", 299, "300 nodes"), ("mask_ip9", 300, "a mask layer of that name")]
    {
        let masks = NodeMasks::from([(name.to_owned(), vec![true; nodes])]);
        let error = compact(&network, &weights, &masks).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let mut masked_classes = network;
    masked_classes.layers.push(Layer { name: "mask_ip3".into(), op: Op::Mask });
    let masks = NodeMasks::from([("mask_ip3".to_owned(), vec![false; 10])]);
    let error = compact(&masked_classes, &weights, &masks).unwrap_err().to_string();
    assert!(error.contains("they are the classes"), "{error}");
}

#[cfg(feature = "torch")]
mod on_libtorch {
    use super::*;
    use scalpel::torch::{TorchNetwork, to_array, to_tensor};
    use tch::Device;

    #[test]
    fn libtorch_agrees_with_the_plain_loops_masked_and_compacted() {
        for name in zoo::NAMES {
            for seed in 0..4 {
                let network = zoo::narrow(name).unwrap();
                let weights = Weights::random(&network, seed).unwrap();
                let masks = random_masks(&network, seed, true);
                let images = images(&network, 3, seed);
                let expected = reference::run(&network, &weights, &masks, images.view()).unwrap();
                let input = to_tensor(&images.into_dyn(), Device::Cpu).unwrap();
                let run = |network: &Network, weights: &Weights, masks: &NodeMasks| {
                    let network = TorchNetwork::new(network, weights, masks, Device::Cpu).unwrap();
                    to_array(&network.run(&input).unwrap()).unwrap()
                };
                let masked = run(&network, &weights, &masks);
                let (small, small_weights) = compact(&network, &weights, &masks).unwrap();
                let compacted = run(&small, &small_weights, &NodeMasks::new());
                for (what, scores) in [("masked", masked), ("compacted", compacted)] {
                    let scores = scores.iter().map(|&score| f64::from(score));
                    let apart = apart(expected.iter().copied(), scores);
                    assert!(apart <= 1e-5, "{name}, {what}, seed {seed}: {apart}");
                }
            }
        }
    }
}

//! Every policy on every device, against plain loops on the masked network.

mod libraries;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ndarray::{Array2, Array4};
use rand::RngExt;

use super::{
    AutotuneCache, DenseLibraries, Device, Executable, Policy, Request, compile, reference,
};
use crate::error::{Error, Result};
use crate::kernels::gpu;
use crate::network::{Conv, Groups, Layer, Linear, Network, NodeMasks, Op, Weights, zoo};
use crate::prune::compact::compact;
use crate::prune::whole::{Criterion, prune};

/// A pruned network: three nodes of every mask's five live, and three groups of eight in ten.
struct Pruned {
    network: Network,
    weights: Weights,
    masks: NodeMasks,
    /// By number of images: the two sets of them that are run, and their scores by plain loops.
    expected: Mutex<BTreeMap<usize, Vec<Scored>>>,
}

/// Images and their scores.
type Scored = (Array4<f32>, Array2<f64>);

impl Pruned {
    fn new(network: Network) -> Self {
        let criterion = Criterion::Random { width: 8, fraction: 0.7, seed: 5 };
        let weights = prune(&Weights::random(&network, 2).unwrap(), criterion).unwrap();
        let sites = network.mask_sites().unwrap();
        let alive = |nodes: usize| (0..nodes).map(|node| node % 5 < 3).collect();
        let masks = sites.into_iter().map(|site| (site.name, alive(site.nodes))).collect();
        Self::of(network, weights, masks)
    }

    fn of(network: Network, weights: Weights, masks: NodeMasks) -> Self {
        Self { network, weights, masks, expected: Mutex::default() }
    }

    fn compile(
        &self,
        policy: Policy,
        batch: usize,
        device: Device<'static>,
        autotune: &mut AutotuneCache,
    ) -> Result<Executable<'static>> {
        let Self { network, weights, masks, .. } = self;
        compile(
            &Request {
                network,
                weights,
                masks,
                policy,
                group_width: 8,
                batch,
                libraries: DenseLibraries::default(),
            },
            device,
            autotune,
        )
    }

    fn images(&self, batch: usize) -> Array4<f32> {
        let mut rng = crate::seed::stream(7, "images", &[]);
        let [channels, height, width] = self.network.input;
        Array4::from_shape_simple_fn((batch, channels, height, width), || {
            rng.random_range(-1.0..1.0)
        })
    }

    /// Some images and those mirrored, with their scores by plain loops.
    fn expected(&self, batch: usize) -> Vec<Scored> {
        let mut known = self.expected.lock().unwrap();
        let compute = || {
            let first = self.images(batch);
            let mut second = first.clone();
            second.invert_axis(ndarray::Axis(3));
            let second = second.as_standard_layout().into_owned();
            let scores = |images: Array4<f32>| {
                let Self { network, weights, masks, .. } = self;
                let scores = reference::run(network, weights, masks, images.view()).unwrap();
                (images, scores)
            };
            [first, second].map(scores).into()
        };
        known.entry(batch).or_insert_with(compute).clone()
    }

    /// Compares a policy's scores with those of plain loops: twice, since nothing may be left over from the
    /// first run.
    fn check(
        &self,
        policy: Policy,
        batch: usize,
        device: Device<'static>,
        autotune: &mut AutotuneCache,
    ) {
        let mut executable = self.compile(policy, batch, device, autotune).unwrap();
        for (images, expected) in self.expected(batch) {
            let mut scores = vec![f32::NAN; expected.len()];
            executable.run(images.as_slice().unwrap(), &mut scores).unwrap();
            let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()));
            for (place, (expected, &found)) in expected.iter().zip(&scores).enumerate() {
                let near = (expected - f64::from(found)).abs() <= 1e-4 * largest;
                let name = format!("{}, {policy:?}, batch {batch}", self.network.name);
                assert!(near, "{name}, score {place}: {found}, not {expected}");
            }
        }
    }
}

fn devices() -> Vec<Device<'static>> {
    let gpus = gpu::devices().into_iter().map(Device::Gpu);
    [Device::Cpu].into_iter().chain(gpus).collect()
}

#[test]
fn every_policy_computes_what_the_masked_network_does_on_every_device() {
    for device in devices() {
        let mut autotune = AutotuneCache::in_memory().untimed();
        for name in zoo::NAMES {
            let pruned = Pruned::new(zoo::narrow(name).unwrap());
            for policy in Policy::ALL {
                pruned.check(policy, 1, device, &mut autotune);
                if name != "alexnet" || matches!(device, Device::Cpu) {
                    pruned.check(policy, 3, device, &mut autotune);
                }
            }
        }
    }
}

#[test]
fn more_images_than_a_tile_has_columns_are_run() {
    for name in ["lenet-300-100", "lenet-5", "convnet"] {
        let pruned = Pruned::new(zoo::narrow(name).unwrap());
        for batch in [16, 35] {
            for policy in [Policy::Dense, Policy::Combined] {
                pruned.check(policy, batch, Device::Cpu, &mut AutotuneCache::in_memory().untimed());
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for name in ["lenet-5", "nin", "alexnet"] {
        let pruned = Pruned::new(zoo::narrow(name).unwrap());
        for batch in [1, 2, 5] {
            for policy in [Policy::Dense, Policy::Combined, Policy::Magnitude] {
                let mut autotune = AutotuneCache::in_memory().untimed();
                pool.install(|| pruned.check(policy, batch, Device::Cpu, &mut autotune));
            }
        }
    }
}

#[test]
fn however_threads_are_used_the_scores_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (threads, batch) in [(2, 32), (3, 64)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for name in ["lenet-300-100", "lenet-5"] {
            let pruned = Pruned::new(zoo::narrow(name).unwrap());
            let file = folder.path().join(format!("{name}-{threads}.json"));
            let check = || {
                let mut autotune = AutotuneCache::in_file(&file, "a machine").untimed();
                pool.install(|| pruned.check(Policy::Combined, batch, Device::Cpu, &mut autotune));
                autotune.save().unwrap();
            };
            check();
            for way in ["Serial", "Parallel", "Shares"] {
                let text = std::fs::read_to_string(&file).unwrap();
                let mut stored: serde_json::Value = serde_json::from_str(&text).unwrap();
                let made = stored["autotune"].as_object_mut().unwrap().values_mut();
                let is_way = |value: &&mut serde_json::Value| {
                    ["Serial", "Parallel", "Shares"].iter().any(|way| **value == *way)
                };
                let mut chosen: Vec<_> = made.filter(is_way).collect();
                assert_eq!(chosen.len(), 1, "{text}");
                *chosen[0] = way.into();
                std::fs::write(&file, stored.to_string()).unwrap();
                check();
                let same = std::fs::read_to_string(&file).unwrap();
                assert!(same.contains(&format!("\"{way}\"")), "it is remembered: {same}");
                let mut autotune = AutotuneCache::in_file(&file, "a machine").untimed();
                let steps = pool.install(|| {
                    let policy = Policy::Combined;
                    let mut executable =
                        pruned.compile(policy, batch, Device::Cpu, &mut autotune).unwrap();
                    executable.profile().unwrap()
                });
                let at_once = if way == "Shares" { 16 } else { batch };
                let input = steps.iter().find(|step| step.layer == "ip1 input").unwrap();
                assert!(input.shape.starts_with(&format!("[{at_once}, ")), "{way}: {input:?}");
            }
        }
    }
}

#[test]
fn only_a_network_with_work_to_share_is_measured_on_several_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let measured = |name: &str, batch: usize| {
        let file = folder.path().join(format!("{name}-{batch}.json"));
        let mut autotune = AutotuneCache::in_file(&file, "a machine").untimed();
        let pruned = Pruned::new(zoo::narrow(name).unwrap());
        pool.install(|| {
            pruned.compile(Policy::Simd, batch, Device::Cpu, &mut autotune).unwrap();
        });
        autotune.save().unwrap();
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains("\"Serial\"") || text.contains("\"Parallel\"")
    };
    assert!(!measured("lenet-300-100", 1), "some microseconds in all");
    assert!(measured("lenet-5", 2), "an image for each thread");
}

#[test]
fn of_ways_to_run_a_network_the_one_that_was_the_fastest_is_remembered() {
    let pruned = Pruned::new(zoo::lenet_300_100());
    for device in devices() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = |policy, autotune: &mut AutotuneCache| {
            pruned.compile(policy, 1, device, autotune).unwrap().bytes()
        };
        let file = folder.path().join("autotune.json");
        let mut autotune = AutotuneCache::in_file(&file, "a machine").untimed();
        bytes(Policy::Scalpel, &mut autotune);
        autotune.save().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (way, policy) in [("dense", Policy::Node), ("groups of 8", Policy::Combined)] {
            let made = stored["autotune"].as_object_mut().unwrap();
            let of_networks = |(key, _): &(&String, &mut _)| {
                key.contains("| lenet-300-100 x 1 |") && key.contains(" or ")
            };
            let mut networks: Vec<_> = made.iter_mut().filter(of_networks).collect();
            assert_eq!(networks.len(), 1, "{text}");
            *networks[0].1 = way.into();
            std::fs::write(&file, stored.to_string()).unwrap();
            let mut autotune = AutotuneCache::in_file(&file, "a machine").untimed();
            assert_eq!(
                bytes(Policy::Scalpel, &mut autotune),
                bytes(policy, &mut autotune),
                "{way}"
            );
        }
    }
}

#[test]
fn a_network_that_was_compacted_to_uneven_groups_is_compiled_again() {
    let pruned = Pruned::new(zoo::narrow("alexnet").unwrap());
    let (network, weights) = compact(&pruned.network, &pruned.weights, &pruned.masks).unwrap();
    let uneven =
        |layer: &Layer| matches!(&layer.op, Op::Conv(Conv { groups: Groups::Uneven(_), .. }));
    assert!(network.layers.iter().any(uneven));
    let again = Pruned::of(network, weights, NodeMasks::new());
    for device in devices() {
        for policy in [Policy::Simd, Policy::Scalpel] {
            again.check(policy, 2, device, &mut AutotuneCache::in_memory().untimed());
        }
    }
}

#[test]
fn an_explanation_names_every_layer_with_its_kernel_its_size_and_its_share() {
    let pruned = Pruned::new(zoo::lenet_5());
    for device in devices() {
        let mut autotune = AutotuneCache::in_memory().untimed();
        let mut simd = pruned.compile(Policy::Simd, 1, device, &mut autotune).unwrap();
        let steps = simd.profile().unwrap();
        let of = |layer: &str| steps.iter().find(|step| step.layer == layer).unwrap();
        assert_eq!(of("ip1").shape, "500x800");
        assert!(of("conv2").kernel.starts_with("group_spmm_f32_"), "{steps:?}");
        assert!(of("pool1").kernel.starts_with("pool_eltwise_f32_"), "{steps:?}");
        let density = of("ip1").density.unwrap();
        assert!((0.1..0.3).contains(&density), "{density}");
        let shares: f64 = steps.iter().map(|step| step.share).sum();
        approx::assert_relative_eq!(shares, 1.0, max_relative = 1e-9);
        assert_eq!(simd.bytes(), steps.iter().map(|step| step.bytes).sum::<usize>());
        let text = super::profile_table(&steps);
        assert_eq!(text.lines().count(), steps.len() + 1, "{text}");

        let bytes = |policy| {
            pruned
                .compile(policy, 1, device, &mut AutotuneCache::in_memory().untimed())
                .unwrap()
                .bytes()
        };
        assert_eq!(bytes(Policy::Dense), 4 * (430_500 + 580));
        assert!(
            bytes(Policy::Combined) < bytes(Policy::Node) && bytes(Policy::Combined) < simd.bytes()
        );
        assert!(simd.bytes() < bytes(Policy::Magnitude));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let pruned = Pruned::new(zoo::lenet_5());
    let mut autotune = AutotuneCache::in_memory().untimed();
    let mut refusal = |batch: usize, width: usize, masks: &NodeMasks| {
        let request = Request {
            network: &pruned.network,
            weights: &pruned.weights,
            masks,
            policy: Policy::Combined,
            group_width: width,
            batch,
            libraries: DenseLibraries::default(),
        };
        compile(&request, Device::Cpu, &mut autotune).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refusal(0, 8, &pruned.masks).contains("a batch and a group width of at least 1"));
    assert!(refusal(1, 0, &pruned.masks).contains("groups of 0"));
    let empty = Network { layers: Vec::new(), ..pruned.network.clone() };
    let (weights, masks) = (Weights::default(), NodeMasks::new());
    let nothing = Pruned::of(empty, weights, masks);
    let refused =
        nothing.compile(Policy::Dense, 1, Device::Cpu, &mut AutotuneCache::in_memory().untimed());
    let error = refused.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("a layer that computes"), "{error}");
    let wrong = NodeMasks::from([("mask_conv1".to_owned(), vec![true; 3])]);
    assert!(refusal(1, 8, &wrong).contains("expected 20 nodes"));

    let mut executable = pruned
        .compile(Policy::Combined, 2, Device::Cpu, &mut AutotuneCache::in_memory().untimed())
        .unwrap();
    let error = executable.load(&[0.0; 784]).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "images", expected: 1568, found: 784, .. }),
        "{error}"
    );
    let error = executable.scores(&mut [0.0; 10]).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "scores", expected: 20, found: 10, .. }),
        "{error}"
    );
}

#[test]
fn a_convolution_after_a_dense_layer_is_refused_on_a_cpu() {
    let mut network = zoo::lenet_300_100();
    let conv = Conv { outputs: 10, kernel: 1, stride: 1, padding: 0, groups: Groups::Even(1) };
    network.layers.push(Layer { name: "conv".into(), op: Op::Conv(conv) });
    network.layers.push(Layer { name: "ip4".into(), op: Op::Linear(Linear { outputs: 2 }) });
    let pruned = Pruned::new(network);
    let refused =
        pruned.compile(Policy::Dense, 1, Device::Cpu, &mut AutotuneCache::in_memory().untimed());
    let error = refused.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("layer conv") && error.contains("after a dense layer"), "{error}");
    for gpu in gpu::devices() {
        pruned.check(Policy::Dense, 2, Device::Gpu(gpu), &mut AutotuneCache::in_memory().untimed());
    }
}

#[test]
fn nodes_that_pruning_left_none_of_leave_a_network_of_biases() {
    let network = zoo::lenet_5();
    let weights = Weights::random(&network, 3).unwrap();
    let masks = NodeMasks::from([("mask_conv2".to_owned(), vec![false; 50])]);
    let pruned = Pruned::of(network, weights, masks);
    for policy in [Policy::Dense, Policy::Node, Policy::Scalpel] {
        pruned.check(policy, 2, Device::Cpu, &mut AutotuneCache::in_memory().untimed());
    }
}

/// AlexNet's second, fourth and fifth convolutions have two groups that do not see each other. Pruning may take all
/// that one of them reads, or all that one of them makes.
#[test]
fn a_group_of_channels_that_is_dead_as_a_whole_stops_no_policy_on_any_device() {
    let network = zoo::narrow("alexnet").unwrap();
    let halves = |site: &str, nodes: usize| -> Vec<bool> {
        match site {
            "mask_conv1" => (0..nodes).map(|node| node < nodes / 2).collect(),
            "mask_conv4" => (0..nodes).map(|node| node >= nodes / 2).collect(),
            _ => vec![true; nodes],
        }
    };
    let mut pruned = Pruned::new(network);
    let sites = pruned.network.mask_sites().unwrap();
    pruned.masks = sites.into_iter().map(|s| (s.name.clone(), halves(&s.name, s.nodes))).collect();
    for device in devices() {
        let mut autotune = AutotuneCache::in_memory().untimed();
        for policy in Policy::ALL {
            pruned.check(policy, 1, device, &mut autotune);
        }
    }
}

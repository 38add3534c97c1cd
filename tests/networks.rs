//! Whole networks as a user runs them: what the engine computes beside libtorch, that it allocates nothing
//! while it runs, and what `speedup` prints and stores.
#![cfg(all(feature = "experiments", feature = "torch"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use assert_cmd::Command;
use ndarray::{ArrayD, IxDyn};
use rand::RngExt;
use scalpel::device::open_wgpu;
use scalpel::engine::{AutotuneCache, DenseLibraries, Device, Policy, Request, compile};
use scalpel::network::{Network, NodeMasks, Weights, zoo};
use scalpel::prune::whole::{Criterion, prune};
use scalpel::report::{CANDIDATES, ResultsTree};
use scalpel::sparse::{Format, Model};
use scalpel::test_support;
use scalpel::torch::{TorchNetwork, to_array, to_tensor};
use serde_json::Value;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, asked for just what was asked of this one.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may allocate after its counter is gone.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: by the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's word.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: by the caller's word.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A pruned model: four groups in ten, and two nodes of three, are left.
fn pruned(network: &Network) -> (Weights, NodeMasks) {
    let criterion = Criterion::Random { width: 8, fraction: 0.6, seed: 3 };
    let weights = prune(&Weights::random(network, 4).unwrap(), criterion).unwrap();
    let alive = |nodes: usize| (0..nodes).map(|node| node % 3 != 1).collect();
    let sites = network.mask_sites().unwrap().into_iter();
    (weights, sites.map(|site| (site.name, alive(site.nodes))).collect())
}

fn images(network: &Network, batch: usize) -> ArrayD<f32> {
    let shape = [&[batch], &network.input[..]].concat();
    let mut rng = scalpel::seed::stream(9, "images", &[]);
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || rng.random_range(-1.0..1.0))
}

/// Compares every policy with libtorch on the same weights and masks.
fn agree(network: &Network, batch: usize, device: Device<'_>) {
    let (weights, masks) = pruned(network);
    let images = images(network, batch);
    let torch = TorchNetwork::new(network, &weights, &masks, tch::Device::Cpu).unwrap();
    let scores = torch.run(&to_tensor(&images, tch::Device::Cpu).unwrap()).unwrap();
    let expected = to_array(&scores).unwrap();
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, score| most.max(score.abs()));
    let pixels: Vec<f32> = images.iter().copied().collect();
    for policy in Policy::ALL {
        let request = Request {
            network,
            weights: &weights,
            masks: &masks,
            policy,
            group_width: 8,
            batch,
            libraries: DenseLibraries::default(),
        };
        let mut executable =
            compile(&request, device, &mut AutotuneCache::in_memory().untimed()).unwrap();
        let mut scores = vec![f32::NAN; expected.len()];
        executable.run(&pixels, &mut scores).unwrap();
        for (expected, found) in expected.iter().zip(&scores) {
            let near = (expected - found).abs() <= 1e-4 * largest;
            assert!(near, "{}, {policy:?}, batch {batch}: {found}, not {expected}", network.name);
        }
    }
}

#[test]
fn four_networks_compute_by_every_policy_what_libtorch_does() {
    for name in zoo::NAMES.into_iter().filter(|&name| name != "alexnet") {
        let network = zoo::by_name(name).unwrap();
        agree(&network, 1, Device::Cpu);
        agree(&network, 5, Device::Cpu);
    }
}

/// By itself, since it takes as long as the others together.
#[test]
fn alexnet_computes_by_every_policy_what_libtorch_does() {
    agree(&zoo::by_name("alexnet").unwrap(), 1, Device::Cpu);
}

#[test]
fn all_five_networks_do_so_through_wgpu() {
    let gpu = match open_wgpu() {
        Ok(gpu) => gpu,
        Err(error) => return test_support::skip("wgpu", &error.to_string()),
    };
    let software = gpu.limits().software;
    for name in zoo::NAMES {
        // Where a CPU stands in for the GPU, the two largest have fewer nodes.
        let small = software && ["nin", "alexnet"].contains(&name);
        let network = if small { zoo::narrow(name) } else { zoo::by_name(name) };
        agree(&network.unwrap(), 2, Device::Gpu(&*gpu));
    }
}

#[test]
fn a_network_on_one_thread_allocates_nothing_while_it_runs() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for name in ["lenet-300-100", "lenet-5", "convnet", "nin"] {
        let network = zoo::by_name(name).unwrap();
        let (weights, masks) = pruned(&network);
        for (policy, batch) in Policy::ALL.into_iter().flat_map(|policy| [(policy, 1), (policy, 3)])
        {
            let request = Request {
                network: &network,
                weights: &weights,
                masks: &masks,
                policy,
                group_width: 8,
                batch,
                libraries: DenseLibraries::default(),
            };
            let images: Vec<f32> = images(&network, batch).iter().copied().collect();
            let mut scores = vec![0.0; 10 * batch];
            let count = pool.install(|| {
                let device = Device::Cpu;
                let mut executable =
                    compile(&request, device, &mut AutotuneCache::in_memory().untimed()).unwrap();
                // The first run makes the scratch that the kernels keep.
                executable.run(&images, &mut scores).unwrap();
                let before = ALLOCATIONS.get();
                for _ in 0..3 {
                    executable.run(&images, &mut scores).unwrap();
                }
                ALLOCATIONS.get() - before
            });
            assert_eq!(count, 0, "{name}, {policy:?}, batch {batch}");
        }
    }
}

fn speedup(arguments: &[&str], results: &Path) -> Command {
    let mut command = Command::cargo_bin("speedup").unwrap();
    command.args(arguments).arg("--results").arg(results);
    command.args(["--zoo-dir", concat!(env!("CARGO_MANIFEST_DIR"), "/zoo"), "--fresh"]);
    command
}

#[test]
fn speedup_prints_every_candidate_and_stores_what_tables_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments =
        vec!["lenet-300-100", "--threads", "1", "--batch", "1", "--json", "--profile"];
    // PyTorch takes part where a Python has it.
    let has_torch = |python: &&&str| Command::new(python).args(["-c", "import torch"]).ok().is_ok();
    let python = ["python3", "/usr/bin/python3"].iter().find(has_torch);
    match python {
        Some(python) => arguments.extend(["--pytorch", python]),
        None => scalpel::test_support::skip("pytorch", "no python3 imports torch"),
    }
    let output = speedup(&arguments, folder.path()).assert().success().get_output().clone();
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let policies: Vec<&str> = rows.iter().map(|row| row["policy"].as_str().unwrap()).collect();
    let takes_part = |policy: &&str| python.is_some() || !policy.starts_with("pytorch");
    let expected: Vec<&str> = CANDIDATES.into_iter().filter(takes_part).collect();
    assert_eq!(policies, expected);
    for row in rows {
        assert_eq!(
            (row["network"].as_str(), row["device"].as_str()),
            (Some("lenet-300-100"), Some("cpu"))
        );
        assert_eq!((row["threads"].as_u64(), row["batch"].as_u64()), (Some(1), Some(1)));
        for number in ["microseconds", "speedup_over_library", "speedup_over_dense", "bytes"] {
            assert!(row[number].as_f64().unwrap() > 0.0, "{number} of {row}");
        }
        assert!(!row["weights_from"].as_str().unwrap().is_empty());
    }
    let of = |policy: &str| rows.iter().find(|row| row["policy"] == policy).unwrap();
    assert_eq!(of("simd")["weights_from"], "zoo/lenet-300-100-simd-pruning-lossless");
    assert_eq!(of("libtorch")["speedup_over_library"], 1.0);
    // Nine tenths of the weights are gone: nothing on this machine may make that slower than dense.
    assert!(of("simd")["speedup_over_dense"].as_f64().unwrap() > 1.0);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("low parallelism") && text.contains("group_spmm_f32_"), "{text}");

    let stored = ResultsTree::at(folder.path()).speedups().unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(serde_json::to_value(&stored[0].rows).unwrap(), Value::Array(rows.clone()));
}

/// A network that the zoo does not have, named as PyTorch would.
const OWN: &str = r#"{ "name": "own", "input": [3, 16, 16], "layers": [
    { "name": "features.0", "op": { "conv": { "outputs": 32, "kernel": 3, "padding": 1 } } },
    { "name": "features.1", "op": { "batch-norm": {} } },
    { "name": "features.2", "op": "relu" },
    { "name": "mask", "op": "mask" },
    { "name": "features.3", "op": { "max-pool": { "kernel": 2, "stride": 2 } } },
    { "name": "classifier", "op": { "linear": { "outputs": 10 } } }
] }"#;

#[test]
fn a_network_of_ones_own_is_compacted_and_timed_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (own, masked, small) = (file("own.json"), file("masked.st"), file("small.st"));
    std::fs::write(&own, OWN).unwrap();
    let network = Network::open(&own).unwrap();
    let mut weights = Weights::random(&network, 1).unwrap();
    weights.remove("features.0.bias");
    let lives = |node: IxDyn| if node[1].is_multiple_of(4) { 1.0 } else { 0.0 };
    weights.insert("mask.alpha", ArrayD::from_shape_fn(vec![1, 32], lives));
    Model::new(&weights, None, Format::Dense).unwrap().save(Path::new(&masked)).unwrap();

    let prune = |network: &str| {
        let mut command = Command::cargo_bin("prune").unwrap();
        command.args(["node", network, &masked, "-o", &small]).assert()
    };
    let output = prune(&own).success().get_output().clone();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("taken as 0: features.0.bias"), "{text}");
    let output = prune("lenet-5").failure().get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("parameters of lenet-5"));

    let results = folder.path().join("results");
    for weights in [&masked, &small] {
        let arguments =
            [&own, "--weights", weights, "--threads", "1", "--batch", "1", "--json", "--profile"];
        let output = speedup(&arguments, &results).assert().success().get_output().clone();
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |policy: &str| {
            let mut rows = rows.as_array().unwrap().iter();
            rows.find(|row| row["policy"] == policy).unwrap_or_else(|| panic!("{policy}: {rows:?}"))
        };
        for policy in CANDIDATES.into_iter().filter(|policy| !policy.starts_with("pytorch")) {
            let from = if ["libtorch", "dense"].contains(&policy) { "random" } else { weights };
            assert_eq!(of(policy)["weights_from"], from, "{policy}");
        }
        let bytes = |policy: &str| of(policy)["bytes"].as_u64().unwrap();
        // A quarter of the nodes.
        assert!(3 * bytes("node") < bytes("dense"), "{rows}");
        assert!(bytes("scalpel") <= bytes("node"), "{rows}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("own by policy scalpel") && !text.contains("stored"), "{text}");
    }
    assert!(!results.exists(), "somebody's weights do not take the place of published ones");
    for (arguments, message) in [
        (vec![&*own], "expected its weights"),
        (vec!["lenet-5", "lenet-300-100", "--weights", &masked], "of one network"),
        (vec!["lenet-5", "--weights", &small], "expected lenet-5, found own"),
    ] {
        let output = speedup(&arguments, &results).assert().failure().get_output().clone();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}

#[test]
fn what_speedup_cannot_measure_it_refuses_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (["lenet-6", "lenet-5"], "lenet-300-100, lenet-5"),
        (["--batch", "0"], "1 or more images"),
        (["--device", "vulkan"], "cuda:<number>, wgpu"),
        (["--policy", "fast"], "scalpel"),
    ] {
        let mut all = arguments.to_vec();
        if !arguments.contains(&"lenet-6") {
            all.push("lenet-5");
        }
        let output = speedup(&all, folder.path()).assert().failure().get_output().clone();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
    assert!(!folder.path().join("speedup").exists());
}

//! Measured inference times of one network before and after pruning.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use rand::RngExt;
use tch::{Device, Tensor};

use crate::engine::{self, AutotuneCache, Executable, Request, compile};
use crate::error::{Error, Result};
use crate::network::{Network, NodeMasks, Weights};
use crate::prune::compact::compact;
use crate::report::{Environment, Latency, LatencyRow};
use crate::seed;
use crate::timing::{MeasureConfig, Timing, try_interleave};
use crate::torch::{TorchNetwork, to_array, to_tensor};
use crate::train::Outcome;

/// Times the dense network, the masked one and, where nodes were pruned, the compacted one, in libtorch (each
/// in the memory format in which it is faster), and on a CPU the pruned network on our own kernels (`scalpel`), in
/// turns. Before that, the compacted network and ours must compute what the masked one does. A run that removed
/// nodes for good has no masked network any more, and its dense one has random weights. `group_width` is that of
/// the groups that were pruned.
///
/// # Errors
/// A network that computes something else; whatever libtorch or the compiler refuses.
pub fn measure_latency(
    outcome: &Outcome,
    group_width: usize,
    device: Device,
    batches: &[usize],
    config: MeasureConfig,
) -> Result<Latency> {
    let Outcome { network, weights, .. } = outcome;
    let masks = weights.node_masks(network)?;
    let pruned = TorchNetwork::new(network, weights, &masks, device)?;
    let libtorch = libtorch_networks(outcome, &masks, device)?;
    let mut rows = Vec::with_capacity(batches.len());
    for &batch in batches {
        let images = random_images(&outcome.original, batch, device)?;
        let expected = to_array(&pruned.run(&images)?)?;
        let faster = |(name, candidate): &(&'static str, TorchNetwork)| {
            Ok((*name, candidate.fastest_on(&images)?))
        };
        let candidates = libtorch.iter().map(faster).collect::<Result<Vec<_>>>()?;
        if let Some((_, compacted)) = candidates.iter().find(|(name, _)| *name == "compacted") {
            agree("compact a network", &expected, &to_array(&compacted.run(&images)?)?)?;
        }
        let request =
            Request { masks: &masks, group_width, batch, ..Request::new(network, weights) };
        let ours = match device {
            Device::Cpu => Some(on_our_kernels(&request, &images, &expected)?),
            _ => None,
        };
        rows.push(LatencyRow { batch, times: time(&candidates, ours, &images, config)? });
    }
    let name = if device == Device::Cpu { "cpu" } else { "cuda" };
    let environment = Environment::read(name);
    let threads = tch::get_num_threads() as usize;
    Ok(Latency { library: "libtorch".into(), threads, environment, rows })
}

/// The networks that libtorch runs, by name.
fn libtorch_networks(
    outcome: &Outcome,
    masks: &NodeMasks,
    device: Device,
) -> Result<Vec<(&'static str, TorchNetwork)>> {
    let Outcome { original, network, weights, .. } = outcome;
    let none = NodeMasks::new();
    let mut networks = Vec::new();
    if network == original {
        networks.push(("dense", TorchNetwork::new(network, weights, &none, device)?));
        networks.push(("masked", TorchNetwork::new(network, weights, masks, device)?));
    } else {
        let weights = Weights::random(original, 1)?;
        networks.push(("dense", TorchNetwork::new(original, &weights, &none, device)?));
    }
    if !masks.is_empty() || network != original {
        let (small, small_weights) = compact(network, weights, masks)?;
        networks.push(("compacted", TorchNetwork::new(&small, &small_weights, &none, device)?));
    }
    Ok(networks)
}

/// Does work of ours on as many threads as libtorch has: on a pool of all cores, or on one thread.
fn on_as_many_threads<R>(work: impl FnOnce() -> R) -> R {
    if tch::get_num_threads() as usize == rayon::current_num_threads() {
        work()
    } else {
        crate::kernels::serial(work)
    }
}

/// The pruned network on our own kernels, whose scores are those of the masked one.
fn on_our_kernels(
    request: &Request<'_>,
    images: &Tensor,
    expected: &ArrayD<f32>,
) -> Result<Executable<'static>> {
    on_as_many_threads(|| {
        let mut executable =
            compile(request, engine::Device::Cpu, &mut AutotuneCache::in_memory())?;
        let pixels: Vec<f32> = to_array(images)?.iter().copied().collect();
        let mut scores = expected.clone();
        executable.run(&pixels, scores.as_slice_mut().unwrap_or_default())?;
        agree("run a network on our kernels", expected, &scores)?;
        Ok(executable)
    })
}

/// Seconds of a batch by name, all in turns.
fn time(
    candidates: &[(&'static str, TorchNetwork)],
    ours: Option<Executable<'_>>,
    images: &Tensor,
    config: MeasureConfig,
) -> Result<BTreeMap<String, Timing>> {
    let mut calls: Vec<Box<dyn FnMut() -> Result<()> + '_>> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (name, candidate) in candidates {
        names.push((*name).to_owned());
        calls.push(Box::new(move || {
            drop(candidate.run(images)?);
            wait_for(images.device());
            Ok(())
        }));
    }
    if let Some(mut executable) = ours {
        names.push("scalpel".to_owned());
        calls.push(Box::new(move || on_as_many_threads(|| executable.execute())));
    }
    let mut turns: Vec<&mut dyn FnMut() -> Result<()>> = Vec::new();
    for call in &mut calls {
        turns.push(call);
    }
    Ok(names.into_iter().zip(try_interleave(&mut turns, config)?).collect())
}

fn random_images(network: &Network, batch: usize, device: Device) -> Result<Tensor> {
    let shape = [&[batch], &network.input[..]].concat();
    let mut rng = seed::stream(batch as u64, "latency", &[]);
    let images = ArrayD::from_shape_fn(shape, |_| rng.random_range(-1.0..1.0_f32));
    to_tensor(&images, device)
}

/// Refuses scores that differ by more than 1e-4 of the largest.
fn agree(operation: &str, expected: &ArrayD<f32>, found: &ArrayD<f32>) -> Result<()> {
    let largest = expected.iter().fold(0.0_f32, |largest, score| largest.max(score.abs()));
    let apart = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    if expected.shape() == found.shape() && apart <= 1e-4 * largest {
        return Ok(());
    }
    let expected = format!("the masked network's scores, within 1e-4 of {largest}");
    Err(Error::argument(operation, expected, format!("scores {apart} apart")))
}

/// Waits until the device has done what was asked of it.
fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

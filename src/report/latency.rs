//! Measured inference times of one network before and after pruning.

use std::cell::RefCell;

use ndarray::ArrayD;
use rand::RngExt;
use tch::{Device, Tensor};

use super::environment::Environment;
use super::results::{Latency, LatencyRow};
use crate::baselines::torch::{TorchNetwork, to_array, to_tensor};
use crate::error::{Error, Result};
use crate::measure::{Effort, interleave};
use crate::network::{Network, NodeMasks, Weights};
use crate::prune::compact::compact;
use crate::seed;
use crate::train::Outcome;

/// Times the dense network, the masked one and, where nodes were pruned, the compacted one, in
/// libtorch, in turns. Before that, the compacted network must compute what the masked one does. A run
/// that removed nodes for good has no masked network any more, and its dense one has random weights.
///
/// # Errors
/// A compacted network that computes something else; whatever libtorch refuses.
pub fn measure_latency(
    outcome: &Outcome,
    device: Device,
    batches: &[usize],
    effort: Effort,
) -> Result<Latency> {
    let Outcome { original, network, weights, .. } = outcome;
    let masks = weights.node_masks(network)?;
    let none = NodeMasks::new();
    let mut contestants = Vec::new();
    if network == original {
        contestants.push(("dense", TorchNetwork::new(network, weights, &none, device)?));
        contestants.push(("masked", TorchNetwork::new(network, weights, &masks, device)?));
    } else {
        let weights = Weights::random(original, 1)?;
        contestants.push(("dense", TorchNetwork::new(original, &weights, &none, device)?));
    }
    if !masks.is_empty() || network != original {
        let (small, small_weights) = compact(network, weights, &masks)?;
        contestants.push(("compacted", TorchNetwork::new(&small, &small_weights, &none, device)?));
    }
    let mut rows = Vec::with_capacity(batches.len());
    for &batch in batches {
        let images = random_images(original, batch, device)?;
        if let [_, (_, masked), (_, compacted)] = contestants.as_slice() {
            agree(&masked.run(&images)?, &compacted.run(&images)?)?;
        }
        let failure = RefCell::new(None);
        let mut calls: Vec<_> = contestants
            .iter()
            .map(|(_, contestant)| {
                || match contestant.run(&images) {
                    Ok(_) => wait_for(device),
                    Err(error) => drop(failure.replace(Some(error))),
                }
            })
            .collect();
        let mut turns: Vec<&mut dyn FnMut()> = Vec::new();
        for call in &mut calls {
            turns.push(call);
        }
        let timings = interleave(&mut turns, effort);
        if let Some(error) = failure.into_inner() {
            return Err(error);
        }
        let names = contestants.iter().map(|(name, _)| (*name).to_owned());
        rows.push(LatencyRow { batch, times: names.zip(timings).collect() });
    }
    let threads = tch::get_num_threads() as usize;
    let name = if device == Device::Cpu { "cpu" } else { "cuda" };
    Ok(Latency { library: "libtorch".into(), threads, environment: Environment::read(name), rows })
}

fn random_images(network: &Network, batch: usize, device: Device) -> Result<Tensor> {
    let shape = [&[batch], &network.input[..]].concat();
    let mut rng = seed::stream(batch as u64, "latency", &[]);
    let images = ArrayD::from_shape_fn(shape, |_| rng.random_range(-1.0..1.0_f32));
    to_tensor(&images, device)
}

/// Refuses scores that differ by more than 1e-4 of the largest.
fn agree(masked: &Tensor, compacted: &Tensor) -> Result<()> {
    let (masked, compacted) = (to_array(masked)?, to_array(compacted)?);
    let largest = masked.iter().fold(0.0_f32, |largest, score| largest.max(score.abs()));
    let apart = masked.iter().zip(&compacted).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    if masked.shape() == compacted.shape() && apart <= 1e-4 * largest {
        return Ok(());
    }
    let expected = format!("the masked network's scores, within 1e-4 of {largest}");
    Err(Error::argument("compact a network", expected, format!("scores {apart} apart")))
}

/// Waits until the device has done what was asked of it.
fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

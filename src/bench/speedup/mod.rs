//! Whole networks against the library a user would otherwise take: every policy and every baseline, in
//! turns in one run.
//!
//! Each policy runs the most accurate model that its own technique made. `scalpel` takes of all models of Scalpel's
//! techniques that lost little accuracy the one that is the fastest on this hardware, with the kernels that are the
//! fastest there, as the paper picks the technique by the hardware. Every candidate is compared with libtorch on the same
//! weights before it is timed.

mod context;
mod densities;
mod model_under_test;
mod pruned_model;
mod pytorch;
#[cfg(test)]
mod tests;
mod thread_scaling;

pub use self::context::{BenchContext, BenchDevice};
pub use self::model_under_test::ModelUnderTest;
pub use self::pruned_model::PrunedModel;
use self::pytorch::{Captured, Way};
use self::thread_scaling::Probe;

use std::time::Duration;

use ndarray::{ArrayD, IxDyn};
use rand::RngExt;
use tch::Tensor;

use crate::engine::{AutotuneCache, Device, Executable, Policy, Request, compile};
use crate::error::{Error, Result};
use crate::models::Card;
use crate::network::{Network, NodeMasks, Parameter, Weights};
use crate::report::{LIBRARY, LIBRARY_COMPACTED, OF_THE_DENSE_NETWORK, SpeedupRow};
use crate::seed;
use crate::timing::{MeasureConfig, ThreadedCandidate, Timing, interleave_with_rest};
use crate::torch::{TorchNetwork, to_array, to_tensor};

/// By how much scores may lie apart from libtorch's, relative to the largest.
const TOLERANCE: f32 = 1e-4;

/// Seconds that the turns of one contest may take, as far as the fewest rounds allow.
const BUDGET: f64 = 20.0;
const FEWEST_ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 25;

/// A candidate that has been compared with libtorch.
struct Candidate<'a> {
    policy: &'static str,
    bytes: usize,
    from: String,
    detail: Option<String>,
    accuracy: Option<[f64; 2]>,
    runner: Runner<'a>,
}

enum Runner<'a> {
    Ours(Executable<'a>),
    Library { network: TorchNetwork, images: Tensor, device: tch::Device },
    PyTorch(Captured),
}

/// How long a library's idle threads may still turn over: GCC's OpenMP, on which libtorch runs, lets them
/// for more than ten milliseconds, on cores that the next candidate needs.
const SETTLING: Duration = Duration::from_millis(50);

impl Runner<'_> {
    fn is_library(&self) -> bool {
        matches!(self, Self::Library { .. } | Self::PyTorch(_))
    }

    fn seconds(&mut self, calls: u32) -> Result<f64> {
        match self {
            Self::Ours(executable) => executable.seconds(calls),
            Self::PyTorch(captured) => captured.seconds(calls),
            Self::Library { network, images, device } => {
                let start = std::time::Instant::now();
                for _ in 0..calls {
                    drop(network.run(images)?);
                }
                if let tch::Device::Cuda(index) = *device {
                    tch::Cuda::synchronize(index as i64);
                }
                Ok(start.elapsed().as_secs_f64())
            }
        }
    }
}

/// The model that a policy runs: its own technique's, or the one that was given; none for the dense policy, which runs
/// the original.
fn model_of(under_test: &ModelUnderTest, policy: Policy) -> Option<&PrunedModel> {
    under_test.models.iter().find(|model| model.is_for(policy))
}

/// Compiles a model for a policy, and refuses it if it computes something else than libtorch.
///
/// # Errors
/// What the compiler refuses; scores that are not libtorch's.
pub fn compiled<'a>(
    model: &PrunedModel,
    policy: Policy,
    batch: usize,
    context: &BenchContext<'a>,
    autotune: &mut AutotuneCache,
) -> Result<Executable<'a>> {
    let PrunedModel { network, weights, masks, group_width, .. } = model;
    let request = Request {
        network,
        weights,
        masks,
        policy,
        group_width: *group_width,
        batch,
        libraries: context.libraries(),
    };
    let mut executable = compile(&request, context.device, autotune)?;
    verify(&mut executable, network, weights, masks, batch, context.checking_threads())?;
    if context.threads > 1 {
        std::thread::sleep(SETTLING);
    }
    Ok(executable)
}

/// Refuses scores that are not those of libtorch on the CPU.
fn verify(
    executable: &mut Executable<'_>,
    network: &Network,
    weights: &Weights,
    masks: &NodeMasks,
    batch: usize,
    threads: usize,
) -> Result<()> {
    let images = images(network, batch);
    let expected = scores_of(network, weights, masks, &images, threads)?;
    let pixels: Vec<f32> = images.iter().copied().collect();
    let mut scores = vec![f32::NAN; expected.len()];
    executable.run(&pixels, &mut scores)?;
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, score| most.max(score.abs()));
    for (expected, found) in expected.iter().zip(&scores) {
        let near = (expected - found).abs() <= TOLERANCE * largest;
        if !near {
            let name = format!("{} by policy {}", network.name, executable.policy().name());
            let expected = format!("libtorch's score {expected}, within {TOLERANCE} of {largest}");
            return Err(Error::argument(name, expected, found.to_string()));
        }
    }
    Ok(())
}

/// Images of random pixels, the same on each call.
fn images(network: &Network, batch: usize) -> ArrayD<f32> {
    let shape = [&[batch], &network.input[..]].concat();
    let mut rng = seed::stream(batch as u64, "images", &[]);
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || rng.random_range(-1.0..1.0))
}

/// Measures a network's policies and baselines at one batch size, all in turns.
///
/// # Errors
/// A candidate that fails, or that computes something else than libtorch.
pub fn measure(
    under_test: &ModelUnderTest,
    policies: &[Policy],
    batch: usize,
    context: &BenchContext<'_>,
    autotune: &mut AutotuneCache,
) -> Result<Vec<SpeedupRow>> {
    let original = &under_test.original;
    let mut candidates = baselines(under_test, batch, context)?;
    candidates.extend(captured(under_test, batch, context)?);
    let untouched = under_test.untouched();
    for &policy in policies {
        let candidate = match policy {
            Policy::Scalpel => scalpel(under_test, batch, context, autotune)?,
            policy => {
                let model = model_of(under_test, policy).unwrap_or(&untouched);
                let executable = compiled(model, policy, batch, context, autotune)?;
                Some(ours(policy, model, executable))
            }
        };
        candidates.extend(candidate);
    }
    let on_threads = context.threads > 1 && matches!(context.device, Device::Cpu);
    let probe = on_threads.then(Probe::new).transpose()?;
    let (timings, thread_scaling) =
        time_in_turns(&mut candidates, context.threads, probe.as_ref())?;
    let time = |policy: &str| {
        let place = candidates.iter().position(|candidate| candidate.policy == policy)?;
        Some(timings[place].median)
    };
    let library = time(LIBRARY);
    let dense = OF_THE_DENSE_NETWORK.into_iter().filter_map(time).reduce(f64::min);
    let rows = candidates.iter().zip(&timings).map(|(candidate, timing)| SpeedupRow {
        network: original.name.clone(),
        device: context.name.clone(),
        threads: context.threads,
        batch,
        policy: candidate.policy.to_owned(),
        microseconds: 1e6 * timing.median,
        interval: [1e6 * timing.low, 1e6 * timing.high],
        speedup_over_library: library.map(|library| library / timing.median),
        // Without any dense candidate, each is compared with itself.
        speedup_over_dense: dense.unwrap_or(timing.median) / timing.median,
        bytes: candidate.bytes,
        weights_from: candidate.from.clone(),
        detail: candidate.detail.clone(),
        accuracy: candidate.accuracy,
        thread_scaling,
    });
    Ok(rows.collect())
}

fn ours<'a>(policy: Policy, model: &PrunedModel, executable: Executable<'a>) -> Candidate<'a> {
    Candidate {
        policy: policy.name(),
        bytes: executable.bytes(),
        from: model.from.clone(),
        detail: None,
        accuracy: model
            .card
            .as_ref()
            .map(|Card { accuracy_before, accuracy, .. }| [*accuracy_before, *accuracy]),
        runner: Runner::Ours(executable),
    }
}

/// libtorch on the original network and on the one that node pruning leaves, each in the memory format in
/// which it is faster.
fn baselines<'a>(
    under_test: &ModelUnderTest,
    batch: usize,
    context: &BenchContext<'_>,
) -> Result<Vec<Candidate<'a>>> {
    let Some(device) = context.library else { return Ok(Vec::new()) };
    let mut candidates = Vec::new();
    let mut push = |policy, network: &Network, weights: &Weights, from: &str| -> Result<()> {
        let images = to_tensor(&images(network, batch), device)?;
        let parameters = network.parameters()?;
        let bytes = 4 * parameters.iter().map(Parameter::len).sum::<usize>();
        let network = TorchNetwork::new(network, weights, &NodeMasks::new(), device)?;
        let network = network.fastest_on(&images)?;
        candidates.push(Candidate {
            policy,
            bytes,
            from: from.to_owned(),
            detail: None,
            accuracy: None,
            runner: Runner::Library { network, images, device },
        });
        Ok(())
    };
    push(LIBRARY, &under_test.original, &under_test.dense, "random")?;
    if let Some(model) = model_of(under_test, Policy::Node) {
        let (network, weights) =
            crate::prune::compact::compact(&model.network, &model.weights, &model.masks)?;
        push(LIBRARY_COMPACTED, &network, &weights, &model.from)?;
    }
    Ok(candidates)
}

/// PyTorch's captured networks, where there is a PyTorch: dense, compacted, and pruned by single weights. One that
/// PyTorch refuses or computes otherwise is told of and left out.
fn captured<'a>(
    under_test: &ModelUnderTest,
    batch: usize,
    context: &BenchContext<'_>,
) -> Result<Vec<Candidate<'a>>> {
    let Some(pytorch) = &context.pytorch else { return Ok(Vec::new()) };
    pytorch.borrow_mut().forget()?;
    let mut candidates = Vec::new();
    for way in Way::ALL {
        let policy = match (way.compacted, way.sparse) {
            (true, _) => Policy::Node,
            (_, true) => Policy::Magnitude,
            _ => Policy::Dense,
        };
        let untouched = under_test.untouched();
        let model =
            if policy == Policy::Dense { Some(&untouched) } else { model_of(under_test, policy) };
        let Some(model) = model else { continue };
        let (network, weights) =
            crate::prune::compact::compact(&model.network, &model.weights, &model.masks)?;
        let images = images(&network, batch);
        let (masks, threads) = (NodeMasks::new(), context.checking_threads());
        let expected = scores_of(&network, &weights, &masks, &images, threads)?;
        match Captured::new(pytorch, way, &network, &weights, &images, &expected) {
            Err(error) => eprintln!("left out, {} of {}: {error}", way.policy, network.name),
            Ok(captured) => candidates.push(Candidate {
                policy: way.policy,
                bytes: 4 * network.parameters()?.iter().map(Parameter::len).sum::<usize>(),
                from: model.from.clone(),
                detail: Some(captured.detail.clone()),
                accuracy: None,
                runner: Runner::PyTorch(captured),
            }),
        }
    }
    Ok(candidates)
}

/// libtorch's scores on the CPU, on so many threads.
fn scores_of(
    network: &Network,
    weights: &Weights,
    masks: &NodeMasks,
    images: &ArrayD<f32>,
    threads: usize,
) -> Result<ArrayD<f32>> {
    let torch = TorchNetwork::new(network, weights, masks, tch::Device::Cpu)?;
    let images = to_tensor(images, tch::Device::Cpu)?;
    let before = tch::get_num_threads();
    tch::set_num_threads(threads as i32);
    let scores = torch.run(&images);
    tch::set_num_threads(before);
    to_array(&scores?)
}

/// The fastest of the models that stand for Scalpel, with the kernels that are the fastest here.
fn scalpel<'a>(
    under_test: &ModelUnderTest,
    batch: usize,
    context: &BenchContext<'a>,
    autotune: &mut AutotuneCache,
) -> Result<Option<Candidate<'a>>> {
    let mut candidates = Vec::new();
    for model in under_test.candidates() {
        let executable = compiled(model, Policy::Scalpel, batch, context, autotune)?;
        candidates.push(ours(Policy::Scalpel, model, executable));
    }
    let (timings, _) = time_in_turns(&mut candidates, context.threads, None)?;
    let times = timings.iter().map(|timing| timing.median).enumerate();
    let best = times.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place);
    Ok(best.map(|place| candidates.swap_remove(place)))
}

/// Times candidates in turns, for as many rounds as they bear; and with a probe, how many times the work of one thread
/// all of them did meanwhile.
fn time_in_turns(
    candidates: &mut [Candidate<'_>],
    threads: usize,
    probe: Option<&Probe>,
) -> Result<(Vec<Timing>, Option<f64>)> {
    let turn = MeasureConfig::DEFAULT.min_turn.as_secs_f64();
    let mut round = 0.0;
    for candidate in &mut *candidates {
        candidate.runner.seconds(1)?;
        round += candidate.runner.seconds(1)?.max(turn);
    }
    let rounds = ((BUDGET / round) as usize).clamp(FEWEST_ROUNDS, MOST_ROUNDS);
    let config = MeasureConfig::new(rounds, MeasureConfig::DEFAULT.min_turn).on_threads(threads);
    let count = candidates.len();
    let mut candidates: Vec<_> = candidates
        .iter_mut()
        .map(|Candidate { runner, .. }| ThreadedCandidate {
            spinning_pool: (threads > 1 && runner.is_library()).then_some(0),
            seconds: Box::new(|calls| runner.seconds(calls)),
        })
        .collect();
    candidates.extend(probe.into_iter().flat_map(Probe::candidates));
    let mut timings = interleave_with_rest(&mut candidates, SETTLING, config)?;
    let probed = timings.split_off(count);
    let scaling = match &probed[..] {
        [one, all] => Some(thread_scaling::scaling(one, all)),
        _ => None,
    };
    Ok((timings, scaling))
}

//! Running whole networks: from a pruned network, a device and a policy to an executable.
//!
//! [`compile`] fuses the layers into steps (`plan`), decides where every step writes so that the next one
//! reads it in place, and packs each layer's weights for a kernel. A [`Policy`] says which storage formats
//! a layer may take; where that leaves several kernels, they are timed on the spot ([`AutotuneCache`]), and so are whole
//! networks where it leaves several ways.
//! [`reference`](mod@reference) is what everything is compared with.

mod autotune;
mod layer_weights;
mod libraries;
mod on_cpu;
mod on_gpu;
mod plan;
mod policy;
mod profile;
pub mod reference;
mod spinning_workers;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

pub use autotune::AutotuneCache;
pub use libraries::DenseLibraries;
pub use policy::Policy;
pub use profile::{LayerProfile, profile_table};
#[cfg(feature = "experiments")]
pub(crate) use spinning_workers::SpinningWorkers;

use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::kernels::threads;
use crate::network::{Network, NodeMasks, Shape, Weights};
use crate::sparse::Format;

use self::autotune::{NETWORKS, TuningCandidate};
use self::on_cpu::OnCpu;
use self::on_gpu::OnGpu;
use self::plan::Plan;

/// Seconds of one run above which a network's layers are taken as they were chosen, each by itself: little of such a
/// time goes into what lies between them, and all of it would have to be spent some dozens of times.
const LONGEST_COMPARED: f64 = 0.1;

/// What runs a network.
#[derive(Clone, Copy)]
pub enum Device<'a> {
    /// The processor, on the threads of the pool that the network is compiled and run in.
    Cpu,
    /// A GPU.
    Gpu(&'a dyn Gpu),
}

/// A pruned network, and what is asked of its executable.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The network.
    pub network: &'a Network,
    /// Its weights; those that pruning removed are 0.
    pub weights: &'a Weights,
    /// The nodes that pruning blocked.
    pub masks: &'a NodeMasks,
    /// How it is run.
    pub policy: Policy,
    /// Weights in a group, where groups apply.
    pub group_width: usize,
    /// Images that are run at once.
    pub batch: usize,
    /// Other libraries, beside our kernels.
    pub libraries: DenseLibraries<'a>,
}

/// No node is blocked.
static NO_MASKS: NodeMasks = NodeMasks::new();

impl<'a> Request<'a> {
    /// All nodes of a network, one image at a time, every layer by its fastest kernel: groups of 8 weights, compressed
    /// rows or dense.
    pub fn new(network: &'a Network, weights: &'a Weights) -> Self {
        Self {
            network,
            weights,
            masks: &NO_MASKS,
            policy: Policy::Scalpel,
            group_width: 8,
            batch: 1,
            libraries: DenseLibraries::default(),
        }
    }
}

/// A network that is ready to run. It allocates nothing while it runs on one thread, but for what a library's own
/// convolution does.
pub struct Executable<'a> {
    policy: Policy,
    input: Shape,
    batch: usize,
    classes: usize,
    bytes: usize,
    engine: Engine<'a>,
}

enum Engine<'a> {
    Cpu(Box<OnCpu>),
    Gpu(OnGpu<'a>),
}

/// Compiles a network for a device. `autotune` remembers which of several kernels was the fastest.
///
/// # Errors
/// Weights or masks that are not the network's; masks that no smaller network can follow; a group width or
/// a batch of 0; layers that the device's kernels do not take; what the device refuses.
pub fn compile<'a>(
    request: &Request<'_>,
    device: Device<'a>,
    autotune: &mut AutotuneCache,
) -> Result<Executable<'a>> {
    let Request { network, policy, batch, .. } = *request;
    if batch == 0 || request.group_width == 0 {
        let found = format!("a batch of {batch}, groups of {}", request.group_width);
        let expected = "a batch and a group width of at least 1";
        return Err(Error::argument(format!("compile {}", network.name), expected, found));
    }
    let (network, weights) = policy.prepare(network, request.weights, request.masks)?;
    let plan = Plan::of(&network, &weights)?;
    if plan.steps.is_empty() {
        let expected = "a network with a layer that computes";
        return Err(Error::argument(format!("compile {}", network.name), expected, "none"));
    }
    let mut made: Vec<(String, Executable<'a>)> = Vec::new();
    let ways = policy.ways(request.group_width);
    let compared = ways.len() > 1;
    for formats in ways {
        let mut way = executable(request, &plan, &formats, device, autotune)?;
        if compared && made.is_empty() && way.seconds(1)? > LONGEST_COMPARED {
            return Ok(way);
        }
        let name = formats.iter().map(Format::to_string).collect::<Vec<_>>().join(" or ");
        match made.iter_mut().find(|(_, other)| other.steps() == way.steps()) {
            // The layers' own choices came to one format.
            Some((same, _)) => *same = name,
            None => made.push((name, way)),
        }
    }
    fastest(made, plan.network, autotune)
}

/// A network whose layers each take the fastest kernel of these formats.
fn executable<'a>(
    request: &Request<'_>,
    plan: &Plan<'_>,
    formats: &[Format],
    device: Device<'a>,
    autotune: &mut AutotuneCache,
) -> Result<Executable<'a>> {
    let Request { policy, batch, libraries, .. } = *request;
    let (engine, bytes) = match device {
        Device::Cpu => {
            let (engine, bytes) = OnCpu::new(plan, formats, batch, libraries, autotune)?;
            (Engine::Cpu(Box::new(engine)), bytes)
        }
        Device::Gpu(gpu) => {
            let (engine, bytes) = OnGpu::new(gpu, plan, formats, batch, autotune)?;
            (Engine::Gpu(engine), bytes)
        }
    };
    let classes = plan.output.iter().product();
    Ok(Executable { policy, input: plan.input, batch, classes, bytes, engine })
}

/// Of several ways to run one network, the fastest as a whole: a kernel that was the fastest by itself, with its
/// layer's weights and activations at hand, need not be so after another layer.
fn fastest<'a>(
    mut made: Vec<(String, Executable<'a>)>,
    network: &str,
    autotune: &mut AutotuneCache,
) -> Result<Executable<'a>> {
    let steps: Vec<String> = made.iter().map(|(_, way)| way.steps()).collect();
    let batch = made.first().map_or(0, |(_, way)| way.batch);
    let key = format!("{} threads | {network} x {batch} | {}", threads(), steps.join(" or "));
    let candidates: Vec<TuningCandidate<'_, usize>> = made
        .iter()
        .enumerate()
        .map(|(place, (name, _))| -> TuningCandidate<'_, usize> {
            (name.clone(), Box::new(move || Ok(place)))
        })
        .collect();
    let ways = RefCell::new(&mut made);
    let config = NETWORKS.on_threads(threads());
    let place = autotune.fastest(&key, &candidates, config, |&mut place, calls| {
        ways.borrow_mut()[place].1.seconds(calls)
    })?;
    Ok(made.swap_remove(place).1)
}

impl Executable<'_> {
    /// The policy that it was compiled for.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What it consists of: two networks of the same weights with the same steps are run in the same way.
    fn steps(&self) -> String {
        match &self.engine {
            Engine::Cpu(engine) => profile::summary(engine.steps()),
            Engine::Gpu(engine) => profile::summary(engine.steps()),
        }
    }

    /// Bytes of the weights as they are stored, indices, biases and normalisations included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives it images, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// A slice of another length; what the device refuses.
    pub fn load(&mut self, images: &[f32]) -> Result<()> {
        let floats = self.batch * self.input.iter().product::<usize>();
        Error::check_length("run a network", "images", floats, images.len())?;
        match &mut self.engine {
            Engine::Cpu(engine) => engine.load(images),
            Engine::Gpu(engine) => return engine.load(images),
        }
        Ok(())
    }

    /// Runs the images that were loaded last, and returns when their scores are there.
    ///
    /// # Errors
    /// The device refuses.
    pub fn execute(&mut self) -> Result<()> {
        match &mut self.engine {
            Engine::Cpu(engine) => engine.execute(),
            Engine::Gpu(engine) => engine.execute(),
        }
    }

    /// The class scores of the last run, `[batch, classes]`.
    ///
    /// # Errors
    /// A slice of another length; what the device refuses.
    pub fn scores(&mut self, scores: &mut [f32]) -> Result<()> {
        let floats = self.batch * self.classes;
        Error::check_length("run a network", "scores", floats, scores.len())?;
        match &mut self.engine {
            Engine::Cpu(engine) => scores.copy_from_slice(engine.scores()),
            Engine::Gpu(engine) => return engine.scores(scores),
        }
        Ok(())
    }

    /// Loads images, runs them and gives their scores.
    ///
    /// # Errors
    /// As [`Executable::load`] and [`Executable::scores`].
    pub fn run(&mut self, images: &[f32], scores: &mut [f32]) -> Result<()> {
        self.load(images)?;
        self.execute()?;
        self.scores(scores)
    }

    /// Seconds that so many runs take, one after the other: by the wall on a CPU, by its own clock on a GPU.
    ///
    /// # Errors
    /// The device refuses.
    pub fn seconds(&mut self, calls: u32) -> Result<f64> {
        match &mut self.engine {
            Engine::Cpu(engine) => engine.seconds(calls),
            Engine::Gpu(engine) => engine.seconds(calls),
        }
    }

    /// Runs it some times and says of every step what it is, where its time goes and how much that is.
    ///
    /// # Errors
    /// The device refuses.
    pub fn profile(&mut self) -> Result<Vec<LayerProfile>> {
        match &mut self.engine {
            Engine::Cpu(engine) => engine.profile(),
            Engine::Gpu(engine) => engine.profile(),
        }
    }
}

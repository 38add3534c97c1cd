//! Running whole networks: from a pruned network, a device and a policy to an executable.
//!
//! [`compile`] fuses the layers into steps (`plan`), decides where every step writes so that the next one
//! reads it in place, and packs each layer's weights for a kernel. A [`Policy`] says which storage formats
//! a layer may take; where that leaves several kernels, they are timed on the spot ([`Choices`]).
//! [`reference`](mod@reference) is what everything is compared with.

mod attendants;
mod choices;
mod explain;
mod on_cpu;
mod on_gpu;
mod plan;
mod policy;
pub mod reference;
mod stored;
#[cfg(test)]
mod suite;

use std::sync::Arc;

pub(crate) use attendants::Attendants;
pub use choices::Choices;
pub use explain::{Explained, explanation};
pub use policy::Policy;

use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::kernels::masked_dense::DenseLibrary;
use crate::network::{Network, NodeMasks, Shape, Weights};

use self::on_cpu::OnCpu;
use self::on_gpu::OnGpu;

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
    /// A library's dense product, which may take dense layers on a CPU.
    pub library: Option<&'a Arc<dyn DenseLibrary>>,
}

/// A network that is ready to run. It allocates nothing while it runs on one thread.
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

/// Compiles a network for a device. `choices` remembers which of several kernels was the fastest.
///
/// # Errors
/// Weights or masks that are not the network's; masks that no smaller network can follow; a group width or
/// a batch of 0; layers that the device's kernels do not take; what the device refuses.
pub fn compile<'a>(
    request: &Request<'_>,
    device: Device<'a>,
    choices: &mut Choices,
) -> Result<Executable<'a>> {
    let Request { network, policy, batch, .. } = *request;
    if batch == 0 || request.group_width == 0 {
        let found = format!("a batch of {batch}, groups of {}", request.group_width);
        let expected = "a batch and a group width of at least 1";
        return Err(Error::argument(format!("compile {}", network.name), expected, found));
    }
    let (network, weights) = policy.prepare(network, request.weights, request.masks)?;
    let plan = plan::Plan::of(&network, &weights)?;
    if plan.steps.is_empty() {
        let expected = "a network with a layer that computes";
        return Err(Error::argument(format!("compile {}", network.name), expected, "none"));
    }
    let formats = policy.formats(request.group_width);
    let classes = plan.output.iter().product();
    let (engine, bytes) = match device {
        Device::Cpu => {
            let (engine, bytes) = OnCpu::new(&plan, &formats, batch, request.library, choices)?;
            (Engine::Cpu(Box::new(engine)), bytes)
        }
        Device::Gpu(gpu) => {
            let (engine, bytes) = OnGpu::new(gpu, &plan, &formats, batch, choices)?;
            (Engine::Gpu(engine), bytes)
        }
    };
    Ok(Executable { policy, input: network.input, batch, classes, bytes, engine })
}

impl Executable<'_> {
    /// The policy that it was compiled for.
    pub fn policy(&self) -> Policy {
        self.policy
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
        if images.len() != floats {
            let shape = [&[self.batch], &self.input[..]].concat();
            let expected = format!("{floats} floats, images of shape {shape:?}");
            return Err(Error::argument("load images", expected, images.len().to_string()));
        }
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
        if scores.len() != floats {
            let shape = [self.batch, self.classes];
            let expected = format!("{floats} floats, scores of shape {shape:?}");
            return Err(Error::argument("read scores", expected, scores.len().to_string()));
        }
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
    pub fn explain(&mut self) -> Result<Vec<Explained>> {
        match &mut self.engine {
            Engine::Cpu(engine) => engine.explain(),
            Engine::Gpu(engine) => engine.explain(),
        }
    }
}

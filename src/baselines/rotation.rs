//! Products on a GPU as contestants: timed by the device's own clock, on several sets of operands in
//! turns, so that a small problem is not measured in the cache of the run before.

use std::sync::Arc;

use super::Product;
use crate::device::gpu::{Buffer, Gpu, download};
use crate::error::Result;

/// One set of operands with its product.
pub trait Set {
    /// Hands the product to the device.
    ///
    /// # Errors
    /// The device refuses.
    fn enqueue(&self) -> Result<()>;

    /// Where Y goes.
    fn y(&self) -> &Buffer;
}

/// Sets of operands of so many bytes that exceed the device's cache twice over, within reason. A device
/// that does not tell its cache gets one.
fn sets(gpu: &dyn Gpu, bytes: usize) -> usize {
    (2 * gpu.limits().cache_bytes).div_ceil(bytes.max(1)).clamp(1, 128)
}

/// A product on several sets of operands.
pub struct Rotation {
    gpu: Arc<dyn Gpu>,
    sets: Vec<Box<dyn Set>>,
    runs: usize,
    floats: usize,
}

impl Rotation {
    /// As many sets as the device's cache asks for: `bytes` of operands each, made by `make`. Y has
    /// `floats` floats.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(
        gpu: Arc<dyn Gpu>,
        bytes: usize,
        floats: usize,
        make: impl Fn() -> Result<Box<dyn Set>>,
    ) -> Result<Self> {
        let sets = (0..sets(&*gpu, bytes)).map(|_| make()).collect::<Result<_>>()?;
        Ok(Self { gpu, sets, runs: 0, floats })
    }

    fn enqueue(&mut self) -> Result<()> {
        self.runs += 1;
        self.sets[self.runs % self.sets.len()].enqueue()
    }
}

impl Product for Rotation {
    fn run(&mut self) -> Result<()> {
        self.enqueue()?;
        self.gpu.wait()
    }

    fn seconds(&mut self, calls: u32) -> Result<f64> {
        let gpu = Arc::clone(&self.gpu);
        gpu.time(&mut || (0..calls).try_for_each(|_| self.enqueue()))
    }

    fn result(&self) -> Result<Vec<f32>> {
        let last = &self.sets[self.runs % self.sets.len()];
        download(&*self.gpu, last.y(), self.floats)
    }
}

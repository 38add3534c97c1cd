//! Products on a GPU as candidates: timed by the device's own clock, on several sets of operands in
//! turns, so that a small problem is not measured in the cache of the run before.

use std::sync::Arc;

use super::Product;
use crate::device::gpu::{Buffer, Gpu, Replay, download};
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

    /// Y of the last run, `floats` floats, row by row.
    ///
    /// # Errors
    /// The device refuses.
    fn result(&self, gpu: &dyn Gpu, floats: usize) -> Result<Vec<f32>> {
        download(gpu, self.y(), floats)
    }
}

/// The most sets of operands. Each takes some tens of microseconds to make; 16384 of the smallest products of a
/// sweep exceed the largest cache.
const MOST_SETS: usize = 1 << 14;

/// As many sets of operands of so many bytes as exceed a device's cache twice over: the bytes are the same for
/// every implementation of a product, the sets of one in a smaller format are more. A device without a cache of
/// its own gets one.
fn sets(cache_bytes: usize, bytes: usize) -> usize {
    (2 * cache_bytes).div_ceil(bytes.max(1)).clamp(1, MOST_SETS)
}

/// A product on several sets of operands.
pub struct Rotation {
    gpu: Arc<dyn Gpu>,
    sets: Vec<Box<dyn Set>>,
    runs: usize,
    floats: usize,
    detail: Option<String>,
    replay: Replay,
    /// Whether the device has refused to record it: a library may do what a graph cannot hold.
    launched: bool,
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
        let count = sets(gpu.limits().cache_bytes, bytes);
        let sets = (0..count).map(|_| make()).collect::<Result<_>>()?;
        Ok(Self {
            gpu,
            sets,
            runs: 0,
            floats,
            detail: None,
            replay: Replay::default(),
            launched: false,
        })
    }

    /// The same with a word on how it computes.
    pub fn with_detail(self, detail: String) -> Self {
        Self { detail: Some(detail), ..self }
    }
}

impl Product for Rotation {
    fn run(&mut self) -> Result<()> {
        self.runs += 1;
        self.sets[self.runs % self.sets.len()].enqueue()?;
        self.gpu.wait()
    }

    fn seconds(&mut self, calls: u32) -> Result<f64> {
        let Self { gpu, sets, runs, replay, launched, detail, .. } = self;
        let mut enqueue = || {
            *runs += 1;
            sets[*runs % sets.len()].enqueue()
        };
        if !*launched {
            match replay.seconds(&**gpu, calls, &mut enqueue) {
                Ok(seconds) => return Ok(seconds),
                Err(error) => {
                    eprintln!("launched one by one, since it cannot be recorded: {error}");
                    *launched = true;
                    let own = detail.take().map_or(String::new(), |detail| detail + ", ");
                    *detail = Some(own + "launched one by one");
                }
            }
        }
        gpu.time(&mut || (0..calls).try_for_each(|_| enqueue()))
    }

    fn result(&self) -> Result<Vec<f32>> {
        let last = &self.sets[self.runs % self.sets.len()];
        last.result(&*self.gpu, self.floats)
    }

    fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::device::cuda::shim::Shim;
    use crate::device::gpu::{self, Step};
    use crate::error::Error;
    use crate::test_support;

    /// A copy that a recording cannot hold.
    struct Unrecordable {
        gpu: &'static dyn Gpu,
        copy: Step,
        y: Buffer,
        /// Whether it runs at all.
        sound: bool,
        calls: Arc<AtomicUsize>,
    }

    impl Set for Unrecordable {
        fn enqueue(&self) -> Result<()> {
            let recording = self.calls.fetch_add(1, Ordering::Relaxed) == 1;
            if recording || !self.sound {
                return Err(Error::argument("a library", "no recording", "a recording"));
            }
            self.gpu.enqueue(&self.copy)
        }

        fn y(&self) -> &Buffer {
            &self.y
        }
    }

    #[test]
    fn what_cannot_be_recorded_is_launched_and_says_so() {
        let gpu = match Shim::shared() {
            Ok(gpu) => gpu,
            Err(error) => return test_support::skip("cuda-shim", &error.to_string()),
        };
        let of = |sound| {
            let (x, y) = (gpu::upload(gpu, &[3.0_f32]).unwrap(), gpu.allocate(4).unwrap());
            let copy = gpu.prepare_copy(&x, &y, 4).unwrap();
            // The first call is as it is, the second one is recorded.
            let calls = Arc::new(0.into());
            let set = Unrecordable { gpu, copy, y, sound, calls };
            let sets: Vec<Box<dyn Set>> = vec![Box::new(set)];
            Rotation {
                gpu: Arc::new(Shim::new().unwrap()),
                sets,
                runs: 0,
                floats: 1,
                detail: Some("an algorithm".into()),
                replay: Replay::default(),
                launched: false,
            }
        };
        let mut product = of(true);
        assert!(product.seconds(3).unwrap() >= 0.0);
        assert_eq!(product.detail(), Some("an algorithm, launched one by one"));
        assert_eq!(product.result().unwrap(), [3.0]);
        assert!(of(false).seconds(3).is_err(), "what does not run at all is not timed");
    }

    #[test]
    fn every_format_is_given_as_many_bytes_of_operands() {
        // The L2 of an H100 and of an H200, and operands from the smallest product of a sweep to one far larger.
        for cache in [50 << 20, 60 << 20] {
            for bytes in [8 << 10, 75_000, 1 << 20, cache, 3 * cache] {
                let all = sets(cache, bytes) * bytes;
                assert!(all >= 2 * cache && all < 2 * cache + bytes, "{bytes} bytes: {all}");
            }
        }
        assert_eq!(sets(0, 8 << 10), 1, "without a cache of its own");
    }
}

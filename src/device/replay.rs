//! Work that is timed again and again, as one recording: through CUDA a graph, elsewhere a list of steps.

use super::gpu::{Gpu, Step};
use crate::error::Result;

/// Runs in one recording at most: recording a longer one takes longer than it saves.
pub(super) const MOST_RECORDED: u32 = 1024;

/// Work that is timed again and again, recorded, so that the device never waits for the host. Each recording is
/// kept until another number of runs is asked for.
#[derive(Debug, Default)]
pub struct Replay {
    /// Whether it has run as it is: what a driver or a library prepares at a first call must be no part of a
    /// recording.
    warm: bool,
    /// Runs that a recording holds, and the recording.
    recordings: Vec<(u32, Step)>,
}

impl Replay {
    /// Seconds of the device's own clock that `calls` runs of `enqueue` take, one after the other.
    ///
    /// # Errors
    /// What `enqueue` says; what the device refuses.
    pub fn seconds(
        &mut self,
        gpu: &dyn Gpu,
        calls: u32,
        enqueue: &mut dyn FnMut() -> Result<()>,
    ) -> Result<f64> {
        if !self.warm {
            enqueue()?;
            gpu.wait()?;
            self.warm = true;
        }
        let (whole, rest) = (calls / MOST_RECORDED, calls % MOST_RECORDED);
        let wanted: Vec<u32> = [(whole, MOST_RECORDED), (rest, rest)]
            .iter()
            .filter(|w| w.0 > 0)
            .map(|w| w.1)
            .collect();
        self.recordings.retain(|(runs, _)| wanted.contains(runs));
        for &runs in &wanted {
            if self.recordings.iter().all(|(known, _)| *known != runs) {
                let step = gpu.record(&mut || (0..runs).try_for_each(|_| enqueue()))?;
                self.recordings.push((runs, step));
            }
        }
        let recordings = &self.recordings;
        let replay = |runs: u32, times: u32| {
            let step = recordings.iter().find(|(known, _)| *known == runs).map(|(_, step)| step);
            let mut steps = std::iter::repeat_n(step, times as usize).flatten();
            steps.try_for_each(|step| gpu.enqueue(step))
        };
        gpu.time(&mut || {
            replay(MOST_RECORDED, whole)?;
            replay(rest, u32::from(rest > 0))
        })
    }
}

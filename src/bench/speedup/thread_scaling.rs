//! How much more all threads do than one, while networks are measured on them: two virtual cores may be threads of one
//! core for some tenths of a second, or somebody else's in part, and no pruning makes up for that.

use std::hint::black_box;

use crate::engine::SpinningWorkers;
use crate::error::Error;
use crate::kernels::{parallel_for_with, threads};
use crate::timing::{ThreadedCandidate, Timing, seconds};

/// Multiplications and additions of a share of the work, one after the other in each lane: some tens of microseconds.
const STEPS: usize = 10_000;

/// Lanes of a share: as many as keep the units of a core busy.
const LANES: usize = 64;

/// What one thread does in one share.
fn share() {
    let mut lanes = [1.0_f32; LANES];
    for _ in 0..STEPS {
        lanes.iter_mut().for_each(|lane| *lane = *lane * 0.999 + 0.001);
    }
    black_box(lanes);
}

/// Candidates that take turns with the networks: one share on the calling thread, and one on each thread.
pub(super) fn probes<'a>(spinning: &'a SpinningWorkers) -> [ThreadedCandidate<'a, Error>; 2] {
    let one = |calls: u32| {
        seconds(calls, || {
            share();
            Ok(())
        })
    };
    let all = move |calls: u32| {
        spinning.during(|| {
            seconds(calls, || {
                let all = threads();
                parallel_for_with(&mut vec![(); all], vec![(); all], |(), ()| share());
                Ok(())
            })
        })
    };
    [
        ThreadedCandidate { seconds: Box::new(one), spinning_pool: None },
        ThreadedCandidate { seconds: Box::new(all), spinning_pool: None },
    ]
}

/// Shares that all threads did in the time of one.
pub(super) fn scaling(one: &Timing, all: &Timing) -> f64 {
    threads() as f64 * one.median / all.median
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timing::{MeasureConfig, interleave_with_rest};

    #[test]
    fn threads_do_no_more_than_their_number_says() {
        for count in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            let found = pool.install(|| {
                let spinning = SpinningWorkers::default();
                let mut probes = probes(&spinning);
                let config = MeasureConfig::new(9, Duration::from_millis(2));
                let timings = interleave_with_rest(&mut probes, Duration::ZERO, config).unwrap();
                scaling(&timings[0], &timings[1])
            });
            // A busy machine may give each thread a fraction of a core, at different times.
            assert!(found > 0.1 && found < 1.5 * count as f64, "{found} on {count}");
        }
    }
}

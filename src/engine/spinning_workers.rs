//! Threads of a pool that keep looking for work while a network runs, and a little longer.
//!
//! A thread of rayon's that finds nothing to do goes to sleep, and waking it takes as long as a small layer
//! does (30 to 100 us). A network on several threads is a chain of short parallel sections, so the other
//! threads wait actively from its first to its last, as those of OpenMP do, and linger after it for the
//! next batch.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::kernels::with_spinning_workers;

/// How long workers spin after a run that no other follows.
const LINGER: Duration = Duration::from_millis(1);

/// Looks for work between two looks at the clock.
const LOOKS: usize = 64;

thread_local! {
    /// The address of the state that this thread attends to; 0 of none.
    static ATTENDS_TO: Cell<usize> = const { Cell::new(0) };
}

/// The spinning workers of one executable.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpinningWorkers(Arc<State>);

#[derive(Debug, Default)]
struct State {
    running: AtomicBool,
    /// Threads that attend now.
    present: AtomicUsize,
}

impl SpinningWorkers {
    /// Does `work` on a thread of the pool, while all others look for what it shares out.
    pub fn during<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| {
            // A run that begins outside of the pool comes to any of its threads, also to one that attends: this one.
            let own = usize::from(ATTENDS_TO.get() == self.0.address());
            let others = rayon::current_num_threads() - 1;
            self.0.running.store(true, Ordering::Release);
            if self.0.present.load(Ordering::Acquire) < others + own {
                self.call(rayon::current_thread_index());
            }
            let done = Done(&self.0);
            let result = with_spinning_workers(work);
            drop(done);
            result
        })
    }

    /// Has every thread but `owner` attend.
    fn call(&self, owner: Option<usize>) {
        let state = Arc::clone(&self.0);
        rayon::spawn_broadcast(move |context| {
            // One that waits for its own work may come here too, and must go back to it.
            if Some(context.index()) != owner && ATTENDS_TO.get() != state.address() {
                let before = ATTENDS_TO.replace(state.address());
                state.attend();
                ATTENDS_TO.set(before);
            }
        });
    }
}

/// Says so when the work is done, even by a panic.
struct Done<'a>(&'a State);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl State {
    /// What tells it from others, as long as there are any.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn attend(&self) {
        self.present.fetch_add(1, Ordering::AcqRel);
        let mut idle_since = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if rayon::yield_now() == Some(rayon::Yield::Executed) {
                    idle_since = Instant::now();
                }
                std::hint::spin_loop();
            }
            // Whoever shares this core, such as the thread that runs the network, goes first.
            std::thread::yield_now();
            // A run without parallel sections has no need of anybody either.
            if idle_since.elapsed() > LINGER && !self.running.load(Ordering::Acquire)
                || idle_since.elapsed() > 20 * LINGER
            {
                break;
            }
        }
        self.present.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::task_count;
    use rayon::prelude::*;

    #[test]
    fn kernels_share_small_work_while_others_attend_and_only_then() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            let spinning = SpinningWorkers::default();
            let small = || task_count(20, 1);
            assert_eq!([small(), spinning.during(small), small()], [1, 6, 1]);
        });
    }

    #[test]
    fn work_is_done_again_and_again_and_panics_leave_nobody_running() {
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let spinning = SpinningWorkers::default();
            for run in 0..200_u64 {
                let sum: u64 = pool.install(|| {
                    spinning.during(|| {
                        (0..8)
                            .map(|_| (0..100_u64).into_par_iter().map(|i| i + run).sum::<u64>())
                            .sum()
                    })
                });
                assert_eq!(sum, 8 * (4950 + 100 * run));
            }
            let panics = || pool.install(|| spinning.during(|| panic!("as it must")));
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
            assert!(unwound.is_err());
            assert!(!spinning.0.running.load(Ordering::Acquire));
            let sum: u64 = pool.install(|| spinning.during(|| (0..10_u64).into_par_iter().sum()));
            assert_eq!(sum, 45);
            // On a busy machine a thread may get no turn for some time.
            let deadline = Instant::now() + Duration::from_secs(10);
            while spinning.0.present.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
                std::thread::sleep(LINGER);
            }
            assert_eq!(spinning.0.present.load(Ordering::Acquire), 0, "{threads} threads");
        }
    }
    #[test]
    fn all_others_attend_whichever_thread_runs_the_network() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let spinning = SpinningWorkers::default();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut runs_by_one_that_attends = 0;
        while runs_by_one_that_attends < 5 && Instant::now() < deadline {
            // From outside of the pool, soon after the run before.
            pool.install(|| {
                let own = usize::from(ATTENDS_TO.get() == spinning.0.address());
                runs_by_one_that_attends += own;
                spinning.during(|| {
                    let others = || spinning.0.present.load(Ordering::Acquire) - own;
                    while others() < 2 && Instant::now() < deadline {
                        std::thread::yield_now();
                    }
                    assert_eq!(others(), 2);
                });
            });
        }
        assert_eq!(runs_by_one_that_attends, 5);
    }
}

//! How a kernel shares its work with the other threads of the pool.
//!
//! Work is worth sharing if it takes longer than handing some of it over. That depends on what the others do:
//! a thread that sleeps is woken in 20 to 30 us (measured from outside of the pool, as a caller stands), one
//! that looks for work all the time takes some within 1 us. Kernels say how much they have to do, in numbers
//! of their own, and how much of that a thread does in a microsecond.
//!
//! What is shared out is cut into more parts than there are threads. Each begins with a share of its own, from
//! the first part on, the same from call to call, so that it finds in its caches what it left there; then it
//! takes over the last parts of those who are slower. Cores are seldom equally fast: they are shared with
//! other programs and other machines' threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::Result;

/// What the other threads of the pool do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherThreads {
    /// They sleep, or work on something else.
    Asleep,
    /// They look for work all the time.
    Spinning,
    /// They are not to be asked.
    Forbidden,
}

impl OtherThreads {
    /// Microseconds of work from which sharing it pays, and those of the smallest part worth making.
    fn worth(self) -> Option<[usize; 2]> {
        match self {
            Self::Asleep => Some([70, 10]),
            Self::Spinning => Some([10, 3]),
            Self::Forbidden => None,
        }
    }
}

/// Parts for each thread, at most: nobody waits for more than one of them, of the slowest thread.
const PARTS: usize = 4;

thread_local! {
    static OTHERS: Cell<OtherThreads> = const { Cell::new(OtherThreads::Asleep) };
    /// Whether anything was shared out since this was set to false.
    static SHARED: Cell<bool> = const { Cell::new(false) };
}

/// Threads that work on the calling thread may use: those of the pool, or one within [`serial`].
pub(crate) fn threads() -> usize {
    if OTHERS.get() == OtherThreads::Forbidden { 1 } else { rayon::current_num_threads() }
}

/// Parts into which to cut `work`, of which one thread does `per_microsecond`; one if it is not worth
/// sharing.
pub(crate) fn task_count(work: usize, per_microsecond: usize) -> usize {
    let (threads, microseconds) = (threads(), work / per_microsecond);
    match OTHERS.get().worth() {
        Some([all, part]) if threads > 1 && microseconds >= all => {
            (microseconds / part).min(PARTS * threads)
        }
        _ => 1,
    }
}

/// Does all `items`, by the threads of the pool.
pub(crate) fn parallel_for<T: Send>(items: Vec<T>, run: impl Fn(T) + Sync) {
    let workers = threads().min(items.len());
    parallel_for_with(&mut vec![(); workers], items, |(), item| run(item));
}

/// Does all `items`, each by one of the `workers`, of which each is one thread's at a time.
pub(crate) fn parallel_for_with<W: Send, T: Send>(
    workers: &mut [W],
    items: Vec<T>,
    run: impl Fn(&mut W, T) + Sync,
) {
    // One works where it is: a caller outside of the pool would wait for a thread of it to wake.
    if let [worker] = workers {
        return items.into_iter().for_each(|item| run(worker, item));
    }
    SHARED.set(SHARED.get() || workers.len() > 1);
    let queues = WorkQueues::new(workers.len(), items.len());
    let items: Vec<Mutex<Option<T>>> =
        items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    workers.par_iter_mut().with_max_len(1).enumerate().for_each(|(own, worker)| {
        while let Some(place) = queues.next(own) {
            // No two of them are given the same place.
            let item = items[place].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(item) = item {
                run(worker, item);
            }
        }
    });
}

/// As [`parallel_for_with`], for work that can fail and whose own kernels keep to the thread that does it. A worker whose
/// work has failed does no more.
///
/// # Errors
/// The failure of the first worker that has one.
pub(crate) fn try_parallel_for_with<W: Send, T: Send>(
    workers: &mut [W],
    items: Vec<T>,
    run: impl Fn(&mut W, T) -> Result<()> + Sync,
) -> Result<()> {
    let mut workers: Vec<_> = workers.iter_mut().map(|worker| (worker, Ok(()))).collect();
    parallel_for_with(&mut workers, items, |(worker, done), item| {
        if done.is_ok() {
            *done = serial(|| run(worker, item));
        }
    });
    workers.into_iter().try_for_each(|(_, done)| done)
}

/// What is left of each worker's places: the first in the lower half of a word, the end in the upper.
struct WorkQueues(Vec<AtomicU64>);

impl WorkQueues {
    fn new(workers: usize, places: usize) -> Self {
        let start = |worker: usize| (places * worker / workers) as u64;
        Self((0..workers).map(|own| AtomicU64::new(start(own + 1) << 32 | start(own))).collect())
    }

    /// The next place for a worker: its own first one, or another's last one.
    fn next(&self, own: usize) -> Option<usize> {
        let left = |word: u64| (word & u64::from(u32::MAX), word >> 32);
        let take = |worker: usize, change: &dyn Fn(u64, u64) -> u64| {
            let change = |word: u64| {
                let (first, end) = left(word);
                (first < end).then(|| change(first, end))
            };
            // Who finds a place taken looks at another word; items are behind locks of their own.
            self.0[worker].fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).ok().map(left)
        };
        let first = take(own, &|first, end| end << 32 | (first + 1)).map(|(first, _)| first);
        let mut others = (1..self.0.len()).map(|step| (own + step) % self.0.len());
        let last =
            |other| take(other, &|first, end| (end - 1) << 32 | first).map(|(_, end)| end - 1);
        first.or_else(|| others.find_map(last)).map(|place| place as usize)
    }
}

/// Does work whose kernels keep to the thread that calls them.
pub(crate) fn serial<R>(work: impl FnOnce() -> R) -> R {
    among(OtherThreads::Forbidden, work)
}

/// Does work on a thread of the pool while all others look for what its kernels share out.
pub(crate) fn with_spinning_workers<R>(work: impl FnOnce() -> R) -> R {
    among(OtherThreads::Spinning, work)
}

/// Whether work hands anything out from the thread that calls this, and what it comes to.
pub(crate) fn runs_parallel<R>(work: impl FnOnce() -> R) -> (R, bool) {
    let before = SHARED.replace(false);
    let result = work();
    let shared = SHARED.get();
    SHARED.set(before || shared);
    (result, shared)
}

fn among<R>(others: OtherThreads, work: impl FnOnce() -> R) -> R {
    struct Before(OtherThreads);
    impl Drop for Before {
        fn drop(&mut self) {
            OTHERS.set(self.0);
        }
    }
    let _before = Before(OTHERS.replace(others));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn each_item_is_done_once_by_one_worker() {
        for threads in [1, 2, 5] {
            for (workers, items) in [(1, 7), (2, 2), (3, 100), (5, 3), (4, 0), (0, 0)] {
                let mut done: Vec<Vec<usize>> = vec![Vec::new(); workers];
                pool(threads).install(|| {
                    parallel_for_with(&mut done, (0..items).collect(), |mine, item| {
                        mine.push(item)
                    });
                });
                let mut all = done.concat();
                all.sort_unstable();
                assert_eq!(all, (0..items).collect::<Vec<_>>(), "{threads} threads, {workers}");
            }
        }
    }

    #[test]
    fn a_failure_is_told_and_ends_its_workers_work_alone() {
        use crate::error::Error;
        pool(2).install(|| {
            let mut done = [0, 0];
            let failed = try_parallel_for_with(&mut done, (0..9).collect(), |done, item| {
                assert_eq!(threads(), 1, "kernels keep to the thread");
                *done += 1;
                if item == 0 { Err(Error::argument("a test", "another item", "0")) } else { Ok(()) }
            });
            assert!(failed.is_err());
            assert!((1..=9).contains(&(done[0] + done[1])), "{done:?}");
            assert!(try_parallel_for_with(&mut done, vec![1, 2], |_, _| Ok(())).is_ok());
        });
    }

    #[test]
    fn one_worker_works_on_the_thread_that_calls() {
        let caller = std::thread::current().id();
        parallel_for_with(&mut [()], vec![1, 2, 3], |(), _| {
            assert_eq!(std::thread::current().id(), caller);
        });
    }

    #[test]
    fn who_is_done_takes_over_the_last_of_the_others() {
        let queues = WorkQueues::new(2, 5);
        let places: Vec<_> = [0, 0, 0, 0, 1, 1].map(|own| queues.next(own)).into();
        assert_eq!(places, [Some(0), Some(1), Some(4), Some(3), Some(2), None]);
    }

    #[test]
    fn a_slow_worker_keeps_no_other_from_its_items() {
        // One worker stays with its first item until all others are done.
        let left = AtomicUsize::new(7);
        let mut done = [0, 0];
        pool(2).install(|| {
            parallel_for_with(&mut done, (0..8).collect(), |done, item| {
                *done += 1;
                if item == 0 {
                    while left.load(Ordering::SeqCst) > 0 {
                        std::hint::spin_loop();
                    }
                } else {
                    left.fetch_sub(1, Ordering::SeqCst);
                }
            });
        });
        assert_eq!(done[0] + done[1], 8);
        assert!(done.iter().any(|&done| done <= 1), "{done:?}");
    }

    #[test]
    fn work_that_is_shared_out_is_told_from_other_work() {
        pool(2).install(|| {
            let items = |count: usize| {
                runs_parallel(|| parallel_for((0..count).collect(), |_: usize| ())).1
            };
            assert_eq!([items(2), items(1), items(0)], [true, false, false]);
            let both = runs_parallel(|| (items(3), items(1)));
            assert_eq!(both, ((true, false), true));
            assert!(!serial(|| items(5)));
        });
    }

    #[test]
    fn work_is_cut_where_that_pays() {
        pool(2).install(|| {
            let asleep = [69, 70, 1000].map(|microseconds| task_count(3 * microseconds, 3));
            assert_eq!(asleep, [1, 7, 8]);
            let with_spinning_workers = with_spinning_workers(|| {
                [9, 10, 16, 1000].map(|microseconds| task_count(microseconds, 1))
            });
            assert_eq!(with_spinning_workers, [1, 3, 5, 8]);
            assert_eq!(serial(|| task_count(usize::MAX, 1)), 1);
            assert_eq!(task_count(10, 1), 1, "as before");
        });
        assert_eq!(pool(1).install(|| task_count(usize::MAX, 1)), 1);
    }
}

//! Work that is done ahead of the one who needs it, by threads, and handed over in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Yields `make(0)`, `make(1)`, ... in order, while threads work on later ones.
pub(super) struct Prefetcher<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    count: usize,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// How many results may lie finished or in work beyond the one that is waited for.
    most: usize,
}

struct State<T> {
    /// The next one that no thread works on.
    next: usize,
    /// The next one to be handed over.
    wanted: usize,
    done: BTreeMap<usize, T>,
    stopped: bool,
    /// Threads that ended by a panic.
    lost: bool,
}

impl<T: Send + 'static> Prefetcher<T> {
    /// Begins with the first `most` of `count` on `workers` threads, at least one.
    pub fn new(
        count: usize,
        workers: usize,
        most: usize,
        make: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Self {
        let state =
            State { next: 0, wanted: 0, done: BTreeMap::new(), stopped: false, lost: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            most: most.max(1),
        });
        let make = Arc::new(make);
        let worker = |_| {
            let (shared, make) = (Arc::clone(&shared), Arc::clone(&make));
            thread::spawn(move || shared.work(count, &*make))
        };
        let workers = (0..workers.max(1)).map(worker).collect();
        Self { shared, workers, count }
    }
}

/// Marks the work as lost where a thread panics.
struct Alarm<'a, T>(&'a Shared<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().lost = true;
            self.0.changed.notify_all();
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Whoever panics with the lock in hand, in `next`, has left the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, count: usize, make: &(dyn Fn(usize) -> T + Send + Sync)) {
        let _alarm = Alarm(self);
        loop {
            let mut state = self.lock();
            while !state.stopped && state.next < count && state.next >= state.wanted + self.most {
                state = self.wait(state);
            }
            if state.stopped || state.next >= count {
                return;
            }
            let index = state.next;
            state.next += 1;
            drop(state);
            let made = make(index);
            self.lock().done.insert(index, made);
            self.changed.notify_all();
        }
    }
}

impl<T> Iterator for Prefetcher<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let mut state = self.shared.lock();
        if state.wanted >= self.count {
            return None;
        }
        let wanted = state.wanted;
        loop {
            if let Some(made) = state.done.remove(&wanted) {
                state.wanted += 1;
                self.shared.changed.notify_all();
                return Some(made);
            }
            assert!(!state.lost, "a thread that worked ahead has panicked");
            state = self.shared.wait(state);
        }
    }
}

impl<T> Drop for Prefetcher<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a panic there has been reported by `next`
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn results_come_in_order_whoever_is_first() {
        let slow_at_times = |index: usize| {
            thread::sleep(Duration::from_millis(if index.is_multiple_of(3) { 5 } else { 0 }));
            index
        };
        let made: Vec<usize> = Prefetcher::new(20, 4, 6, slow_at_times).collect();
        assert_eq!(made, (0..20).collect::<Vec<_>>());
        assert_eq!(Prefetcher::new(0, 2, 2, |index| index).count(), 0);
    }

    #[test]
    fn no_more_is_made_than_may_lie_ahead_and_dropping_stops_it() {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let mut ahead = Prefetcher::new(1000, 2, 4, move |index| {
            count.fetch_add(1, Ordering::SeqCst);
            index
        });
        assert_eq!(ahead.next(), Some(0));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(begun.load(Ordering::SeqCst), 5, "one taken, four ahead");
        drop(ahead);
        assert!(begun.load(Ordering::SeqCst) < 8);
    }

    #[test]
    #[should_panic(expected = "a thread that worked ahead has panicked")]
    fn a_panic_is_not_waited_for_in_vain() {
        let mut ahead = Prefetcher::new(3, 1, 2, |index| assert!(index < 1, "broken"));
        ahead.next();
        ahead.next();
    }
}

//! Timing that holds on a shared, noisy machine: candidates take turns in one run, and medians are
//! compared.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::seed;

/// How long one call takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median, in seconds.
    pub median: f64,
    /// Lower end of the 95% confidence interval of the median, in seconds.
    pub low: f64,
    /// Upper end, in seconds.
    pub high: f64,
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct MeasureConfig {
    /// Turns that each candidate takes.
    pub rounds: usize,
    /// How long a turn lasts at least: a shorter call is repeated.
    pub min_turn: Duration,
    /// How long a candidate is called before each turn of it.
    warm_up: Duration,
}

impl MeasureConfig {
    /// Enough to tell candidates a few percent apart.
    pub const DEFAULT: Self = Self::new(25, Duration::from_millis(4));
    /// Enough to see an order of magnitude, and to keep a test short.
    pub const QUICK: Self = Self::new(5, Duration::from_millis(1));

    /// So many turns of at least that length.
    pub const fn new(rounds: usize, min_turn: Duration) -> Self {
        Self { rounds, min_turn, warm_up: Duration::ZERO }
    }

    /// The same for candidates on so many threads. Several that slept are given time to get going: until the
    /// system has spread them over the cores again.
    pub const fn on_threads(self, threads: usize) -> Self {
        let warm_up = if threads > 1 { Duration::from_millis(15) } else { Duration::ZERO };
        Self { warm_up, ..self }
    }
}

/// Times the candidates in turns, each once to warm up and then `config.rounds` times. A candidate
/// must have finished its work when it returns.
pub fn interleave(candidates: &mut [&mut dyn FnMut()], config: MeasureConfig) -> Vec<Timing> {
    let mut turns: Vec<_> = candidates
        .iter_mut()
        .map(|candidate| {
            move || {
                candidate();
                Ok::<(), Infallible>(())
            }
        })
        .collect();
    let mut turns: Vec<&mut dyn FnMut() -> Result<(), Infallible>> =
        turns.iter_mut().map(|turn| turn as _).collect();
    try_interleave(&mut turns, config).unwrap_or_else(|never| match never {})
}

/// Seconds of so many calls, one after the other.
///
/// # Errors
/// The first failure of any call.
pub fn seconds<E>(calls: u32, mut call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    Ok(start.elapsed().as_secs_f64())
}

/// As [`interleave`], for candidates that can fail.
///
/// # Errors
/// The first failure of any candidate.
pub fn try_interleave<E>(
    candidates: &mut [&mut dyn FnMut() -> Result<(), E>],
    config: MeasureConfig,
) -> Result<Vec<Timing>, E> {
    let mut turns: Vec<_> = candidates
        .iter_mut()
        .map(|candidate| move |calls: u32| seconds(calls, &mut *candidate))
        .collect();
    let mut turns: Vec<&mut dyn FnMut(u32) -> Result<f64, E>> =
        turns.iter_mut().map(|turn| turn as _).collect();
    interleave_by(&mut turns, config)
}

/// As [`try_interleave`], for candidates that look at a clock of their own: each is asked for so many
/// calls, one after the other, and says how many seconds they took. The order of the turns is drawn anew in
/// each round: what disturbs a machine may come and go with a period (cycles are handed out to its tenants by
/// tenths of a second), and would meet the same candidate each time.
///
/// # Errors
/// The first failure of any candidate.
pub fn interleave_by<E>(
    candidates: &mut [&mut dyn FnMut(u32) -> Result<f64, E>],
    config: MeasureConfig,
) -> Result<Vec<Timing>, E> {
    take_turns(candidates, config, |_| ())
}

/// As [`interleave_by`], with something to wait for before the candidate of that place may begin. It is over
/// before the candidate warms up.
fn take_turns<E>(
    candidates: &mut [&mut dyn FnMut(u32) -> Result<f64, E>],
    config: MeasureConfig,
    mut wait: impl FnMut(usize),
) -> Result<Vec<Timing>, E> {
    let mut repeats = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates.iter_mut().enumerate() {
        wait(place);
        candidate(1)?;
        repeats.push(calls_of_a_turn(candidate, config.min_turn)?);
    }
    let mut samples = vec![Vec::with_capacity(config.rounds); candidates.len()];
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let mut rng = seed::stream(1, "turns", &[]);
    for _ in 0..config.rounds.max(1) {
        order.shuffle(&mut rng);
        for &place in &order {
            let (candidate, repeats) = (&mut candidates[place], repeats[place]);
            wait(place);
            let start = Instant::now();
            while start.elapsed() < config.warm_up {
                candidate(1)?;
            }
            samples[place].push(candidate(repeats)? / f64::from(repeats));
        }
    }
    Ok(samples.into_iter().map(summarise).collect())
}

/// How many calls of a candidate fill a turn. A clock that stands still or runs backwards does not lengthen it: what
/// the wall says of as many calls counts then.
fn calls_of_a_turn<E>(
    candidate: &mut dyn FnMut(u32) -> Result<f64, E>,
    turn: Duration,
) -> Result<u32, E> {
    let turn = turn.as_secs_f64();
    let mut timed = |calls: u32| {
        let start = Instant::now();
        let told = candidate(calls)?;
        let passed = start.elapsed().as_secs_f64();
        Ok(if told > 0.0 { told } else { passed })
    };
    let (mut calls, mut seconds) = (1, timed(1)?);
    // Until a turn is long enough to say how many calls make one.
    while seconds < 0.5 * turn && calls < 1 << 20 {
        calls *= 2;
        seconds = timed(calls)?;
    }
    let turns = turn / (seconds / f64::from(calls));
    Ok((turns.ceil() as u32).clamp(1, 1 << 20))
}

/// A candidate that may use several threads of the processor.
pub struct ThreadedCandidate<'a, E> {
    /// Seconds of so many calls, one after the other.
    pub seconds: Box<dyn FnMut(u32) -> Result<f64, E> + 'a>,
    /// The pool of threads that goes on looking for work after its last call, as OpenMP's do, on cores that the next
    /// candidate needs; none where there is no such pool.
    pub spinning_pool: Option<usize>,
}

/// As [`interleave_by`], for candidates of which some linger: whoever follows one of these, and does not work on the
/// same pool, waits for `rest`, until that one's threads are asleep.
///
/// # Errors
/// The first failure of any candidate.
pub fn interleave_with_rest<E>(
    candidates: &mut [ThreadedCandidate<'_, E>],
    rest: Duration,
    config: MeasureConfig,
) -> Result<Vec<Timing>, E> {
    let pools: Vec<Option<usize>> =
        candidates.iter().map(|candidate| candidate.spinning_pool).collect();
    // Who was called last before this is not known.
    let mut busy = pools.iter().rev().copied().flatten().next();
    let mut turns: Vec<&mut dyn FnMut(u32) -> Result<f64, E>> =
        candidates.iter_mut().map(|candidate| &mut *candidate.seconds as _).collect();
    take_turns(&mut turns, config, |place| {
        if busy.is_some() && busy != pools[place] {
            std::thread::sleep(rest);
        }
        busy = pools[place];
    })
}

/// The median of samples and its interval by order statistics: n/2 -+ 0.98 sqrt(n).
fn summarise(mut samples: Vec<f64>) -> Timing {
    samples.sort_by(f64::total_cmp);
    let (count, last) = (samples.len() as f64, samples.len() - 1);
    let half = 0.98 * count.sqrt();
    let low = (count / 2.0 - half).floor().max(0.0) as usize;
    let high = ((count / 2.0 + half).ceil() as usize).min(last);
    let middle = samples.len() / 2;
    let median = if samples.len() % 2 == 1 {
        samples[middle]
    } else {
        0.5 * (samples[middle - 1] + samples[middle])
    };
    Timing { median, low: samples[low], high: samples[high] }
}

/// The geometric mean; 1 of no numbers.
pub fn geometric_mean(values: &[f64]) -> f64 {
    let logs: f64 = values.iter().map(|value| value.ln()).sum();
    (logs / values.len().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_median_and_its_interval_enclose_each_other() {
        let timing = summarise((1..=25).rev().map(f64::from).collect());
        assert_eq!(timing, Timing { median: 13.0, low: 8.0, high: 19.0 });
        assert_eq!(summarise(vec![2.0, 4.0]).median, 3.0);
        assert_eq!(summarise(vec![5.0]), Timing { median: 5.0, low: 5.0, high: 5.0 });
    }

    #[test]
    fn the_slower_contestant_is_seen_to_be_slower() {
        let work = |turns: u64| {
            std::hint::black_box((0..turns).fold(1_u64, |x, i| x.rotate_left(3) ^ i));
        };
        let (mut short, mut long) = (|| work(2_000), || work(200_000));
        let timings = interleave(&mut [&mut short, &mut long], MeasureConfig::QUICK);
        assert!(timings[1].median > 5.0 * timings[0].median, "{timings:?}");
    }

    #[test]
    fn turns_change_their_order_from_round_to_round() {
        let taken = std::cell::RefCell::new(Vec::new());
        let candidate = |index: usize| {
            let taken = &taken;
            move |calls: u32| {
                taken.borrow_mut().push(index);
                Ok::<f64, Infallible>(f64::from(calls))
            }
        };
        let (mut a, mut b, mut c) = (candidate(0), candidate(1), candidate(2));
        let config = MeasureConfig::new(20, Duration::from_millis(1));
        interleave_by(&mut [&mut a, &mut b, &mut c], config).unwrap_or_else(|never| match never {});
        let rounds = taken.borrow()[6..].to_vec(); // after two calls of each
        let rounds: Vec<_> = rounds.chunks(3).collect();
        assert_eq!(rounds.len(), 20);
        let each_once = |round: &&[usize]| (0..3).all(|index| round.contains(&index));
        assert!(rounds.iter().all(each_once), "{rounds:?}");
        assert!((0..3).all(|first| rounds.iter().any(|round| round[0] == first)), "{rounds:?}");
    }

    #[test]
    fn a_clock_that_stands_still_or_runs_backwards_ends_a_measurement() {
        for told in [0.0, -1.0, f64::NAN] {
            let mut calls = 0_u64;
            let mut broken = |of: u32| {
                calls += u64::from(of);
                std::thread::sleep(Duration::from_micros(50) * of);
                Ok::<f64, Infallible>(told)
            };
            let timings = interleave_by(&mut [&mut broken], MeasureConfig::QUICK);
            assert_eq!(timings.unwrap_or_else(|never| match never {}).len(), 1);
            assert!(calls < 1000, "{calls} calls by a clock that says {told}");
        }
    }

    #[test]
    fn a_failure_is_not_timed_away() {
        let mut calls = 0;
        let mut fails_once = || {
            calls += 1;
            if calls == 2 { Err("no") } else { Ok(()) }
        };
        let mut fine = || Ok(());
        let both = try_interleave(&mut [&mut fine, &mut fails_once], MeasureConfig::QUICK);
        assert_eq!(both, Err("no"));
        assert_eq!(try_interleave(&mut [&mut fine], MeasureConfig::QUICK).unwrap().len(), 1);
    }

    /// What turns of two candidates on two threads see, of which the first may linger: the calls of each that
    /// were asked for, and whether the other's threads may have been busy when they began.
    fn seen_apart(pools: [Option<usize>; 2], rest: Duration) -> [Vec<(u32, bool)>; 2] {
        let ended = Cell::new(None::<Instant>);
        let seen = std::cell::RefCell::new([Vec::new(), Vec::new()]);
        let candidate = |index: usize| ThreadedCandidate::<Infallible> {
            seconds: Box::new({
                let (ended, seen) = (&ended, &seen);
                move |calls| {
                    let busy = ended.get().is_some_and(|ended| ended.elapsed() < rest);
                    seen.borrow_mut()[index].push((calls, busy));
                    let took = seconds(calls, || {
                        std::thread::sleep(Duration::from_millis(1));
                        Ok(())
                    });
                    ended.set((index == 0).then(Instant::now));
                    took
                }
            }),
            spinning_pool: pools[index],
        };
        let mut candidates = [candidate(0), candidate(1)];
        // Long enough that a single call that was held up does not fill a turn.
        let config = MeasureConfig::new(3, Duration::from_millis(20)).on_threads(2);
        let timings = interleave_with_rest(&mut candidates, rest, config);
        timings.unwrap_or_else(|never| match never {});
        drop(candidates);
        seen.into_inner()
    }

    #[test]
    fn threads_are_warm_and_those_of_others_asleep() {
        let rest = Duration::from_millis(30);
        let [_, other] = seen_apart([Some(0), Some(1)], rest);
        assert!(other.iter().all(|&(_, busy)| !busy), "a pool of its own: {other:?}");
        let [lingering, own] = seen_apart([Some(0), None], rest);
        assert!(own.iter().all(|&(_, busy)| !busy), "{own:?}");
        // After those that say how long a call takes, three turns of several calls at once, before each of
        // which single ones take 15 ms, whoever came before and however long the rest.
        for calls in [&lingering, &own] {
            let calls: Vec<u32> = calls.iter().map(|&(calls, _)| calls).collect();
            let counted = calls.iter().rposition(|&call| call > 1).map(|last| &calls[..=last]);
            let turns: Vec<_> = counted.unwrap_or(&[]).split_inclusive(|&call| call > 1).collect();
            let turns = &turns[turns.len() - 3..];
            assert!(turns.iter().all(|turn| turn.len() > 2), "{calls:?}");
        }
        for pools in [[None; 2], [Some(0); 2]] {
            let [_, own] = seen_apart(pools, rest);
            assert!(own.iter().any(|&(_, busy)| busy), "nobody waits for nothing: {own:?}");
        }
    }

    #[test]
    fn the_geometric_mean_is_that_of_ratios() {
        approx::assert_relative_eq!(geometric_mean(&[2.0, 8.0]), 4.0, max_relative = 1e-12);
        assert_eq!(geometric_mean(&[]), 1.0);
    }
}

//! Timing that holds on a shared, noisy machine: contestants take turns in one run, and medians are
//! compared.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

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
pub struct Effort {
    /// Turns that each contestant takes.
    pub rounds: usize,
    /// How long a turn lasts at least: a shorter call is repeated.
    pub turn: Duration,
}

impl Effort {
    /// Enough to tell contestants a few percent apart.
    pub const USUAL: Self = Self { rounds: 25, turn: Duration::from_millis(4) };
    /// Enough to see an order of magnitude, and to keep a test short.
    pub const LITTLE: Self = Self { rounds: 5, turn: Duration::from_millis(1) };
}

/// Times the contestants in turns, each once to warm up and then `effort.rounds` times. A contestant
/// must have finished its work when it returns.
pub fn interleave(contestants: &mut [&mut dyn FnMut()], effort: Effort) -> Vec<Timing> {
    let repeats: Vec<u32> = contestants
        .iter_mut()
        .map(|contestant| {
            contestant();
            let start = Instant::now();
            let mut calls = 0;
            while start.elapsed() < effort.turn {
                contestant();
                calls += 1;
            }
            calls.max(1)
        })
        .collect();
    let mut samples = vec![Vec::with_capacity(effort.rounds); contestants.len()];
    for _ in 0..effort.rounds.max(1) {
        for ((contestant, &repeats), samples) in
            contestants.iter_mut().zip(&repeats).zip(&mut samples)
        {
            let start = Instant::now();
            for _ in 0..repeats {
                contestant();
            }
            samples.push(start.elapsed().as_secs_f64() / f64::from(repeats));
        }
    }
    samples.into_iter().map(summarise).collect()
}

/// As [`interleave`], for contestants that can fail.
///
/// # Errors
/// The last failure of any contestant.
pub fn try_interleave<E>(
    contestants: &mut [&mut dyn FnMut() -> Result<(), E>],
    effort: Effort,
) -> Result<Vec<Timing>, E> {
    let failure = RefCell::new(None);
    let mut turns: Vec<_> = contestants
        .iter_mut()
        .map(|contestant| {
            || {
                if let Err(error) = contestant() {
                    *failure.borrow_mut() = Some(error);
                }
            }
        })
        .collect();
    let mut turns: Vec<&mut dyn FnMut()> =
        turns.iter_mut().map(|turn| turn as &mut dyn FnMut()).collect();
    let timings = interleave(&mut turns, effort);
    failure.into_inner().map_or(Ok(timings), Err)
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
        let timings = interleave(&mut [&mut short, &mut long], Effort::LITTLE);
        assert!(timings[1].median > 5.0 * timings[0].median, "{timings:?}");
    }

    #[test]
    fn a_failure_is_not_timed_away() {
        let mut calls = 0;
        let mut fails_once = || {
            calls += 1;
            if calls == 2 { Err("no") } else { Ok(()) }
        };
        let mut fine = || Ok(());
        let both = try_interleave(&mut [&mut fine, &mut fails_once], Effort::LITTLE);
        assert_eq!(both, Err("no"));
        assert_eq!(try_interleave(&mut [&mut fine], Effort::LITTLE).unwrap().len(), 1);
    }

    #[test]
    fn the_geometric_mean_is_that_of_ratios() {
        approx::assert_relative_eq!(geometric_mean(&[2.0, 8.0]), 4.0, max_relative = 1e-12);
        assert_eq!(geometric_mean(&[]), 1.0);
    }
}

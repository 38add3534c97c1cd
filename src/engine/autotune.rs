//! Which of several kernels was the fastest: measured once for each machine, shape and sparsity.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::timing::{MeasureConfig, interleave_by};

/// Enough to tell kernels some percent apart, where a slow one may take a second.
pub(super) const KERNELS: MeasureConfig = MeasureConfig::new(9, Duration::from_micros(500));
/// For what needs some calls to get going.
pub(super) const THREADS: MeasureConfig =
    MeasureConfig::new(9, Duration::from_millis(6)).on_threads(2);

/// For whole networks, of which a small one's call takes microseconds.
pub(super) const NETWORKS: MeasureConfig = MeasureConfig::new(15, Duration::from_millis(2));

/// A hash of the sources of the kernels and the engine, made when they are built: choices of other ones are not
/// read.
const VERSION: &str = env!("SCALPEL_KERNELS");

/// Choices that were measured, kept in memory or in a file.
#[derive(Debug, Default)]
pub struct AutotuneCache {
    /// Machine, threads, shape, sparsity: to the candidate's name.
    made: BTreeMap<String, String>,
    file: Option<PathBuf>,
    /// What every key begins with.
    machine: String,
    changed: bool,
    /// Whether every candidate is called once, and no more.
    untimed: bool,
}

#[derive(Serialize, Deserialize)]
struct CacheFile {
    version: String,
    autotune: BTreeMap<String, String>,
}

/// A candidate: its name, and how it is made.
pub(super) type TuningCandidate<'a, C> = (String, Box<dyn Fn() -> Result<C> + 'a>);

impl AutotuneCache {
    /// None yet, and none are kept.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Those in a file, which need not exist yet, for a machine of that name. A file that is not one of
    /// this version's is begun anew: its entries can be measured again.
    pub fn in_file(path: &Path, machine: &str) -> Self {
        let stored: Option<CacheFile> =
            files::read_text(path).ok().and_then(|text| serde_json::from_str(&text).ok());
        let made = stored.filter(|stored| stored.version == VERSION).map(|stored| stored.autotune);
        Self {
            made: made.unwrap_or_default(),
            file: Some(path.to_owned()),
            machine: machine.to_owned(),
            changed: false,
            untimed: false,
        }
    }

    /// The same, but from now on each candidate is called once, which tells little of how fast it is: for tests,
    /// in which whatever is chosen must compute the same.
    #[must_use]
    pub fn untimed(self) -> Self {
        Self { untimed: true, ..self }
    }

    /// Those of this user, in the cache.
    ///
    /// # Errors
    /// The system does not say where that is.
    pub fn of_user(machine: &str) -> Result<Self> {
        let cache = dirs::cache_dir().ok_or_else(|| Error::Unavailable {
            what: "a cache folder".into(),
            reason: "the system names none".into(),
            remedy: "set HOME or XDG_CACHE_HOME".into(),
        })?;
        Ok(Self::in_file(&cache.join("scalpel/autotune.json"), machine))
    }

    /// Writes the file, where there is one and something has changed.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(&mut self) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let stored = CacheFile { version: VERSION.into(), autotune: self.made.clone() };
        let text = serde_json::to_string_pretty(&stored).map_err(|error| {
            Error::argument("write the autotune cache", "text", error.to_string())
        })?;
        files::replace(file, text + "\n")?;
        self.changed = false;
        Ok(())
    }

    /// The fastest candidate: the one that was chosen for `key` before, the only one, or else the one that
    /// takes the fewest `seconds` for so many calls, all in turns.
    pub(super) fn fastest<C>(
        &mut self,
        key: &str,
        candidates: &[TuningCandidate<'_, C>],
        config: MeasureConfig,
        seconds: impl Fn(&mut C, u32) -> Result<f64>,
    ) -> Result<C> {
        if let [(_, only)] = candidates {
            return only();
        }
        let key = format!("{} | {key}", self.machine);
        let known = self.made.get(&key);
        if let Some((_, make)) = candidates.iter().find(|(name, _)| Some(name) == known) {
            return make();
        }
        let mut made = candidates.iter().map(|(_, make)| make()).collect::<Result<Vec<C>>>()?;
        let mut turns: Vec<_> =
            made.iter_mut().map(|one| |calls: u32| seconds(one, calls)).collect();
        let mut turns: Vec<&mut dyn FnMut(u32) -> Result<f64>> =
            turns.iter_mut().map(|turn| turn as _).collect();
        let config = if self.untimed { MeasureConfig::new(1, Duration::ZERO) } else { config };
        let timings = interleave_by(&mut turns, config)?;
        let times = timings.iter().map(|timing| timing.median).enumerate();
        let Some((best, _)) = times.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            return Err(Error::argument("choose a kernel", "at least one candidate", "none"));
        };
        self.made.insert(key, candidates[best].0.clone());
        self.changed = true;
        Ok(made.swap_remove(best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Candidates that say how long they take, and what was chosen among them.
    fn choose(autotune: &mut AutotuneCache, times: &[(&str, f64)], asked: &Cell<usize>) -> String {
        let candidates: Vec<TuningCandidate<'_, (String, f64)>> = times
            .iter()
            .map(|&(name, time)| {
                let make = move || Ok((name.to_owned(), time));
                (name.to_owned(), Box::new(make) as Box<dyn Fn() -> _>)
            })
            .collect();
        let seconds = |one: &mut (String, f64), calls: u32| {
            asked.set(asked.get() + 1);
            Ok(one.1 * f64::from(calls))
        };
        autotune.fastest("conv1", &candidates, KERNELS, seconds).unwrap().0
    }

    #[test]
    fn the_fastest_is_chosen_once_and_remembered_for_its_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("autotune.json");
        let asked = Cell::new(0);
        let times = [("dense", 2e-3), ("groups", 1e-3), ("csr", 3e-3)];
        let mut autotune = AutotuneCache::in_file(&file, "a machine");
        assert_eq!(choose(&mut autotune, &times, &asked), "groups");
        let measured = asked.replace(0);
        assert!(measured > 3);
        autotune.save().unwrap();

        let mut again = AutotuneCache::in_file(&file, "a machine");
        let other_times = [("dense", 1e-3), ("groups", 2e-3)];
        assert_eq!(choose(&mut again, &other_times, &asked), "groups", "as it was measured");
        assert_eq!(asked.get(), 0);
        let mut other = AutotuneCache::in_file(&file, "another machine");
        assert_eq!(choose(&mut other, &other_times, &asked), "dense");
        assert!(asked.replace(0) > 0);
        assert_eq!(choose(&mut again, &[("dense", 1e-3), ("csr", 2e-3)], &asked), "dense");
        assert!(asked.get() > 0, "a choice that is no candidate any more is made anew");

        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(VERSION, "of other kernels")).unwrap();
        let mut of_other_kernels = AutotuneCache::in_file(&file, "a machine");
        assert_eq!(choose(&mut of_other_kernels, &other_times, &asked), "dense", "measured anew");

        std::fs::write(&file, "not one of ours").unwrap();
        assert_eq!(
            choose(&mut AutotuneCache::in_file(&file, "a machine"), &times, &asked),
            "groups"
        );
    }

    #[test]
    fn an_only_candidate_is_not_measured() {
        let asked = Cell::new(0);
        assert_eq!(choose(&mut AutotuneCache::in_memory(), &[("dense", 1.0)], &asked), "dense");
        assert_eq!(asked.get(), 0);
    }
}

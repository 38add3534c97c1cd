//! The results tree: `<root>/<experiment>/<network>/<hash of the recipe>/seed-<n>/`. This file owns
//! all its paths.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::json::{read_json, write_json};
use super::plots::breakeven_plot;
use super::run_folder::{RunFolder, StoredRun};
use super::slug;
use super::speedup::StoredSpeedup;
use super::sweep::{BreakevenPoint, StoredSweep, Sweep};
use crate::error::{Error, Result};
use crate::files;
use crate::train::recipe::{Recipe, Technique, digest};

/// The file of a sweep that is not finished.
const PART: &str = "part.json";

/// The tree.
#[derive(Clone, Debug)]
pub struct ResultsTree {
    root: PathBuf,
}

impl ResultsTree {
    /// The tree below `root`, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of a recipe and its seed.
    pub fn run(&self, recipe: &Recipe) -> RunFolder {
        let experiment = self.root.join(recipe.technique.experiment());
        let recipe_folder = experiment.join(&recipe.network).join(recipe.hash());
        RunFolder { folder: recipe_folder.join(format!("seed-{}", recipe.seed)) }
    }

    /// Where a plot lies.
    pub fn plot(&self, name: &str) -> PathBuf {
        self.root.join("plots").join(format!("{name}.svg"))
    }

    /// The plots that lie in the tree and are none of these.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn other_plots(&self, plots: &[(String, String)]) -> Result<Vec<PathBuf>> {
        let shown = |path: &PathBuf| plots.iter().any(|(name, _)| self.plot(name) == *path);
        let mut paths = entries(&self.root.join("plots"))?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "svg") && !shown(path));
        Ok(paths)
    }

    /// Stores a sweep and its plot, in a folder named after the processor and the hash of what it
    /// measures.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn store_sweep(
        &self,
        sweep: Sweep,
        points: Vec<BreakevenPoint>,
        environment: Environment,
    ) -> Result<StoredSweep> {
        let stored = StoredSweep { hash: digest(&sweep), sweep, points, environment };
        let StoredSweep { sweep, points, environment, .. } = &stored;
        let folder = self.sweep_folder(&stored);
        write_json(&folder.join("points.json"), points)?;
        write_json(&folder.join("environment.json"), environment)?;
        // Last: a folder without it is not yet one.
        write_json(&folder.join("sweep.json"), sweep)?;
        files::forget(&folder.join(PART))?;
        let (name, plot) = breakeven_plot(&stored)?;
        files::replace(&self.plot(&name), plot)?;
        Ok(stored)
    }

    /// Stores the points that a sweep has come to so far: what is left of it where it is cut. A whole sweep that
    /// was stored before stays until this one is whole.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn store_sweep_part(
        &self,
        sweep: &Sweep,
        points: &[BreakevenPoint],
        environment: &Environment,
    ) -> Result<()> {
        let (sweep, points, environment) = (sweep.clone(), points.to_vec(), environment.clone());
        let part = StoredSweep { hash: digest(&sweep), sweep, points, environment };
        write_json(&self.sweep_folder(&part).join(PART), &part)
    }

    fn sweep_folder(&self, stored: &StoredSweep) -> PathBuf {
        self.root.join("breakeven").join(slug(&stored.hardware())).join(&stored.hash)
    }

    /// The stored sweeps, in order of processor and hash; of one that was never finished, what there is of it.
    ///
    /// # Errors
    /// A folder that cannot be read, a file that is not what its name says.
    pub fn sweeps(&self) -> Result<Vec<StoredSweep>> {
        let mut sweeps = Vec::new();
        for processor in subfolders(&self.root.join("breakeven"))? {
            for folder in subfolders(&processor)? {
                if folder.join("sweep.json").exists() {
                    sweeps.push(StoredSweep {
                        hash: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                        sweep: read_json(&folder.join("sweep.json"))?,
                        points: read_json(&folder.join("points.json"))?,
                        environment: read_json(&folder.join("environment.json"))?,
                    });
                } else if folder.join(PART).exists() {
                    sweeps.push(read_json(&folder.join(PART))?);
                }
            }
        }
        Ok(sweeps)
    }

    /// Stores what was measured of a network at one batch size, in the place of an earlier measurement on the
    /// same hardware, and returns the folder.
    ///
    /// # Errors
    /// No rows; a folder that cannot be written.
    pub fn store_speedup(&self, speedup: &StoredSpeedup) -> Result<PathBuf> {
        let StoredSpeedup { rows, environment } = speedup;
        let Some(row) = rows.first() else {
            return Err(Error::argument("store a measurement", "at least one row", "none"));
        };
        let hardware = if row.device == "cpu" {
            format!("{} {} threads", environment.cpu, row.threads)
        } else {
            format!("{} {}", environment.gpu.as_deref().unwrap_or("gpu"), row.device)
        };
        let folder = self.root.join("speedup").join(slug(&hardware)).join(&row.network);
        let folder = folder.join(format!("batch-{}", row.batch));
        write_json(&folder.join("environment.json"), environment)?;
        // Last: a folder without them is not yet one.
        write_json(&folder.join("rows.json"), rows)?;
        Ok(folder)
    }

    /// The stored measurements of whole networks, in order of hardware, network and batch.
    ///
    /// # Errors
    /// A folder that cannot be read, a file that is not what its name says.
    pub fn speedups(&self) -> Result<Vec<StoredSpeedup>> {
        let mut speedups = Vec::new();
        for hardware in subfolders(&self.root.join("speedup"))? {
            for network in subfolders(&hardware)? {
                for folder in subfolders(&network)? {
                    if folder.join("rows.json").exists() {
                        speedups.push(StoredSpeedup {
                            rows: read_json(&folder.join("rows.json"))?,
                            environment: read_json(&folder.join("environment.json"))?,
                        });
                    }
                }
            }
        }
        Ok(speedups)
    }

    /// The networks that the experiments have folders of, in order of name: the zoo's, and those of its users.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn networks(&self) -> Result<BTreeSet<String>> {
        let mut networks = BTreeSet::new();
        for technique in Technique::ALL {
            let folders = subfolders(&self.root.join(technique.experiment()))?;
            let names = folders.iter().filter_map(|folder| folder.file_name());
            networks.extend(names.map(|name| name.to_string_lossy().into_owned()));
        }
        Ok(networks)
    }

    /// The runs of an experiment on a network that have a summary, in order of hash and seed.
    ///
    /// # Errors
    /// A folder that cannot be read, a file that is not what its name says.
    pub fn runs(&self, technique: Technique, network: &str) -> Result<Vec<StoredRun>> {
        let mut runs = Vec::new();
        for recipe in subfolders(&self.root.join(technique.experiment()).join(network))? {
            for folder in subfolders(&recipe)? {
                let folder = RunFolder { folder };
                if !folder.summary().exists() {
                    continue;
                }
                runs.push(folder.read()?);
            }
        }
        runs.sort_by(|a, b| (&a.hash, a.summary.seed).cmp(&(&b.hash, b.summary.seed)));
        Ok(runs)
    }
}

/// The folders in `folder`, in order of name; none where it does not exist.
fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = entries(folder)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

/// What lies in `folder`, in order of name; nothing where it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = || Error::io("read the folder", folder);
    let entries = fs::read_dir(folder).map_err(failed())?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;
    use serde::{Serialize, de::DeserializeOwned};

    #[test]
    fn stored_recipes_are_those_that_their_folders_name() {
        let tree = ResultsTree::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("results"));
        let mut seen = 0;
        for network in zoo::NAMES {
            for technique in Technique::ALL {
                for run in tree.runs(technique, network).unwrap() {
                    let recipe = Recipe::load(&run.folder.recipe()).unwrap();
                    let place = run.folder.path().display();
                    assert_eq!(tree.run(&recipe).path(), run.folder.path(), "{place}");
                    assert_eq!(
                        (recipe.validation_images, recipe.precision, recipe.quick),
                        (run.summary.validation_images, run.summary.precision, run.summary.quick),
                        "{place}"
                    );
                    seen += 1;
                }
            }
        }
        assert!(seen > 40, "{seen} runs of results/");
    }

    /// What is written of a value that was read: all that the file has, by the names of this version.
    fn same<T: Serialize + DeserializeOwned>(path: &Path) {
        let text = files::read_text(path).unwrap();
        let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        let read: T = serde_json::from_str(&text).unwrap();
        let renamed = |text: String| match text.as_str() {
            "\"traditional\"" => "\"magnitude\"".to_owned(),
            "\"both\"" => "\"combined\"".to_owned(),
            _ => text,
        };
        /// Each value with the path to it; those that say nothing are left out.
        fn leaves(value: &serde_json::Value, path: &str, all: &mut Vec<(String, String)>) {
            match value {
                serde_json::Value::Object(fields) => fields
                    .iter()
                    .for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), all)),
                serde_json::Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .for_each(|(place, value)| leaves(value, &format!("{path}/{place}"), all)),
                serde_json::Value::Null => {}
                value => all.push((path.to_owned(), value.to_string())),
            }
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        leaves(&stored, "", &mut before);
        leaves(&serde_json::to_value(&read).unwrap(), "", &mut after);
        let before: Vec<_> = before.into_iter().map(|(at, text)| (at, renamed(text))).collect();
        let lost = before.iter().find(|leaf| !after.contains(leaf));
        assert_eq!(lost, None, "{}", path.display());
    }

    #[test]
    fn stored_results_are_read_with_every_number_that_they_have() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let (mut folders, mut seen) = (vec![root], 0);
        while let Some(folder) = folders.pop() {
            for path in entries(&folder).unwrap() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match name.as_str() {
                    _ if path.is_dir() => folders.push(path),
                    "rows.json" => same::<Vec<super::super::speedup::SpeedupRow>>(&path),
                    "points.json" => same::<Vec<BreakevenPoint>>(&path),
                    "sweep.json" => same::<Sweep>(&path),
                    "summary.json" => same::<super::super::records::Summary>(&path),
                    "latency.json" => same::<super::super::records::Latency>(&path),
                    "durations.json" => same::<Vec<super::super::records::StageDuration>>(&path),
                    "environment.json" => same::<Environment>(&path),
                    _ => continue,
                }
                seen += 1;
            }
        }
        assert!(seen > 300, "{seen} files");
    }
}

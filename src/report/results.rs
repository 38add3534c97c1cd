//! The results tree: `<root>/<experiment>/<network>/<hash of the recipe>/seed-<n>/`. This file owns
//! all its paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::breakeven::{BreakevenPoint, StoredSweep, Sweep};
use super::environment::Environment;
use super::run_folder::{RunFolder, StoredRun};
use super::speedup::StoredSpeedup;
use crate::error::{Error, Result};
use crate::files;
use crate::timing::Timing;
use crate::train::recipe::{Precision, Recipe, Technique, digest};

/// The file of a sweep that is not finished.
const PART: &str = "part.json";

/// What a run came to: `summary.json`. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// A network of the zoo.
    pub network: String,
    /// How it was pruned.
    pub technique: Technique,
    /// What it was trained on: `mnist`, or `synthetic-digits`.
    pub dataset: String,
    /// Seed of the run.
    pub seed: u64,
    /// Whether the recipe was the short one.
    pub quick: bool,
    /// Where set: accuracies are on the last so many training images, held out, not on the test set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<usize>,
    /// Numbers in which the layers multiplied during training.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// SHA-256 of the file with the original network's weights, where that was not trained in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_weights: Option<String>,
    /// After the original training.
    pub accuracy_before: f64,
    /// After the last stage; best by test accuracy where the stage keeps the best, as the authors
    /// took it.
    pub accuracy_after: f64,
    /// After the last epoch of the last stage.
    pub accuracy_after_last_epoch: f64,
    /// The layers that node pruning masks, in order.
    pub node_layers: Vec<String>,
    /// Living nodes of each; empty without node pruning.
    pub nodes_kept: Vec<usize>,
    /// All nodes of each.
    pub nodes_total: Vec<usize>,
    /// Weights of the network, biases not counted.
    pub weights_total: usize,
    /// Weights that are left.
    pub weights_kept: usize,
    /// Weights and biases of the original network, in bytes.
    pub bytes_dense: usize,
    /// The pruned network, stored, indices included: compacted after node pruning, in groups after
    /// SIMD-aware pruning.
    pub bytes_pruned: usize,
    /// What each stage came to.
    pub stages: Vec<StageSummary>,
}

/// What a stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Its name in the recipe.
    pub name: String,
    /// Accuracy of what it kept.
    pub accuracy: f64,
    /// Accuracy after its last epoch.
    pub accuracy_last_epoch: f64,
    /// Of what it kept and after its last epoch, by the five highest scores, where there are many
    /// classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<[f64; 2]>,
    /// Living nodes of each mask; empty without masks.
    pub nodes_kept: Vec<usize>,
    /// Weights that are left.
    pub weights_kept: usize,
}

/// How long a stage's epochs took, their scoring included: `durations.json` has one for each stage, where all
/// were counted. Those of stages that other recipes begin with, too, are of when they were trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageDuration {
    /// Its name in the recipe.
    pub name: String,
    /// By the wall, interruptions not counted.
    pub seconds: f64,
}

impl Summary {
    /// Whether digits drawn by this program took the place of the data set.
    pub fn is_synthetic(&self) -> bool {
        self.dataset.starts_with("synthetic")
    }
}

/// Measured inference times of the network before and after: `latency.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The library that ran all but ours.
    pub library: String,
    /// Threads that it used.
    pub threads: usize,
    /// Where and when; the network may have been trained elsewhere.
    pub environment: Environment,
    /// One row per batch size.
    pub rows: Vec<LatencyRow>,
}

/// Times of one batch of images, by candidate: `dense`, `masked`, `compacted`, all in libtorch, and
/// `scalpel`, the pruned network on our own kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Images in the batch.
    pub batch: usize,
    /// Seconds per batch.
    pub times: BTreeMap<String, Timing>,
}

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
        let (name, plot) = stored.plot()?;
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

/// A name as a folder or a file is called.
pub(super) fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    name.chars().map(plain).collect::<String>().split_whitespace().collect::<Vec<_>>().join("-")
}

/// Writes a value as indented JSON, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::argument(format!("write {}", path.display()), "finite numbers", error.to_string())
    })?;
    files::replace(path, text + "\n")
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&files::read_text(path)?).map_err(|error| {
        let expected = "the JSON that a run of this version writes";
        Error::malformed(path.display().to_string(), expected, error.to_string())
    })
}

pub(super) fn read_json_where_it_is<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
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
}

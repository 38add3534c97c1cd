//! Pre-pruned models with their cards: what a run came to, small enough to be kept beside the code. Where the
//! training of the original took long it lies there too, for others to prune.
//!
//! `zoo/<name>.safetensors` holds a compacted network in the format that its pruning made it for,
//! `zoo/<name>.toml` says where it comes from and what it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Preprocessing;
use crate::data::fetch::sha256;
use crate::error::{Error, Result};
use crate::files;
use crate::prune::compact::{compact, living_nodes};
use crate::report::{ResultsTree, StoredRun};
use crate::sparse::{Format, Model};
use crate::train::recipe::{Precision, Recipe, Technique};
use crate::train::{original_path, weights_path};

/// What a card says of a model. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// A network of the zoo.
    pub network: String,
    /// How it was pruned; the original network, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<Technique>,
    /// Hash of the recipe: its results lie under it.
    pub recipe: String,
    /// Seed of the run.
    pub seed: u64,
    /// What it was trained and tested on.
    pub dataset: String,
    /// On the test set, of these very weights. Where the recipe's last stage keeps its best epoch,
    /// that epoch was chosen by this number, as the authors did.
    pub accuracy: f64,
    /// After the last epoch of the last stage, which chooses nothing.
    pub accuracy_last_epoch: f64,
    /// Of the original network.
    pub accuracy_before: f64,
    /// Living nodes of each masked layer; empty where no node was pruned.
    pub nodes_kept: Vec<usize>,
    /// Weights of the original network, biases not counted.
    pub weights_total: usize,
    /// Weights that are left.
    pub weights_kept: usize,
    /// `dense`, `groups of 8`, `csr`: how the weights are stored.
    pub format: String,
    /// Weights and biases of the original network.
    pub bytes_dense: usize,
    /// Those of this one, indices included.
    pub bytes: usize,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Hardware, date and commit of the training.
    pub trained: String,
    /// How intensities become the inputs that it was trained on.
    pub pixels: Preprocessing,
}

/// A model's file and its card in the folder of models.
fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.safetensors")), folder.join(format!("{name}.toml")))
}

/// Which of a run's networks a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// As the first stage trained it.
    Original,
    /// As the last stage left it.
    Pruned,
}

/// The name of a model: its network, its technique, and what sets the run apart from the plain recipe, where that is
/// another: the variant, the precision, the original that it was given (the first twelve digits of its SHA-256):
/// `nin-simd-pruning-short-f32`, `lenet-5-node-pruning-from-0123456789ab`.
pub fn name(
    recipe: &Recipe,
    variant: Option<&str>,
    precision: Option<Precision>,
    which: Which,
) -> String {
    let technique = match which {
        Which::Original => "original",
        Which::Pruned => recipe.technique.experiment(),
    };
    let original = recipe.original_weights.as_ref();
    let original = original.map(|sha256| format!("from-{}", sha256.get(..12).unwrap_or(sha256)));
    let precision = precision.map(Precision::name);
    let parts = [Some(&*recipe.network), Some(technique), variant, precision, original.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-").replace('_', "-")
}

/// Puts one of a finished run's networks into `folder`, under that name.
///
/// # Errors
/// A run that is not finished here, or was no full one on the real data; a file that cannot be
/// written.
pub fn publish(
    recipe: &Recipe,
    which: Which,
    name: &str,
    results: &ResultsTree,
    checkpoints: &Path,
    folder: &Path,
) -> Result<Card> {
    let run = results.run(recipe);
    let experiment = recipe.technique.experiment();
    let missing = |what: &Path| Error::Unavailable {
        what: format!("the result of {experiment} on {}, seed {}", recipe.network, recipe.seed),
        reason: format!("{} is not there", what.display()),
        remedy: format!("run {experiment} to its end with the same --results and --checkpoints"),
    };
    let weights_path = match which {
        Which::Original => original_path(checkpoints, recipe, &recipe.dataset),
        Which::Pruned => weights_path(checkpoints, recipe, &recipe.dataset),
    };
    for path in [run.summary(), weights_path.clone()] {
        if !path.exists() {
            return Err(missing(&path));
        }
    }
    let stored = run.read()?;
    let summary = &stored.summary;
    if summary.quick || summary.validation_images.is_some() || summary.is_synthetic() {
        let expected = "a full run that was scored on the real test set";
        return Err(Error::argument("publish a model", expected, "a quick or a trial run"));
    }
    let format = match which {
        Which::Original => Format::Dense,
        Which::Pruned => recipe.storage_format(),
    };
    let (model, nodes_kept) = compacted(recipe, &weights_path, format)?;
    let bytes = model.to_bytes()?;
    let card = card_of(recipe, which, &stored, (&model, &bytes, format), nodes_kept)?;
    let (file, toml) = paths(folder, name);
    let text = toml::to_string(&card)
        .map_err(|error| Error::argument("write a card", "finite numbers", error.to_string()))?;
    // The card last: a model without one is not yet published.
    files::replace(&file, bytes)?;
    files::replace(&toml, text)?;
    Ok(card)
}

/// A run's weights without the nodes that their masks block, and the nodes that are kept.
fn compacted(recipe: &Recipe, path: &Path, format: Format) -> Result<(Model, Vec<usize>)> {
    let original = recipe.original_network()?;
    let masked = Model::load(path)?;
    let weights = masked.to_weights()?;
    let network = masked.network().unwrap_or(&original);
    let masks = weights.node_masks(network)?;
    let nodes_kept = living_nodes(&original, network, &masks)?;
    let (small, small_weights) = compact(network, &weights, &masks)?;
    Ok((Model::new(&small_weights, Some(&small), format)?, nodes_kept))
}

/// What is to be said of a model.
fn card_of(
    recipe: &Recipe,
    which: Which,
    stored: &StoredRun,
    (model, bytes, format): (&Model, &[u8], Format),
    nodes_kept: Vec<usize>,
) -> Result<Card> {
    let (summary, environment) = (&stored.summary, &stored.environment);
    let (stage, technique) = match which {
        Which::Original => (summary.stages.first(), None),
        Which::Pruned => (summary.stages.last(), Some(recipe.technique)),
    };
    let stage =
        stage.ok_or_else(|| Error::malformed("summary.json", "at least one stage", "none"))?;
    Ok(Card {
        network: recipe.network.clone(),
        technique,
        recipe: stored.hash.clone(),
        seed: recipe.seed,
        dataset: summary.dataset.clone(),
        accuracy: stage.accuracy,
        accuracy_last_epoch: stage.accuracy_last_epoch,
        accuracy_before: summary.accuracy_before,
        nodes_kept,
        weights_total: summary.weights_total,
        weights_kept: stage.weights_kept,
        format: format.to_string(),
        bytes_dense: summary.bytes_dense,
        bytes: model.bytes().total(),
        sha256: sha256(bytes),
        trained: format!(
            "{}, {}, commit {}",
            environment.hardware(),
            environment.date,
            environment.commit.as_deref().unwrap_or("unknown")
        ),
        pixels: recipe.pixels.clone(),
    })
}

/// A published model: its card and its weights, in the network that the file describes.
///
/// # Errors
/// A name that is not in the folder; a file that is not the one its card speaks of.
pub fn open(folder: &Path, name: &str) -> Result<(Card, Model)> {
    let (file, toml) = paths(folder, name);
    if !toml.exists() {
        let what = format!("model in {}", folder.display());
        return Err(match names(folder) {
            none if none.is_empty() => Error::argument(what, "a folder with models in it", name),
            known => Error::unknown(what, known, name),
        });
    }
    let card = card(folder, name)?;
    let bytes = files::read(&file)?;
    let found = sha256(&bytes);
    if found != card.sha256 {
        return Err(Error::Checksum { path: file, expected: card.sha256, found });
    }
    let model = Model::from_bytes(&bytes, &file.display().to_string())?;
    Ok((card, model))
}

/// The share of the weights that each model in a folder keeps, by name, as their cards say.
///
/// # Errors
/// A card that is none.
pub fn kept_shares(folder: &Path) -> Result<BTreeMap<String, f64>> {
    let share = |name: String| {
        let card = card(folder, &name)?;
        Ok((name, card.weights_kept as f64 / card.weights_total.max(1) as f64))
    };
    names(folder).into_iter().map(share).collect()
}

/// The card of a model.
fn card(folder: &Path, name: &str) -> Result<Card> {
    let (_, toml) = paths(folder, name);
    toml::from_str(&files::read_text(&toml)?).map_err(|error| {
        Error::malformed(toml.display().to_string(), "a model's card", error.to_string())
    })
}

/// The models in a folder, in order of name.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some(name.strip_suffix(".toml")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

#[cfg(all(test, feature = "torch"))]
mod tests;

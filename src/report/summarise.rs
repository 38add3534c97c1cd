//! From what a run came to, to what it leaves in the results tree.

use std::fmt::Write as _;

use super::environment::Environment;
use super::results::{Latency, RunFolder, StageSummary, Summary, write_json};
use crate::error::{Error, Result};
use crate::files;
use crate::prune::compact::compact;
use crate::sparse::{Format, Model};
use crate::train::recipe::{Prune, Recipe};
use crate::train::{EpochMetrics, Outcome};

/// The width of the groups in which a network is stored: that of its last SIMD-pruning stage.
fn group_width(recipe: &Recipe) -> Option<usize> {
    recipe.stages.iter().rev().find_map(|stage| match stage.prune {
        Some(Prune::Simd { width, .. }) => Some(width),
        _ => None,
    })
}

/// Sums a run up: accuracies, what is left, and its exact size.
///
/// # Errors
/// An outcome with no stages; masks that cannot be compacted.
pub fn summarise(recipe: &Recipe, dataset: &str, outcome: &Outcome) -> Result<Summary> {
    let network = &outcome.network;
    let percent = |correct: usize| 100.0 * correct as f64 / outcome.test_total.max(1) as f64;
    let (Some(first), Some(last)) = (outcome.stages.first(), outcome.stages.last()) else {
        return Err(Error::argument("sum a run up", "at least one stage", "none"));
    };
    let dense = Model::new(&outcome.weights, None, Format::Dense)?.bytes().total();
    let weights_total = outcome.weights.count_kept(network)?.1;
    let masks = outcome.weights.node_masks(network)?;
    let (_, small_weights) = compact(network, &outcome.weights, &masks)?;
    let format = group_width(recipe).map_or(Format::Dense, Format::Groups);
    let pruned = Model::new(&small_weights, None, format)?.bytes().total();
    let sites = network.mask_sites()?;
    let stages = outcome.stages.iter().map(|stage| StageSummary {
        name: stage.name.clone(),
        accuracy: percent(stage.correct),
        accuracy_last_epoch: percent(stage.correct_last_epoch),
        nodes_kept: stage.nodes_kept.clone(),
        weights_kept: stage.weights_kept,
    });
    Ok(Summary {
        network: network.name.clone(),
        technique: recipe.technique,
        dataset: dataset.to_owned(),
        seed: recipe.seed,
        quick: recipe.quick,
        accuracy_before: percent(first.correct),
        accuracy_after: percent(last.correct),
        accuracy_after_last_epoch: percent(last.correct_last_epoch),
        node_layers: sites.iter().map(|site| network.layers[site.producer].name.clone()).collect(),
        nodes_kept: last.nodes_kept.clone(),
        nodes_total: sites.iter().map(|site| site.nodes).collect(),
        weights_total,
        weights_kept: last.weights_kept,
        bytes_dense: dense,
        bytes_pruned: pruned,
        stages: stages.collect(),
    })
}

/// Writes a run's files, the summary last: a folder with a summary is complete. Where nothing was
/// left to train, the environment of the training stays.
///
/// # Errors
/// What the file system refuses.
pub fn write_run(
    folder: &RunFolder,
    recipe: &Recipe,
    outcome: &Outcome,
    summary: &Summary,
    environment: &Environment,
    latency: Option<&Latency>,
) -> Result<()> {
    files::replace(&folder.recipe(), recipe.to_toml()?)?;
    let rows = outcome.stages.iter().flat_map(|stage| &stage.metrics);
    files::replace(&folder.metrics(), metrics_csv(rows, &summary.node_layers))?;
    if outcome.trained || !folder.environment().exists() {
        write_json(&folder.environment(), environment)?;
    }
    if let Some(latency) = latency {
        write_json(&folder.latency(), latency)?;
    }
    write_json(&folder.summary(), summary)
}

/// A row per epoch; a column of living nodes per masked layer, empty while nothing is masked.
fn metrics_csv<'a>(rows: impl Iterator<Item = &'a EpochMetrics>, node_layers: &[String]) -> String {
    let mut text = String::from("stage,epoch,learning_rate,train_loss,test_accuracy");
    for layer in node_layers {
        text.push_str(",nodes_");
        text.push_str(layer);
    }
    text.push('\n');
    for row in rows {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{},{},{},{},{}",
            row.stage,
            row.epoch,
            row.learning_rate,
            row.train_loss,
            row.accuracy()
        );
        for index in 0..node_layers.len() {
            let _ = match row.nodes_kept.get(index) {
                Some(nodes) => write!(text, ",{nodes}"),
                None => write!(text, ","),
            };
        }
        text.push('\n');
    }
    text
}

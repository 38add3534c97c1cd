//! What a run leaves as JSON: its summary, how long it took, how fast it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use crate::timing::Timing;
use crate::train::recipe::{Precision, Technique};

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

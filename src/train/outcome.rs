//! What a run of a recipe came to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::{Network, Weights};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The network that the recipe names.
    pub network: Network,
    /// The final weights, masks among them.
    pub weights: Weights,
    /// Where they lie.
    pub path: PathBuf,
    /// Test images.
    pub test_total: usize,
    /// Whether anything was left to train, or all of it lay finished on the disk.
    pub trained: bool,
    /// What each stage came to, in order.
    pub stages: Vec<StageOutcome>,
}

/// What one stage of a run came to.
#[derive(Clone, Debug)]
pub struct StageOutcome {
    /// Its name in the recipe.
    pub name: String,
    /// Correct test images of the weights that it kept.
    pub correct: usize,
    /// Correct test images after its last epoch.
    pub correct_last_epoch: usize,
    /// Living nodes of each mask of the weights that it kept; empty without masks.
    pub nodes_kept: Vec<usize>,
    /// Weights that are left once blocked nodes are removed, zeros not counted, biases not counted.
    pub weights_kept: usize,
    /// A row per epoch.
    pub metrics: Vec<EpochMetrics>,
}

/// What one epoch of training came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The stage's name.
    pub stage: String,
    /// Epoch of the stage, by its number.
    pub epoch: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Mean loss over the epoch's images, each before the step that it took part in.
    pub train_loss: f64,
    /// Test images that were classified correctly.
    pub test_correct: usize,
    /// Test images.
    pub test_total: usize,
    /// Living nodes of each mask, in order; empty where there are no masks.
    pub nodes_kept: Vec<usize>,
}

impl EpochMetrics {
    /// Test accuracy in percent.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.test_correct as f64 / self.test_total.max(1) as f64
    }
}

//! What a run of a recipe came to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use crate::network::{Network, Weights};

/// The folder of a stage's checkpoints and result.
pub(super) fn stage_folder(checkpoints: &Path, hash: &str, seed: u64) -> PathBuf {
    checkpoints.join(hash).join(format!("seed-{seed}"))
}

/// Where the final weights of a recipe's run lie once it is done; `dataset` is the data set that was
/// really there.
pub fn weights_path(checkpoints: &Path, recipe: &Recipe, dataset: &str) -> PathBuf {
    stage_weights_path(checkpoints, recipe, recipe.stages.len().saturating_sub(1), dataset)
}

/// Where the weights of the original network lie, which the first stage trained: as [`weights_path`].
pub fn original_path(checkpoints: &Path, recipe: &Recipe, dataset: &str) -> PathBuf {
    stage_weights_path(checkpoints, recipe, 0, dataset)
}

pub(super) fn stage_weights_path(
    checkpoints: &Path,
    recipe: &Recipe,
    stage: usize,
    dataset: &str,
) -> PathBuf {
    let hash = recipe.stage_hash(stage, dataset);
    stage_folder(checkpoints, &hash, recipe.seed).join(WEIGHTS)
}

/// The file of the original's weights, and of the final ones, beside the result of their stage.
const WEIGHTS: &str = "weights.safetensors";

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The network that the recipe names.
    pub original: Network,
    /// What the last stage trained: smaller than the original where nodes are gone for good.
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
    /// Both by the five highest scores, where there are many classes.
    pub top5: Option<[usize; 2]>,
    /// Living nodes of each masked layer of the weights that it kept; empty where none was pruned.
    pub nodes_kept: Vec<usize>,
    /// Weights that are left once blocked nodes are removed, zeros not counted, biases not counted.
    pub weights_kept: usize,
    /// A row per epoch.
    pub metrics: Vec<EpochMetrics>,
    /// Seconds that its epochs took, their scoring included; `None` where not all of them were counted.
    pub seconds: Option<f64>,
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
    /// Test images whose class is among the five highest scores, where there are many classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_correct_top5: Option<usize>,
    /// Test images.
    pub test_total: usize,
    /// Living nodes of each masked layer, in order; empty where no node is pruned.
    pub nodes_kept: Vec<usize>,
}

impl EpochMetrics {
    /// Test accuracy in percent.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.test_correct as f64 / self.test_total.max(1) as f64
    }
}

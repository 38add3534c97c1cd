//! A whole recipe: its stages one after another, each done once.

use std::path::{Path, PathBuf};

use tch::Device;

use super::checkpoint::StageFolder;
use super::images::ImageTensors;
use super::initial::initial_weights;
use super::outcome::{Outcome, StageOutcome};
use super::recipe::Recipe;
use super::stage::{Context, Observer, Trainer, counts};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files;
use crate::network::{Weights, zoo};
use crate::prune::compact::compact;

/// A recipe about to be run.
#[derive(Debug)]
pub struct Run<'a> {
    /// What to do.
    pub recipe: &'a Recipe,
    /// What to do it on.
    pub dataset: &'a Dataset,
    /// Where to do it.
    pub device: Device,
    /// Where the stages' checkpoints and results lie.
    pub checkpoints: &'a Path,
}

impl Run<'_> {
    /// Runs the stages that are not done yet, from the last checkpoint of the one at work.
    ///
    /// # Errors
    /// A loss that is no longer finite; a checkpoint of another run; a full disk. What was done
    /// before stays.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Outcome> {
        let recipe = self.recipe;
        let network = zoo::by_name(&recipe.network)?;
        if self.dataset.train.shape != network.input {
            let expected = format!("images of shape {:?} for {}", network.input, network.name);
            let found = format!("{:?} of {}", self.dataset.train.shape, self.dataset.name);
            return Err(Error::argument("train", expected, found));
        }
        let limit = recipe.train_images;
        let train = ImageTensors::new(&self.dataset.train, &recipe.pixels, limit, self.device)?;
        let test = ImageTensors::new(&self.dataset.test, &recipe.pixels, None, self.device)?;
        let context =
            Context { recipe, network: &network, train: &train, test: &test, device: self.device };

        let mut weights = initial_weights(&network, &recipe.initial, recipe.seed)?;
        let mut outcome = Outcome {
            network: network.clone(),
            weights: Weights::default(),
            path: PathBuf::new(),
            test_total: test.len(),
            trained: false,
            stages: Vec::new(),
        };
        for (index, stage) in recipe.stages.iter().enumerate() {
            let hash = recipe.stage_hash(index, &self.dataset.name);
            let (root, name) = (self.checkpoints, &network.name);
            let folder = StageFolder::open(root, name, &stage.name, &hash, recipe.seed)?;
            let finished = folder.read(&folder.result())?;
            let checkpoint = match finished {
                Some(checkpoint) => checkpoint,
                None => {
                    outcome.trained = true;
                    let progress = folder.read(&folder.progress())?;
                    let done =
                        progress.as_ref().map_or(0, |checkpoint| checkpoint.state.epochs_done);
                    let later = &recipe.stages[index + 1..];
                    let to_come = stage.epochs.saturating_sub(done)
                        + later.iter().map(|s| s.epochs).sum::<usize>();
                    observer.stage(stage, done, to_come);
                    let trainer = Trainer::new(&context, index, &weights, &folder, progress)?;
                    let checkpoint = trainer.run(&folder, observer)?;
                    folder.write(&folder.result(), &checkpoint)?;
                    checkpoint
                }
            };
            folder.forget_progress();
            weights = checkpoint.kept;
            let masks = weights.node_masks(&network)?;
            let (small, small_weights) = compact(&network, &weights, &masks)?;
            let last = checkpoint.state.metrics.last();
            outcome.stages.push(StageOutcome {
                name: stage.name.clone(),
                correct: checkpoint.state.correct_kept,
                correct_last_epoch: last
                    .map_or(checkpoint.state.correct_at_start, |m| m.test_correct),
                nodes_kept: counts(&network, &masks)?,
                weights_kept: small_weights.count_kept(&small)?.0,
                metrics: checkpoint.state.metrics,
            });
            outcome.path = folder.result().with_file_name("weights.safetensors");
        }
        let bytes = weights.to_bytes(None)?;
        if !outcome.path.exists() || files::read(&outcome.path)? != bytes {
            files::replace(&outcome.path, bytes)?;
        }
        outcome.weights = weights;
        Ok(outcome)
    }
}

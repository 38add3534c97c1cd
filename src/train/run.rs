//! A whole recipe: its stages one after another, each done once.

use std::path::{Path, PathBuf};

use tch::Device;

use super::checkpoint::StageFolder;
use super::initial::initial_weights;
use super::outcome::{Outcome, StageOutcome, stage_weights_path};
use super::recipe::Recipe;
use super::stage::{Context, Observer, Trainer};
use super::subsets::{self, Subset};
use crate::data::Data;
use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, Weights, zoo};
use crate::prune::compact::{compact, living_nodes};
use crate::sparse::{Format, Model};

/// A recipe about to be run.
#[derive(Debug)]
pub struct Run<'a> {
    /// What to do.
    pub recipe: &'a Recipe,
    /// What to do it on.
    pub data: &'a Data,
    /// The original network's weights, where the recipe begins from trained ones.
    pub original: Option<&'a Weights>,
    /// Where to do it.
    pub device: Device,
    /// Where the stages' checkpoints and results lie.
    pub checkpoints: &'a Path,
}

impl Run<'_> {
    /// What the first stage starts from.
    fn first_weights(&self, network: &Network) -> Result<Weights> {
        let refused = |expected: &str, found: &str| {
            Err(Error::argument("run a recipe", expected, format!("{found} for {}", network.name)))
        };
        match (&self.recipe.original_weights, self.original) {
            (None, None) => initial_weights(network, &self.recipe.initial, self.recipe.seed),
            (Some(_), Some(weights)) => {
                weights.check(network)?;
                if !weights.node_masks(network)?.is_empty() {
                    return refused("an original network, no node of it masked", "masks");
                }
                Ok(weights.clone())
            }
            (Some(_), None) => refused("the weights that the recipe begins from", "none"),
            (None, Some(_)) => refused("a recipe that begins from given weights", "another"),
        }
    }

    /// Runs the stages that are not done yet, from the last checkpoint of the one at work.
    ///
    /// # Errors
    /// A loss that is no longer finite; a checkpoint of another run; given weights that are not the original
    /// network's; a full disk. What was done before stays.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Outcome> {
        let recipe = self.recipe;
        let original = zoo::by_name(&recipe.network)?;
        // Given weights are refused before the pixels are prepared, which takes its time.
        let mut weights = self.first_weights(&original)?;
        let train = subsets::open(recipe, self.data, Subset::Train, self.device)?;
        let test = subsets::open(recipe, self.data, Subset::Test, self.device)?;
        let device = self.device;
        let mut network = original.clone();
        let mut outcome = Outcome {
            original: original.clone(),
            network: original.clone(),
            weights: Weights::default(),
            path: PathBuf::new(),
            test_total: test.len(),
            trained: false,
            stages: Vec::new(),
        };
        for (index, stage) in recipe.stages.iter().enumerate() {
            if stage.compact {
                (network, weights) = compact(&network, &weights, &weights.node_masks(&network)?)?;
            }
            let (train, test) = (train.as_ref(), test.as_ref());
            let context =
                Context { recipe, original: &original, network: &network, train, test, device };
            let hash = recipe.stage_hash(index, self.data.name());
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
            let (kept, start) = (checkpoint.state.top5_kept, checkpoint.state.top5_at_start);
            let last_top5 = last.map_or(start, |metrics| metrics.test_correct_top5);
            outcome.stages.push(StageOutcome {
                name: stage.name.clone(),
                correct: checkpoint.state.correct_kept,
                correct_last_epoch: last
                    .map_or(checkpoint.state.correct_at_start, |m| m.test_correct),
                top5: kept.zip(last_top5).map(|(kept, last)| [kept, last]),
                nodes_kept: living_nodes(&original, &network, &masks)?,
                weights_kept: small_weights.count_kept(&small)?.0,
                metrics: checkpoint.state.metrics,
                seconds: checkpoint.state.seconds,
            });
            if index == 0 || index + 1 == recipe.stages.len() {
                // A network that is no longer the zoo's is described in the file.
                let described = (network != original).then_some(&network);
                let bytes = Model::new(&weights, described, Format::Dense)?.to_bytes()?;
                outcome.path = stage_weights_path(root, recipe, index, self.data.name());
                if !outcome.path.exists() || files::read(&outcome.path)? != bytes {
                    files::replace(&outcome.path, bytes)?;
                }
            }
        }
        (outcome.network, outcome.weights) = (network, weights);
        Ok(outcome)
    }
}

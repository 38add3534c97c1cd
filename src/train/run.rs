//! A whole recipe: its stages one after another, each done once.

use std::path::{Path, PathBuf};

use tch::Device;

use super::checkpoint::{Checkpoint, StageFolder, State};
use super::initial::initial_weights;
use super::outcome::{Outcome, StageOutcome, stage_weights_path};
use super::recipe::Recipe;
use super::stage::{Context, Observer, Trainer};
use super::subsets::{self, Subset};
use super::weight_masks::ordered;
use crate::data::Data;
use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, Weights};
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
        let original = recipe.original_network()?;
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
            weights = ordered(stage, &network, weights)?;
            let (train, test) = (train.as_ref(), test.as_ref());
            let context =
                Context { recipe, original: &original, network: &network, train, test, device };
            let (checkpoint, trained) = self.stage(&context, index, &weights, observer)?;
            outcome.trained |= trained;
            weights = checkpoint.kept;
            let stage = stage_outcome(&context, &stage.name, checkpoint.state, &weights)?;
            outcome.stages.push(stage);
            if index == 0 || index + 1 == recipe.stages.len() {
                outcome.path = self.store(&context, index, &weights)?;
            }
        }
        (outcome.network, outcome.weights) = (network, weights);
        Ok(outcome)
    }

    /// What a stage comes to: read where it is done, else trained from its last checkpoint, and then said to be.
    fn stage(
        &self,
        context: &Context<'_>,
        index: usize,
        weights: &Weights,
        observer: &mut dyn Observer,
    ) -> Result<(Checkpoint, bool)> {
        let stages = &self.recipe.stages;
        let stage = &stages[index];
        let hash = self.recipe.stage_hash(index, self.data.name());
        let name = &context.network.name;
        let folder =
            StageFolder::open(self.checkpoints, name, &stage.name, &hash, self.recipe.seed)?;
        let finished = folder.read(&folder.result())?;
        let trained = finished.is_none();
        let checkpoint = match finished {
            Some(checkpoint) => checkpoint,
            None => {
                let progress = folder.read(&folder.progress())?;
                let done = progress.as_ref().map_or(0, |checkpoint| checkpoint.state.epochs_done);
                let later = stages[index + 1..].iter().map(|stage| stage.epochs).sum::<usize>();
                observer.stage(stage, done, stage.epochs.saturating_sub(done) + later);
                let trainer = Trainer::new(context, index, weights, &folder, progress)?;
                let checkpoint = trainer.run(&folder, observer)?;
                folder.write(&folder.result(), &checkpoint)?;
                checkpoint
            }
        };
        folder.forget_progress();
        Ok((checkpoint, trained))
    }

    /// Stores what the first or the last stage came to, and says where.
    fn store(&self, context: &Context<'_>, index: usize, weights: &Weights) -> Result<PathBuf> {
        // A network that is no longer the zoo's is described in the file.
        let described = (context.network != context.original).then_some(context.network);
        let bytes = Model::new(weights, described, Format::Dense)?.to_bytes()?;
        let path = stage_weights_path(self.checkpoints, self.recipe, index, self.data.name());
        if !path.exists() || files::read(&path)? != bytes {
            files::replace(&path, bytes)?;
        }
        Ok(path)
    }
}

/// A stage's result: how right its network is, and what is left of it.
fn stage_outcome(
    context: &Context<'_>,
    name: &str,
    state: State,
    weights: &Weights,
) -> Result<StageOutcome> {
    let (original, network) = (context.original, context.network);
    let masks = weights.node_masks(network)?;
    let (small, small_weights) = compact(network, weights, &masks)?;
    let last = state.metrics.last();
    let last_top5 = last.map_or(state.top5_at_start, |metrics| metrics.test_correct_top5);
    Ok(StageOutcome {
        name: name.to_owned(),
        correct: state.correct_kept,
        correct_last_epoch: last.map_or(state.correct_at_start, |m| m.test_correct),
        top5: state.top5_kept.zip(last_top5).map(|(kept, last)| [kept, last]),
        nodes_kept: living_nodes(original, network, &masks)?,
        weights_kept: small_weights.count_kept(&small)?.0,
        metrics: state.metrics,
        seconds: state.seconds,
    })
}

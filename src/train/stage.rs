//! One stage of a recipe: epochs of gradient descent, with its pruning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tch::{Device, Reduction, Tensor};

use super::checkpoint::{Checkpoint, StageFolder, State};
use super::images::{Batch, Images, Order, Score, score};
use super::losses::Losses;
use super::node_masks::{NodeStage, StraightThroughMasks};
use super::outcome::EpochMetrics;
use super::parameters::{apply_mask, mask_tensors, mean_of, parameters_of};
use super::precision::working_copy;
use super::recipe::{Keep, Prune, Recipe, Stage};
use super::sgd::Sgd;
use super::weight_masks::{pruned_softly, weight_masks};
use crate::error::{Error, Result};
use crate::network::{Network, Weights};
use crate::prune::{self, compact::living_nodes};
use crate::seed;
use crate::torch::MemoryFormat;
use crate::torch::{Mode, Tensors, forward, to_array, to_tensor};

/// Told how a run goes on. Every method does nothing unless it is overridden.
pub trait Observer {
    /// A stage begins or goes on; so many of its epochs were done before, and so many are to come
    /// in this stage and all later ones.
    fn stage(&mut self, _stage: &Stage, _epochs_done: usize, _epochs_to_come: usize) {}
    /// So many of an epoch's batches are done.
    fn batch(&mut self, _done: usize, _batches: usize) {}
    /// An epoch is done and its checkpoint is written.
    fn epoch(&mut self, _metrics: &EpochMetrics) {}
}

/// Observes nothing.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {}

/// What a stage works with.
pub(super) struct Context<'a> {
    pub recipe: &'a Recipe,
    /// As the zoo has it.
    pub original: &'a Network,
    /// As this stage trains it: smaller where nodes are gone for good.
    pub network: &'a Network,
    pub train: &'a dyn Images,
    pub test: &'a dyn Images,
    pub device: Device,
}

/// A stage at work: the weights on the device and all that changes with them.
pub(super) struct Trainer<'a> {
    context: &'a Context<'a>,
    stage: &'a Stage,
    index: usize,
    format: MemoryFormat,
    parameters: Tensors,
    trained: Vec<String>,
    mask_tensors: StraightThroughMasks,
    weight_masks: BTreeMap<String, Tensor>,
    /// Parameters whose masks do not hold during the stage's soft epochs.
    soft: BTreeSet<String>,
    sgd: Sgd,
    state: State,
    kept: Weights,
}

/// What a stage does with the masks of nodes, if it prunes them.
fn node_stage(prune: Option<&Prune>) -> Option<NodeStage<'_>> {
    match prune {
        Some(Prune::Node { target, stop_at, .. }) => Some(NodeStage { target: *target, stop_at }),
        _ => None,
    }
}

/// The optimiser of a recipe's stage.
fn optimiser(recipe: &Recipe, stage: &Stage, network: &Network) -> Result<Sgd> {
    let factor = stage.weight_decay_factor.unwrap_or(1.0);
    let (mut decays, factors) =
        (recipe.weight_decay_of.scaled(factor), recipe.learning_rate_factor_of.clone());
    for site in network.mask_sites()? {
        decays.insert(format!("{}.beta", site.name), 0.0);
    }
    Ok(Sgd::new(recipe.momentum, factor * recipe.weight_decay, decays, factors))
}

impl<'a> Trainer<'a> {
    /// Begins stage `index` from `start`, or goes on from its checkpoint.
    pub fn new(
        context: &'a Context<'a>,
        index: usize,
        start: &Weights,
        folder: &StageFolder,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self> {
        let (recipe, network, device) = (context.recipe, context.network, context.device);
        let stage = &recipe.stages[index];
        let format = MemoryFormat::PREFERRED;
        let mut masks = weight_masks(recipe, index, network, start)?;
        let by_now = checkpoint.as_ref().filter(|checkpoint| checkpoint.state.epochs_done > 0);
        let is_left = by_now.map_or(start, |checkpoint| &checkpoint.weights);
        let is_left = pruned_softly(stage, network, is_left)?;
        let soft = is_left.keys().cloned().collect();
        if by_now.is_some() {
            masks.extend(is_left);
        }
        let mut begin = start.clone();
        for (name, array) in begin.iter_mut() {
            if let Some(mask) = masks.get(name) {
                prune::apply(name, array, mask)?;
            }
        }
        let weights = checkpoint.as_ref().map_or(&begin, |checkpoint| &checkpoint.weights);
        let node_stage = node_stage(stage.prune.as_ref());
        let (parameters, trained) = parameters_of(network, weights, format, device)?;
        let weight_masks = mask_tensors(&masks, &parameters, format, device)?;
        let sgd = optimiser(recipe, stage, network)?;
        let mut trainer = Self {
            context,
            stage,
            index,
            format,
            parameters,
            trained,
            mask_tensors: StraightThroughMasks::new(
                network,
                weights,
                recipe.beta.as_ref(),
                node_stage,
                device,
            )?,
            weight_masks,
            soft,
            sgd,
            state: State::new(folder.run()),
            kept: Weights::default(),
        };
        match checkpoint {
            Some(checkpoint) => trainer.go_on(checkpoint)?,
            None => trainer.begin()?,
        }
        Ok(trainer)
    }

    /// Takes up what a checkpoint left off, whose weights are in place.
    fn go_on(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let (format, device) = (self.format, self.context.device);
        let copy = |(name, array): (&str, _)| {
            Ok((name.to_owned(), format.of(&to_tensor(array, device)?)?))
        };
        let velocities = checkpoint.velocities.iter().map(copy);
        self.sgd.resume(velocities.collect::<Result<_>>()?);
        (self.state, self.kept) = (checkpoint.state, checkpoint.kept);
        Ok(())
    }

    /// Scores what the stage begins with: what it keeps where nothing better comes.
    fn begin(&mut self) -> Result<()> {
        self.mask_tensors.update()?;
        let score = self.score()?;
        let state = &mut self.state;
        (state.correct_at_start, state.correct_kept) = (score.correct, score.correct);
        (state.top5_at_start, state.top5_kept) = (score.correct_top5, score.correct_top5);
        self.kept = self.weights()?;
        Ok(())
    }

    /// Runs the epochs that are left, with a checkpoint after each, and returns the last one.
    pub fn run(mut self, folder: &StageFolder, observer: &mut dyn Observer) -> Result<Checkpoint> {
        let mut checkpoint = self.checkpoint()?;
        while self.state.epochs_done < self.stage.epochs {
            let start = Instant::now();
            let epoch = self.context.recipe.first_epoch + self.state.epochs_done;
            let learning_rate = self.learning_rate(epoch, 0.0);
            let train_loss = self.epoch(epoch, observer)?;
            if self.is_soft() {
                self.prune_anew()?;
            }
            self.mask_tensors.update()?;
            crate::torch::memory::give_back();
            let score = self.score()?;
            crate::torch::memory::give_back();
            if score.is_dead() {
                return Err(Error::Dead {
                    stage: self.stage.name.clone(),
                    epoch,
                    learning_rate,
                    varying: score.varying,
                    classes: score.classes,
                });
            }
            let weights = self.weights()?;
            let (original, network) = (self.context.original, self.context.network);
            let nodes_kept = living_nodes(original, network, &weights.node_masks(network)?)?;
            self.state.epochs_done += 1;
            self.state.metrics.push(EpochMetrics {
                stage: self.stage.name.clone(),
                epoch,
                learning_rate,
                train_loss,
                test_correct: score.correct,
                test_correct_top5: score.correct_top5,
                test_total: score.total,
                nodes_kept,
            });
            self.keep(weights, score)?;
            if let Some(seconds) = &mut self.state.seconds {
                *seconds += start.elapsed().as_secs_f64();
            }
            checkpoint = self.checkpoint()?;
            folder.write(&folder.progress(), &checkpoint)?;
            if let Some(metrics) = self.state.metrics.last() {
                observer.epoch(metrics);
            }
        }
        Ok(checkpoint)
    }

    /// Keeps what the stage would end with after an epoch, whose weights have that score.
    fn keep(&mut self, weights: Weights, score: Score) -> Result<()> {
        let averaged = self.stage.keep.averaged(self.state.epochs_done);
        let (kept, score) = if averaged > 1 {
            let mean = mean_of(&self.kept, &weights, averaged)?;
            let Context { network, device, .. } = *self.context;
            let (parameters, _) = parameters_of(network, &mean, self.format, device)?;
            (mean, self.score_of(&parameters)?)
        } else {
            (weights, score)
        };
        if self.stage.keep != Keep::Best || score.correct > self.state.correct_kept {
            self.state.correct_kept = score.correct;
            self.state.top5_kept = score.correct_top5;
            self.kept = kept;
        }
        Ok(())
    }

    /// One pass over the training images; returns the mean loss.
    fn epoch(&mut self, epoch: usize, observer: &mut dyn Observer) -> Result<f64> {
        let recipe = self.context.recipe;
        let place = [self.index as u64, epoch as u64];
        tch::manual_seed(seed::number(recipe.seed, "dropout", &place)); // libtorch's own stream
        let images = self.context.train;
        let batches = images.len().div_ceil(recipe.batch_size);
        let mut losses = Losses::new(batches, self.context.device)?;
        let order = Order::Shuffled { seed: recipe.seed, place };
        for (done, batch) in images.batches(order, recipe.batch_size)?.enumerate() {
            let batch = batch?;
            let rate = self.learning_rate(epoch, done as f64 / batches as f64);
            losses.push(&self.step(&batch, rate)?, batch.len())?;
            observer.batch(done + 1, batches);
        }
        self.mean_loss(&losses, epoch)
    }

    /// The learning rate in the epoch at hand, of which that share is done.
    fn learning_rate(&self, epoch: usize, of_epoch: f64) -> f64 {
        let done = (self.state.epochs_done as f64 + of_epoch) / self.stage.epochs as f64;
        self.stage.learning_rate_at(epoch, done)
    }

    /// One step of gradient descent on a batch; returns the loss, on the device.
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<Tensor> {
        self.mask_tensors.update()?;
        let network = self.context.network;
        let dropout = self.mask_tensors.dropout_rates(network)?;
        let mask_tensors = self.mask_tensors.tensors()?;
        let copy = working_copy(network, &self.parameters, self.context.recipe.precision)?;
        let parameters = copy.as_ref().unwrap_or(&self.parameters);
        let mode = Mode::Training(&dropout);
        let scores =
            forward(network, parameters, &mask_tensors, &self.format.of(&batch.images)?, mode)?;
        let refused = || Error::torch("differentiate the loss");
        let loss = scores
            .f_cross_entropy_loss::<&Tensor>(&batch.labels, None, Reduction::Mean, -100, 0.0)
            .map_err(refused())?;

        let mut learning: Vec<&Tensor> =
            self.trained.iter().map(|name| &self.parameters[name]).collect();
        let betas: Vec<(String, Tensor)> =
            self.mask_tensors.learning().map(|(name, beta)| (name, beta.shallow_clone())).collect();
        learning.extend(betas.iter().map(|(_, beta)| beta));
        let gradients =
            Tensor::f_run_backward(&[&loss], &learning, false, false).map_err(refused())?;

        let is_soft = self.is_soft();
        for (name, gradient) in self.trained.iter().zip(&gradients) {
            if let Some(parameter) = self.parameters.get_mut(name) {
                self.sgd.step(name, parameter, gradient, rate)?;
                if let Some(mask) = self.weight_masks.get(name)
                    && !(is_soft && self.soft.contains(name))
                {
                    apply_mask(parameter, mask)?;
                }
            }
        }
        self.step_betas(&gradients[self.trained.len()..], rate)?;
        loss.f_detach().map_err(refused())
    }

    /// Whether this is one of the epochs in which what is gone learns, too.
    fn is_soft(&self) -> bool {
        self.state.epochs_done < self.stage.soft_epochs()
    }

    /// Removes what the stage's criterion removes from the weights as they are now.
    fn prune_anew(&mut self) -> Result<()> {
        let Context { recipe, network, device, .. } = *self.context;
        let masks = weight_masks(recipe, self.index, network, &self.weights()?)?;
        self.weight_masks = mask_tensors(&masks, &self.parameters, self.format, device)?;
        for (name, mask) in &self.weight_masks {
            if let Some(parameter) = self.parameters.get_mut(name) {
                apply_mask(parameter, mask)?;
            }
        }
        Ok(())
    }

    /// The step of each `beta` that learns: no weight decay, and the penalty.
    fn step_betas(&mut self, gradients: &[Tensor], rate: f64) -> Result<()> {
        let Some(Prune::Node { penalty, .. }) = self.stage.prune else { return Ok(()) };
        for ((name, beta), gradient) in self.mask_tensors.learning().zip(gradients) {
            self.sgd.step(&name, beta, gradient, rate)?;
            let pulled = tch::no_grad(|| beta.f_sub_scalar_(penalty * rate).map(drop));
            pulled.map_err(Error::torch("penalise beta"))?;
        }
        Ok(())
    }

    /// The mean over an epoch's images.
    fn mean_loss(&self, losses: &Losses, epoch: usize) -> Result<f64> {
        let values = losses.fetch()?;
        if let Some(batch) = values.iter().position(|loss| !loss.is_finite()) {
            return Err(Error::Diverged {
                stage: self.stage.name.clone(),
                epoch,
                batch: batch + 1,
                learning_rate: self.learning_rate(epoch, batch as f64 / values.len() as f64),
                loss: values[batch],
            });
        }
        let images: usize = losses.lengths.iter().sum();
        let sum: f64 = values.iter().zip(&losses.lengths).map(|(loss, &n)| loss * n as f64).sum();
        Ok(sum / images as f64)
    }

    fn score(&self) -> Result<Score> {
        self.score_of(&self.parameters)
    }

    /// The score of other parameters, under the masks of these.
    fn score_of(&self, parameters: &Tensors) -> Result<Score> {
        let context = self.context;
        score(context.test, context.network, parameters, &self.mask_tensors.tensors()?)
    }

    /// The weights as they are now, masks among them, on the host.
    fn weights(&self) -> Result<Weights> {
        let copy = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), to_array(tensor)?));
        let mut weights: Weights = self.parameters.iter().map(copy).collect::<Result<_>>()?;
        self.mask_tensors.store(&mut weights)?;
        Ok(weights)
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let copy = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), to_array(tensor)?));
        Ok(Checkpoint {
            state: self.state.clone(),
            weights: self.weights()?,
            velocities: self.sgd.velocities().iter().map(copy).collect::<Result<_>>()?,
            kept: self.kept.clone(),
        })
    }
}

//! The summary of a run: accuracies, what is left, and its exact size.

use crate::error::{Error, Result};
use crate::network::{Parameter, ParameterRole};
use crate::prune::compact::compact;
use crate::report::{StageSummary, Summary};
use crate::sparse::Model;
use crate::train::Outcome;
use crate::train::recipe::Recipe;

/// Sums a run up: accuracies, what is left, and its exact size.
///
/// # Errors
/// An outcome with no stages; masks that cannot be compacted.
pub fn summarise(recipe: &Recipe, dataset: &str, outcome: &Outcome) -> Result<Summary> {
    let (original, network) = (&outcome.original, &outcome.network);
    let percent = |correct: usize| 100.0 * correct as f64 / outcome.test_total.max(1) as f64;
    let (Some(first), Some(last)) = (outcome.stages.first(), outcome.stages.last()) else {
        return Err(Error::argument("sum a run up", "at least one stage", "none"));
    };
    let parameters = original.parameters()?;
    let bytes_dense = 4 * parameters.iter().map(Parameter::len).sum::<usize>();
    let weights = parameters.iter().filter(|parameter| parameter.role == ParameterRole::Weight);
    let weights_total = weights.map(Parameter::len).sum();
    let masks = outcome.weights.node_masks(network)?;
    let (_, small_weights) = compact(network, &outcome.weights, &masks)?;
    let pruned = Model::new(&small_weights, None, recipe.storage_format())?.bytes().total();
    let sites = original.mask_sites()?;
    let stages = outcome.stages.iter().map(|stage| StageSummary {
        name: stage.name.clone(),
        accuracy: percent(stage.correct),
        accuracy_last_epoch: percent(stage.correct_last_epoch),
        top5: stage.top5.map(|top5| top5.map(percent)),
        nodes_kept: stage.nodes_kept.clone(),
        weights_kept: stage.weights_kept,
    });
    Ok(Summary {
        network: original.name.clone(),
        technique: recipe.technique,
        dataset: dataset.to_owned(),
        seed: recipe.seed,
        quick: recipe.quick,
        validation_images: recipe.validation_images,
        precision: recipe.precision,
        original_weights: recipe.original_weights.clone(),
        accuracy_before: percent(first.correct),
        accuracy_after: percent(last.correct),
        accuracy_after_last_epoch: percent(last.correct_last_epoch),
        node_layers: sites.iter().map(|site| original.layers[site.producer].name.clone()).collect(),
        nodes_kept: last.nodes_kept.clone(),
        nodes_total: sites.iter().map(|site| site.nodes).collect(),
        weights_total,
        weights_kept: last.weights_kept,
        bytes_dense,
        bytes_pruned: pruned,
        stages: stages.collect(),
    })
}

//! What was tried on held-out training images before a recipe was settled on.

use super::Experiment;
use crate::error::Result;
use crate::report::document::{Block, Section};
use crate::report::metrics::{EpochRow, read_metrics};
use crate::report::runs::{Group, by_recipe, mean_and_deviation, share_left, technique_name};
use crate::report::table::{Cell, Table};
use crate::train::recipe::{Recipe, Stage};

/// Epochs at the end of a stage over which accuracies are averaged: single ones differ by more than recipes
/// do.
const AVERAGED: usize = 5;

/// The section on them; none where nothing was tried.
///
/// # Errors
/// A run's recipe or metrics that cannot be read.
pub(super) fn section(experiments: &[Experiment]) -> Result<Option<Section>> {
    let mut table = Table::new([
        "network",
        "technique",
        "epochs",
        "accuracy by stage",
        "train loss",
        "nodes kept",
        "weights left",
        "recipe",
        "but for",
        "run",
    ]);
    for group in experiments.iter().flat_map(|experiment| by_recipe(&experiment.trials)) {
        table.row(cells(&group)?);
    }
    if table.is_empty() {
        return Ok(None);
    }
    let text = "Trials by which recipes were settled on, scored on the last training images, which none of these runs \
                trained on; never on the test set. Accuracy is the mean of each stage's last 5 epochs, the loss that \
                of the original's last epoch. To run one again: `cargo run --release --bin <technique> -- <network> \
                --recipe <its folder>/recipe.toml`. *Recipe*: of those that the program carries, the one from which the \
                trial differs by the least; *but for*: the settings in which it differs from that one.";
    Ok(Some(Section {
        name: "held-out",
        title: "Chosen on held-out images",
        about: "Trials by which our recipes were settled on, each with what it changes.",
        blocks: vec![Block::Text(text.into()), Block::Table(table)],
        csv: None,
    }))
}

fn cells(group: &Group<'_>) -> Result<Vec<Cell>> {
    let summary = group.first();
    let recipe = Recipe::load(&group.runs[0].folder.recipe())?;
    let (nearest, differences) = nearest(&recipe)?;
    let metrics = group.runs.iter().map(|run| read_metrics(&run.folder.metrics()));
    let metrics: Vec<Vec<EpochRow>> = metrics.collect::<Result<_>>()?;
    let each = |value: &dyn Fn(&[EpochRow]) -> f64| {
        let values: Vec<f64> = metrics.iter().map(|rows| value(rows)).collect();
        mean_and_deviation(&values, 2)
    };
    let accuracy = |stage: &Stage| each(&|rows| last_epochs(rows, stage));
    let original = recipe.stages.first();
    let loss = |rows: &[EpochRow]| {
        let of_original = |row: &&EpochRow| original.is_some_and(|stage| row.stage == stage.name);
        rows.iter().rfind(of_original).map_or(f64::NAN, |row| row.train_loss)
    };
    Ok(vec![
        summary.network.clone().into(),
        technique_name(summary.technique).into(),
        recipe
            .stages
            .iter()
            .map(|stage| stage.epochs.to_string())
            .collect::<Vec<_>>()
            .join(", ")
            .into(),
        recipe.stages.iter().map(accuracy).collect::<Vec<_>>().join(", ").into(),
        each(&loss).into(),
        group.nodes().into(),
        format!("{}%", group.mean(share_left, 1)).into(),
        nearest.into(),
        differences.into(),
        group.cell(),
    ])
}

/// The variant that the program carries from which a trial differs by the least, and by what.
fn nearest(trial: &Recipe) -> Result<(&'static str, String)> {
    let mut nearest: Option<(&str, String)> = None;
    for (network, technique, variant) in Recipe::all_built_in() {
        if (network, technique) != (&trial.network, trial.technique) {
            continue;
        }
        let recipe = as_long_as(trial, Recipe::built_in(network, technique, variant)?);
        let differences = trial.differences(&recipe)?.join("; ");
        if nearest.as_ref().is_none_or(|(_, other)| differences.len() < other.len()) {
            nearest = Some((variant.unwrap_or("plain"), differences));
        }
    }
    Ok(nearest.unwrap_or(("none", String::new())))
}

/// A stage's mean accuracy over its last epochs.
fn last_epochs(rows: &[EpochRow], stage: &Stage) -> f64 {
    let rows: Vec<&EpochRow> = rows.iter().filter(|row| row.stage == stage.name).collect();
    let last = &rows[rows.len().saturating_sub(AVERAGED)..];
    last.iter().map(|row| row.accuracy).sum::<f64>() / last.len().max(1) as f64
}

/// A recipe with the stages that a trial has, each of the trial's length: lengths have a column of their own.
fn as_long_as(trial: &Recipe, recipe: Recipe) -> Recipe {
    let stages = recipe.stages.iter().filter_map(|stage| {
        let of_trial = trial.stages.iter().find(|other| other.name == stage.name)?;
        let &Stage { epochs, learning_rate_epochs, keep, .. } = of_trial;
        Some(Stage { epochs, learning_rate_epochs, keep, ..stage.clone() })
    });
    Recipe { stages: stages.collect(), ..recipe }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::Technique;

    #[test]
    fn a_trial_is_told_by_the_variant_that_it_differs_from_by_the_least() {
        let of = |variant| {
            Recipe::built_in("convnet", Technique::UprightPruning, variant).unwrap().full()
        };
        for (variant, name) in [(None, "plain"), (Some("medium_fast"), "medium_fast")] {
            assert_eq!(nearest(&of(variant)).unwrap(), (name, String::new()));
        }
        let mut trial = of(Some("medium_refined"));
        trial.stages[0].learning_rate = 0.07;
        let expected = "original.learning_rate = 0.07".to_owned();
        assert_eq!(nearest(&trial).unwrap(), ("medium_refined", expected));
    }
}

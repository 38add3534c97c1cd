//! What was tried on held-out training images before a recipe was settled on.

use super::metrics::{EpochRow, read_metrics};
use super::results::StoredRun;
use super::runs::{share_left, technique_name};
use super::text::Table;
use crate::error::Result;
use crate::train::recipe::{Recipe, Stage};

/// Epochs at the end of a stage over which accuracies are averaged: single ones differ by more than recipes
/// do.
const AVERAGED: usize = 5;

/// A row for each run that was scored on held-out training images.
///
/// # Errors
/// A run's recipe or metrics that cannot be read.
pub(super) fn choices_table(runs: &[StoredRun]) -> Result<Table> {
    let mut table = Table::new([
        "network",
        "technique",
        "recipe",
        "held out",
        "epochs",
        "accuracy, each stage's last 5 epochs",
        "original's train loss",
        "nodes kept",
        "weights left, %",
        "numbers",
        "seed",
        "date",
        "the plain recipe but for",
    ]);
    for run in runs {
        table.row(cells(run)?);
    }
    Ok(table)
}

fn cells(run: &StoredRun) -> Result<Vec<String>> {
    let summary = &run.summary;
    let recipe = Recipe::load(&run.folder.recipe())?;
    let plain = as_long_as(&recipe, Recipe::built_in(&recipe.network, recipe.technique, None)?);
    let epochs = read_metrics(&run.folder.metrics())?;
    let last = |stage: &Stage| {
        let rows: Vec<&EpochRow> = epochs.iter().filter(|row| row.stage == stage.name).collect();
        let last = &rows[rows.len().saturating_sub(AVERAGED)..];
        let mean = last.iter().map(|row| row.accuracy).sum::<f64>() / last.len().max(1) as f64;
        format!("{mean:.2}")
    };
    let original = recipe.stages.first();
    let loss = epochs.iter().rfind(|row| original.is_some_and(|stage| row.stage == stage.name));
    let nodes: Vec<String> = summary.nodes_kept.iter().map(usize::to_string).collect();
    Ok(vec![
        summary.network.clone(),
        technique_name(summary.technique).to_owned(),
        run.hash.clone(),
        summary.validation_images.unwrap_or_default().to_string(),
        recipe.stages.iter().map(|stage| stage.epochs.to_string()).collect::<Vec<_>>().join(", "),
        recipe.stages.iter().map(last).collect::<Vec<_>>().join(", "),
        loss.map_or(String::new(), |row| format!("{:.2}", row.train_loss)),
        nodes.join(", "),
        format!("{:.1}", share_left(summary)),
        summary.precision.name().to_owned(),
        summary.seed.to_string(),
        run.environment.date.clone(),
        recipe.differences(&plain)?.join("; "),
    ])
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

//! What was tried on held-out training images before a recipe was settled on.

use super::metrics::{EpochRow, read_metrics};
use super::run_folder::StoredRun;
use super::runs::{Group, by_recipe, mean_and_deviation, share_left, technique_name};
use super::text::Table;
use crate::error::Result;
use crate::train::recipe::{Recipe, Stage};

/// Epochs at the end of a stage over which accuracies are averaged: single ones differ by more than recipes
/// do.
const AVERAGED: usize = 5;

pub(super) fn trials_header() -> Table {
    Table::new([
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
        "seeds",
        "date",
        "the plain recipe but for",
    ])
}

/// A row for each recipe of these runs, all scored on held-out training images.
///
/// # Errors
/// A run's recipe or metrics that cannot be read.
pub(super) fn trials_rows(table: &mut Table, runs: &[StoredRun]) -> Result<()> {
    for group in by_recipe(runs) {
        table.row(cells(&group)?);
    }
    Ok(())
}

fn cells(group: &Group<'_>) -> Result<Vec<String>> {
    let (run, summary) = (group.runs[0], group.first());
    let recipe = Recipe::load(&run.folder.recipe())?;
    let plain = as_long_as(&recipe, Recipe::built_in(&recipe.network, recipe.technique, None)?);
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
    let nodes = 0..summary.nodes_kept.len();
    let nodes = nodes.map(|i| group.mean(|s| s.nodes_kept.get(i).map_or(0.0, |&n| n as f64), 0));
    let seeds: Vec<String> = group.summaries().map(|summary| summary.seed.to_string()).collect();
    Ok(vec![
        summary.network.clone(),
        technique_name(summary.technique).to_owned(),
        run.hash.clone(),
        summary.validation_images.unwrap_or_default().to_string(),
        recipe.stages.iter().map(|stage| stage.epochs.to_string()).collect::<Vec<_>>().join(", "),
        recipe.stages.iter().map(accuracy).collect::<Vec<_>>().join(", "),
        each(&loss),
        nodes.collect::<Vec<_>>().join(", "),
        group.mean(share_left, 1),
        summary.precision.name().to_owned(),
        seeds.join(", "),
        run.environment.date.clone(),
        recipe.differences(&plain)?.join("; "),
    ])
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

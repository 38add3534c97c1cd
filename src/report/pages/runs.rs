//! Every single run: where, when and for how long.

use super::Experiment;
use crate::report::document::{Block, Section};
use crate::report::run_folder::StoredRun;
use crate::report::runs::{NOT_RECORDED, by_recipe, fractions, share_left, technique_name};
use crate::report::table::{Cell, Table};

/// The section on them.
pub(super) fn section(experiments: &[Experiment]) -> Section {
    let mut table = Table::new([
        "technique",
        "network",
        "run",
        "accuracy",
        "last epoch",
        "nodes kept",
        "weights left",
        "trained in",
        "threads",
        "hardware",
        "commit",
    ]);
    for group in experiments.iter().flat_map(|experiment| by_recipe(&experiment.runs)) {
        group.runs.iter().for_each(|run| table.row(cells(run)));
    }
    let text = "*Trained in* is by the wall, all stages together, those that other recipes share included; runs side \
                by side take each other's time. A run's link leads to its recipe, its epochs, its summary and its \
                machine.";
    Section {
        name: "runs",
        title: "Every run",
        about: "Each single run with its hardware, date, commit and training time.",
        blocks: vec![Block::Table(table), Block::Text(text.into())],
        csv: None,
    }
}

/// The time that training took, or what stands in its place.
fn trained_in(run: &StoredRun) -> String {
    let Some(stages) = &run.durations else { return NOT_RECORDED.into() };
    let seconds: f64 = stages.iter().map(|stage| stage.seconds).sum();
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn cells(run: &StoredRun) -> Vec<Cell> {
    let (summary, environment) = (&run.summary, &run.environment);
    let quick = if summary.quick { "quick, " } else { "" };
    let threads = environment.threads.map_or(NOT_RECORDED.into(), |threads| threads.to_string());
    vec![
        technique_name(summary.technique).into(),
        summary.network.clone().into(),
        Cell::link(format!("{quick}seed {}", summary.seed), run.link()),
        format!("{:.2} → {:.2}", summary.accuracy_before, summary.accuracy_after).into(),
        format!("{:.2}", summary.accuracy_after_last_epoch).into(),
        fractions(&summary.nodes_kept, &summary.nodes_total).into(),
        format!("{:.1}%", share_left(summary)).into(),
        trained_in(run).into(),
        threads.into(),
        format!("{}, {}", environment.hardware(), environment.date).into(),
        environment.commit.clone().unwrap_or_default().into(),
    ]
}

//! The rows of the tables: the authors' numbers beside ours, and every run with its times.

use super::authors::{NodeRow, SimdRow};
use super::results::{Latency, Summary};
use super::run_folder::StoredRun;
use super::runs::{
    Group, NOT_MEASURED, NOT_RECORDED, NOT_RUN, NOT_STATED, accuracies, fractions, share_left,
    technique_name, weights_left,
};
use super::text::Table;
use crate::network::zoo;
use crate::train::recipe::{Recipe, Technique};

/// The candidates of a run's own measurement.
pub(super) const LATENCY_CANDIDATES: [&str; 4] = ["dense", "masked", "compacted", "scalpel"];

pub(super) fn node_header() -> Table {
    Table::new([
        "network",
        "data",
        "kept, authors",
        "kept, ours",
        "before, authors",
        "before, ours",
        "after, authors",
        "after, ours",
        "last epoch",
        "weights left, %",
        "bytes dense",
        "bytes pruned",
        "runs",
    ])
}

pub(super) fn node_cells(authors: &NodeRow, group: &Group<'_>) -> Vec<String> {
    let first = group.first();
    let layers = 0..first.nodes_total.len();
    let kept: Vec<String> =
        layers.map(|i| group.mean(|s| s.nodes_kept.get(i).map_or(0.0, |&n| n as f64), 0)).collect();
    let kept: Vec<String> = kept
        .iter()
        .zip(&first.nodes_total)
        .map(|(kept, total)| format!("{kept} /{total}"))
        .collect();
    vec![
        authors.network.clone(),
        first.dataset.clone(),
        fractions(&authors.kept, &first.nodes_total),
        kept.join(", "),
        format!("{:.2}", authors.before),
        group.mean(|s| accuracies(s)[0], 2),
        format!("{:.2}", authors.after),
        group.mean(|s| accuracies(s)[1], 2),
        group.mean(|s| accuracies(s)[2], 2),
        group.mean(share_left, 1),
        first.bytes_dense.to_string(),
        group.mean(|s| s.bytes_pruned as f64, 0),
        group.label(),
    ]
}

pub(super) fn node_not_measured(authors: &NodeRow) -> Vec<String> {
    let totals = zoo::by_name(&authors.network).and_then(|network| network.mask_sites());
    let totals: Vec<usize> = totals.unwrap_or_default().iter().map(|site| site.nodes).collect();
    let mut cells = vec![
        authors.network.clone(),
        carried_dataset(&authors.network, Technique::NodePruning),
        fractions(&authors.kept, &totals),
        NOT_MEASURED.into(),
        format!("{:.2}", authors.before),
        NOT_MEASURED.into(),
        format!("{:.2}", authors.after),
    ];
    cells.resize(12, NOT_MEASURED.into());
    cells
}

/// The data set of a row without runs: that of the recipe which the program carries.
fn carried_dataset(network: &str, technique: Technique) -> String {
    Recipe::built_in(network, technique, None)
        .map_or_else(|_| String::new(), |recipe| recipe.dataset)
}

pub(super) fn simd_header() -> Table {
    Table::new([
        "network",
        "data",
        "removed by stage, authors, %",
        "removed by stage, ours, %",
        "before, authors",
        "before, ours",
        "after, authors",
        "after, ours",
        "bytes dense",
        "bytes pruned",
        "runs",
    ])
}

fn stated_removed(stated: Option<&SimdRow>) -> String {
    stated.map_or(NOT_STATED.into(), |row| {
        row.removed.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ")
    })
}

pub(super) fn simd_cells(
    network: &str,
    stated: Option<&SimdRow>,
    group: &Group<'_>,
) -> Vec<String> {
    let first = group.first();
    let removed = |summary: &Summary, stage: usize| {
        let kept = summary.stages.get(stage).map_or(0, |stage| stage.weights_kept);
        100.0 * (1.0 - kept as f64 / summary.weights_total.max(1) as f64)
    };
    let stages = 1..first.stages.len();
    let removed: Vec<String> = stages.map(|stage| group.mean(|s| removed(s, stage), 1)).collect();
    vec![
        network.to_owned(),
        first.dataset.clone(),
        stated_removed(stated),
        removed.join(", "),
        stated.map_or(NOT_STATED.into(), |row| format!("{:.2}", row.before)),
        group.mean(|s| accuracies(s)[0], 2),
        NOT_STATED.into(),
        group.mean(|s| accuracies(s)[1], 2),
        first.bytes_dense.to_string(),
        group.mean(|s| s.bytes_pruned as f64, 0),
        group.label(),
    ]
}

pub(super) fn simd_not_measured(network: &str, stated: Option<&SimdRow>) -> Vec<String> {
    let mut cells = vec![
        network.to_owned(),
        carried_dataset(network, Technique::SimdPruning),
        stated_removed(stated),
        NOT_MEASURED.into(),
        stated.map_or(NOT_STATED.into(), |row| format!("{:.2}", row.before)),
        NOT_MEASURED.into(),
        NOT_STATED.into(),
    ];
    cells.resize(10, NOT_MEASURED.into());
    cells
}

pub(super) fn techniques_header() -> Table {
    Table::new([
        "network",
        "technique",
        "recipe",
        "nodes kept",
        "weights left, %",
        "before",
        "after",
        "last epoch",
        "bytes dense",
        "bytes pruned",
        "runs",
    ])
}

pub(super) fn techniques_cells(group: &Group<'_>) -> Vec<String> {
    let first = group.first();
    let nodes = 0..first.nodes_kept.len();
    let node = |i: usize| group.mean(|s| s.nodes_kept.get(i).map_or(0.0, |&n| n as f64), 0);
    vec![
        first.network.clone(),
        technique_name(first.technique).to_owned(),
        group.runs[0].hash.clone(),
        nodes.map(node).collect::<Vec<_>>().join(", "),
        group.mean(share_left, 1),
        group.mean(|s| accuracies(s)[0], 2),
        group.mean(|s| accuracies(s)[1], 2),
        group.mean(|s| accuracies(s)[2], 2),
        first.bytes_dense.to_string(),
        group.mean(|s| s.bytes_pruned as f64, 0),
        group.label(),
    ]
}

pub(super) fn techniques_not_run(network: &str, technique: Technique) -> Vec<String> {
    let mut cells = vec![network.to_owned(), technique_name(technique).to_owned()];
    cells.resize(10, NOT_RUN.into());
    cells
}

pub(super) fn time_of(latency: Option<&Latency>, batch: usize, candidate: &str) -> String {
    let row = latency.and_then(|latency| latency.rows.iter().find(|row| row.batch == batch));
    let time = row.and_then(|row| row.times.get(candidate));
    time.map_or(NOT_MEASURED.into(), |time| {
        let micro = |seconds: f64| 1e6 * seconds;
        format!("{:.1} us ({:.1} to {:.1})", micro(time.median), micro(time.low), micro(time.high))
    })
}

pub(super) fn inference_header() -> Table {
    Table::new([
        "network",
        "technique",
        "recipe",
        "seed",
        "batch",
        "dense",
        "masked",
        "compacted",
        "scalpel",
        "speedup",
        "threads",
        "hardware",
        "date",
    ])
}

pub(super) fn inference_rows(table: &mut Table, run: &StoredRun) {
    for row in run.latency.iter().flat_map(|latency| &latency.rows) {
        let pruned = row.times.get("scalpel").or(row.times.get("compacted"));
        let speedup = match (row.times.get("dense"), pruned) {
            (Some(dense), Some(pruned)) => format!("{:.2}x", dense.median / pruned.median),
            _ => NOT_MEASURED.into(),
        };
        let mut cells = vec![
            run.summary.network.clone(),
            technique_name(run.summary.technique).to_owned(),
            run.hash.clone(),
            run.summary.seed.to_string(),
            row.batch.to_string(),
        ];
        for candidate in LATENCY_CANDIDATES {
            cells.push(time_of(run.latency.as_ref(), row.batch, candidate));
        }
        cells.push(speedup);
        cells.push(run.latency.as_ref().map_or(0, |latency| latency.threads).to_string());
        let measured =
            run.latency.as_ref().map_or(&run.environment, |latency| &latency.environment);
        cells.extend([measured.hardware(), measured.date.clone()]);
        table.row(cells);
    }
}

pub(super) fn runs_header() -> Table {
    Table::new([
        "technique",
        "network",
        "recipe",
        "seed",
        "data",
        "before",
        "after",
        "last epoch",
        "left",
        "hardware",
        "threads",
        "trained in",
        "date",
        "commit",
    ])
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

pub(super) fn run_cells(run: &StoredRun) -> Vec<String> {
    let summary = &run.summary;
    let nodes = fractions(&summary.nodes_kept, &summary.nodes_total);
    let left = if summary.nodes_kept.is_empty() {
        weights_left(summary)
    } else {
        format!("{nodes}; {}", weights_left(summary))
    };
    vec![
        technique_name(summary.technique).to_owned() + if summary.quick { ", quick" } else { "" },
        summary.network.clone(),
        run.hash.clone(),
        summary.seed.to_string(),
        summary.dataset.clone(),
        format!("{:.2}", summary.accuracy_before),
        format!("{:.2}", summary.accuracy_after),
        format!("{:.2}", summary.accuracy_after_last_epoch),
        left,
        run.environment.hardware(),
        run.environment.threads.map_or(NOT_RECORDED.into(), |threads| threads.to_string()),
        trained_in(run),
        run.environment.date.clone(),
        run.environment.commit.clone().unwrap_or_default(),
    ]
}

//! What pruning keeps and what it costs in accuracy, beside the authors' numbers.

use super::Experiment;
use crate::network::zoo;
use crate::report::authors::{Authors, NodeRow, SimdRow};
use crate::report::document::{Block, Section};
use crate::report::records::Summary;
use crate::report::runs::{
    Group, NOT_MEASURED, NOT_STATED, accuracies, by_recipe, fractions, share_left,
};
use crate::report::table::{Cell, Table};
use crate::train::recipe::{Recipe, Technique};

pub(super) const READING: &str = "Accuracy in percent on the test set (ImageNet: among the five highest scores), before → after \
    pruning, mean ± standard deviation over the seeds. *After* is the best epoch by test accuracy where the last \
    stage keeps its best, since the authors selected so; *last epoch* selects nothing. Bytes are of weights and \
    biases in f32, with all indices.";

/// Node pruning, ours beside the authors'.
pub(super) fn node(authors: &Authors, experiments: &[Experiment]) -> Section {
    let mut table = Table::new([
        "network",
        "kept, authors",
        "kept, ours",
        "authors",
        "ours",
        "last epoch",
        "weights left",
        "bytes",
        "run",
    ]);
    for experiment in Experiment::of(experiments, Technique::NodePruning) {
        let stated = authors.node.iter().find(|row| row.network == experiment.network);
        let Some(stated) = stated else { continue };
        for group in by_recipe(&experiment.runs) {
            table.row(node_cells(stated, &group));
        }
        if experiment.runs.is_empty() {
            table.row(node_not_measured(stated));
        }
    }
    Section {
        name: "node-pruning",
        title: "Node pruning",
        about: "Nodes kept and accuracy, ours beside the authors', every recipe.",
        blocks: vec![
            Block::Text(
                "Nodes that are kept of each masked layer; after a slash, how many it has.".into(),
            ),
            Block::Table(table),
            Block::Text(READING.into()),
        ],
        csv: None,
    }
}

fn node_cells(authors: &NodeRow, group: &Group<'_>) -> Vec<Cell> {
    vec![
        authors.network.clone().into(),
        fractions(&authors.kept, &group.first().nodes_total).into(),
        group.nodes().into(),
        format!("{:.2} → {:.2}", authors.before, authors.after).into(),
        group.before_and_after().into(),
        group.mean(|s| accuracies(s)[2], 2).into(),
        format!("{}%", group.mean(share_left, 1)).into(),
        group.bytes().into(),
        group.cell(),
    ]
}

fn node_not_measured(authors: &NodeRow) -> Vec<Cell> {
    let totals = zoo::by_name(&authors.network).and_then(|network| network.mask_sites());
    let totals: Vec<usize> = totals.unwrap_or_default().iter().map(|site| site.nodes).collect();
    let stated = format!("{:.2} → {:.2}", authors.before, authors.after);
    let kept = fractions(&authors.kept, &totals);
    let mut cells: Vec<Cell> =
        [&authors.network, &kept, NOT_MEASURED, &stated, NOT_MEASURED].map(Cell::from).into();
    cells.push(needs(&authors.network, Technique::NodePruning).into());
    cells
}

/// What a row without runs is waiting for: the data set of the recipe that the program carries.
fn needs(network: &str, technique: Technique) -> String {
    Recipe::built_in(network, technique, None)
        .map_or_else(|_| String::new(), |recipe| format!("needs {}", recipe.dataset))
}

/// SIMD-aware pruning, ours beside the authors'.
pub(super) fn simd(authors: &Authors, experiments: &[Experiment]) -> Section {
    let mut table = Table::new([
        "network",
        "removed, authors, %",
        "removed, ours, %",
        "authors, before",
        "ours",
        "last epoch",
        "bytes",
        "run",
    ]);
    for experiment in Experiment::of(experiments, Technique::SimdPruning) {
        let stated = authors.simd.iter().find(|row| row.network == experiment.network);
        for group in by_recipe(&experiment.runs) {
            table.row(simd_cells(&experiment.network, stated, &group));
        }
        if experiment.runs.is_empty() {
            table.row(simd_not_measured(&experiment.network, stated));
        }
    }
    Section {
        name: "simd-pruning",
        title: "SIMD-aware weight pruning",
        about: "Weights removed stage by stage and accuracy, ours beside the authors', every recipe.",
        blocks: vec![
            Block::Text("Percent of the weights that are removed after each stage.".into()),
            Block::Table(table),
            Block::Text(READING.into()),
        ],
        csv: None,
    }
}

fn stated_removed(stated: Option<&SimdRow>) -> String {
    stated.map_or(NOT_STATED.into(), |row| {
        row.removed.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ")
    })
}

fn stated_before(stated: Option<&SimdRow>) -> String {
    stated.map_or(NOT_STATED.into(), |row| format!("{:.2}", row.before))
}

fn simd_cells(network: &str, stated: Option<&SimdRow>, group: &Group<'_>) -> Vec<Cell> {
    let removed = |summary: &Summary, stage: usize| {
        let kept = summary.stages.get(stage).map_or(0, |stage| stage.weights_kept);
        100.0 * (1.0 - kept as f64 / summary.weights_total.max(1) as f64)
    };
    let stages = 1..group.first().stages.len();
    let removed: Vec<String> = stages.map(|stage| group.mean(|s| removed(s, stage), 1)).collect();
    vec![
        network.into(),
        stated_removed(stated).into(),
        removed.join(", ").into(),
        stated_before(stated).into(),
        group.before_and_after().into(),
        group.mean(|s| accuracies(s)[2], 2).into(),
        group.bytes().into(),
        group.cell(),
    ]
}

fn simd_not_measured(network: &str, stated: Option<&SimdRow>) -> Vec<Cell> {
    vec![
        network.into(),
        stated_removed(stated).into(),
        NOT_MEASURED.into(),
        stated_before(stated).into(),
        NOT_MEASURED.into(),
        needs(network, Technique::SimdPruning).into(),
    ]
}

//! The table that an experiment ends with.

use super::authors::Authors;
use super::environment::Environment;
use super::pages::inference::{LATENCY_CANDIDATES, time_of};
use super::records::{Latency, Summary};
use super::runs::{NOT_STATED, fractions, percent, technique_name, weights_left};
use super::table::Table;
use crate::error::Result;
use crate::train::recipe::Technique;

/// The table that `reproduce` ends with: authors and ours, a column per run.
///
/// # Errors
/// The authors' numbers cannot be read.
pub fn run_table(runs: &[(&Summary, Option<&Latency>, &Environment)]) -> Result<Table> {
    let authors = Authors::published()?;
    let mut header = vec![String::new()];
    for (summary, ..) in runs {
        let name = technique_name(summary.technique);
        header.push(format!("{name}, authors"));
        let quick = if summary.quick { " QUICK" } else { "" };
        header.push(format!("{name}, ours{quick}"));
    }
    let mut table = Table::new(header);
    let columns: Vec<[Vec<String>; 2]> = runs
        .iter()
        .map(|(summary, latency, environment)| {
            [authors_column(&authors, summary), our_column(summary, *latency, environment)]
        })
        .collect();
    let labels = [
        "network",
        "data",
        "seed",
        "accuracy before",
        "accuracy after",
        "accuracy, last epoch",
        "nodes kept",
        "weights left",
        "bytes dense",
        "bytes pruned",
        "batch 1: dense",
        "batch 1: masked",
        "batch 1: compacted",
        "batch 1: scalpel",
        "batch 128: dense",
        "batch 128: masked",
        "batch 128: compacted",
        "batch 128: scalpel",
        "measured on",
    ];
    for (index, label) in labels.iter().enumerate() {
        let cells = columns.iter().flatten().map(|column| column[index].clone());
        table.row(std::iter::once((*label).to_owned()).chain(cells));
    }
    Ok(table)
}

fn authors_column(authors: &Authors, summary: &Summary) -> Vec<String> {
    let stated = |value: Option<String>| value.unwrap_or_else(|| NOT_STATED.into());
    let (dataset, before, after, nodes, left) = match summary.technique {
        Technique::NodePruning => {
            let row = authors.node.iter().find(|row| row.network == summary.network);
            let kept = row.map(|row| fractions(&row.kept, &summary.nodes_total));
            (row.map(|r| &r.dataset), row.map(|r| r.before), row.map(|r| r.after), kept, None)
        }
        Technique::SimdPruning => {
            let row = authors.simd.iter().find(|row| row.network == summary.network);
            let left =
                row.and_then(|row| row.removed.last()).map(|removed| percent(100.0 - removed, 1));
            (row.map(|r| &r.dataset), row.map(|r| r.before), None, None, left)
        }
        Technique::UprightPruning
        | Technique::CombinedPruning
        | Technique::MagnitudePruning
        | Technique::RandomPruning => (None, None, None, None, None),
    };
    let mut column = vec![
        summary.network.clone(),
        stated(dataset.cloned()),
        NOT_STATED.into(),
        stated(before.map(|value| percent(value, 2))),
        stated(after.map(|value| percent(value, 2))),
        NOT_STATED.into(),
        nodes.unwrap_or_default(),
        stated(left),
    ];
    column.resize(19, NOT_STATED.into());
    column
}

fn our_column(
    summary: &Summary,
    latency: Option<&Latency>,
    environment: &Environment,
) -> Vec<String> {
    let mut column = vec![
        summary.network.clone(),
        summary.dataset.clone(),
        summary.seed.to_string(),
        percent(summary.accuracy_before, 2),
        percent(summary.accuracy_after, 2),
        percent(summary.accuracy_after_last_epoch, 2),
        fractions(&summary.nodes_kept, &summary.nodes_total),
        weights_left(summary),
        summary.bytes_dense.to_string(),
        summary.bytes_pruned.to_string(),
    ];
    for batch in [1, 128] {
        for candidate in LATENCY_CANDIDATES {
            column.push(time_of(latency, batch, candidate));
        }
    }
    let environment = latency.map_or(environment, |latency| &latency.environment);
    column.push(format!("{}, {}", environment.hardware(), environment.date));
    column
}

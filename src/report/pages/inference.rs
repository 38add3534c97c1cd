//! How fast each run's own network is, before and after.

use super::Experiment;
use crate::report::document::{Block, Section};
use crate::report::records::Latency;
use crate::report::run_folder::StoredRun;
use crate::report::runs::{NOT_MEASURED, by_recipe, technique_name};
use crate::report::table::{Cell, Table};

/// The candidates of a run's own measurement.
pub(in crate::report) const LATENCY_CANDIDATES: [&str; 4] =
    ["dense", "masked", "compacted", "scalpel"];

/// The time of a candidate, in microseconds, with its interval.
pub(in crate::report) fn time_of(
    latency: Option<&Latency>,
    batch: usize,
    candidate: &str,
) -> String {
    let row = latency.and_then(|latency| latency.rows.iter().find(|row| row.batch == batch));
    let time = row.and_then(|row| row.times.get(candidate));
    time.map_or(NOT_MEASURED.into(), |time| {
        let micro = |seconds: f64| 1e6 * seconds;
        format!("{:.1} us ({:.1} to {:.1})", micro(time.median), micro(time.low), micro(time.high))
    })
}

/// The section on them.
pub(super) fn section(experiments: &[Experiment]) -> Section {
    let mut table = Table::new([
        "network",
        "technique",
        "batch",
        "dense",
        "masked",
        "compacted",
        "scalpel",
        "speedup",
        "threads",
        "hardware",
        "run",
    ]);
    for group in experiments.iter().flat_map(|experiment| by_recipe(&experiment.runs)) {
        group.runs.iter().for_each(|run| rows(&mut table, run));
    }
    let text = "Medians of one call in microseconds, the candidates in turns in one run: *dense*, *masked* and \
                *compacted* in libtorch, *scalpel* the pruned network on our own kernels; *speedup* is dense over \
                scalpel, or over compacted where our kernels were not yet timed. For times worth quoting see \
                [speedup](speedup.md): these were measured when the run ended, whatever else the machine did.";
    Section {
        name: "inference",
        title: "Inference time of each run",
        about: "Each run's network before and after pruning, timed when the run ended.",
        blocks: vec![Block::Text(text.into()), Block::Table(table)],
        csv: None,
    }
}

fn rows(table: &mut Table, run: &StoredRun) {
    for row in run.latency.iter().flat_map(|latency| &latency.rows) {
        let pruned = row.times.get("scalpel").or(row.times.get("compacted"));
        let speedup = match (row.times.get("dense"), pruned) {
            (Some(dense), Some(pruned)) => format!("{:.2}x", dense.median / pruned.median),
            _ => NOT_MEASURED.into(),
        };
        let mut cells: Vec<Cell> = vec![
            run.summary.network.clone().into(),
            technique_name(run.summary.technique).into(),
            row.batch.to_string().into(),
        ];
        for candidate in LATENCY_CANDIDATES {
            let time = row.times.get(candidate);
            let time = time.map_or("—".into(), |time| format!("{:.1}", 1e6 * time.median));
            cells.push(time.into());
        }
        let latency = run.latency.as_ref();
        let measured = latency.map_or(&run.environment, |latency| &latency.environment);
        cells.push(speedup.into());
        cells.push(latency.map_or(0, |latency| latency.threads).to_string().into());
        cells.push(format!("{}, {}", measured.hardware(), measured.date).into());
        cells.push(Cell::link(format!("seed {}", run.summary.seed), run.link()));
        table.row(cells);
    }
}

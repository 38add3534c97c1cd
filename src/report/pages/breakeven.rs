//! Where group sparsity pays: every stored sweep.

use std::cmp::Reverse;

use crate::error::Result;
use crate::report::document::{Block, Section, Svg};
use crate::report::plots::breakeven_plot;
use crate::report::sweep::{StoredSweep, breakeven_table};
use crate::report::table::Table;

const READING: &str = "By `cargo run --release --bin breakeven`: `group_spmm` beside the library's dense product and \
    its CSR product with equally many weights, in turns in one run, medians. Geometric means over the shapes. *Rate* is \
    of useful operations: near 1, sparsity pays up to a density near 1.";

/// The section on them, and its plots.
///
/// # Errors
/// What the drawing library refuses.
pub(super) fn section(sweeps: &[StoredSweep]) -> Result<(Section, Vec<Svg>)> {
    let (mut blocks, mut plots) = (vec![Block::Text(READING.into())], Vec::new());
    for sweep in newest_first(sweeps) {
        let (title, environment) = (sweep.title(), &sweep.environment);
        let (name, svg) = breakeven_plot(sweep)?;
        let commit = environment.commit.as_deref().unwrap_or("unknown");
        let ceilings = environment.ceilings.map(|ceilings| format!(" At best: {ceilings}."));
        blocks.push(Block::Heading(title.clone()));
        blocks.push(Block::Text(format!(
            "Measured on {} ({}), commit {commit}, sweep {}.{}",
            environment.date,
            environment.hardware(),
            sweep.hash,
            ceilings.unwrap_or_default()
        )));
        blocks.push(Block::Table(breakeven_table(&sweep.points)));
        blocks.push(Block::Plot { name: name.clone(), title });
        plots.push((name, svg));
    }
    for (device, title) in
        [("cuda", "An NVIDIA GPU, through CUDA"), ("wgpu", "A GPU, through wgpu")]
    {
        let on_it = |sweep: &StoredSweep| {
            sweep.sweep.device.as_ref().is_some_and(|name| name.starts_with(device))
        };
        if !sweeps.iter().any(on_it) {
            let text = format!("Not measured: `breakeven --device {device}` measures it.");
            blocks.extend([Block::Heading(title.into()), Block::Text(text)]);
        }
    }
    let section = Section {
        name: "breakeven",
        title: "Where group sparsity pays",
        about: "Our products beside the best library's, over shapes, densities and columns.",
        blocks,
        csv: Some(csv(sweeps)),
    };
    Ok((section, plots))
}

/// The hardware that was measured last comes first; of each, the usual sweeps before those that hold a library or our
/// kernels to an instruction set.
fn newest_first(sweeps: &[StoredSweep]) -> Vec<&StoredSweep> {
    let last_day = |hardware: &str| {
        let own = sweeps.iter().filter(|sweep| sweep.hardware() == hardware);
        own.map(|sweep| &sweep.environment.date).max()
    };
    let mut sorted: Vec<&StoredSweep> = sweeps.iter().collect();
    sorted.sort_by_cached_key(|stored| {
        let (hardware, sweep) = (stored.hardware(), &stored.sweep);
        let held = sweep.isa.is_some() || sweep.mkl_instructions.is_some();
        (Reverse(last_day(&hardware)), hardware, held, sweep.threads, sweep.pattern.name())
    });
    sorted
}

/// Every point as it was measured.
fn csv(sweeps: &[StoredSweep]) -> String {
    let mut table = Table::new([
        "hardware",
        "date",
        "sweep",
        "kernel",
        "m",
        "k",
        "n",
        "group_width",
        "density",
        "threads",
        "gflops",
        "dense_gflops",
        "csr_gflops",
        "library",
        "csr_library",
    ]);
    for sweep in sweeps {
        for point in &sweep.points {
            table.row([
                sweep.hardware(),
                sweep.environment.date.clone(),
                sweep.hash.clone(),
                point.kernel.clone(),
                point.m.to_string(),
                point.k.to_string(),
                point.n.to_string(),
                point.group_width.to_string(),
                point.density.to_string(),
                point.threads.to_string(),
                point.gflops.to_string(),
                point.dense_gflops.to_string(),
                point.csr_gflops.to_string(),
                point.dense_library.clone(),
                point.csr_library.as_ref().unwrap_or(&point.dense_library).clone(),
            ]);
        }
    }
    table.csv()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Environment, Sweep};
    use crate::sparse::Pattern;

    #[test]
    fn the_processor_measured_last_comes_first_and_its_usual_sweeps() {
        let sweep = |cpu: &str, date: &str, threads, isa: Option<&str>| {
            let mut environment = Environment::read("cpu");
            (environment.cpu, environment.date) = (cpu.into(), date.into());
            let sweep = Sweep {
                pattern: Pattern::Groups,
                shapes: vec![[8, 8]],
                densities: vec![0.5],
                columns: vec![1],
                widths: vec![8],
                threads,
                isa: isa.map(str::to_owned),
                mkl_instructions: None,
                device: None,
            };
            StoredSweep { hash: String::new(), sweep, points: Vec::new(), environment }
        };
        let sweeps = [
            sweep("A", "2026-01-02", 1, None),
            sweep("B", "2026-01-04", 1, Some("avx2")),
            sweep("B", "2026-01-01", 2, None),
            sweep("B", "2026-01-01", 1, None),
        ];
        let found: Vec<(&str, usize, bool)> = newest_first(&sweeps)
            .iter()
            .map(|one| (&*one.environment.cpu, one.sweep.threads, one.sweep.isa.is_some()))
            .collect();
        let expected = [("B", 1, false), ("B", 2, false), ("B", 1, true), ("A", 1, false)];
        assert_eq!(found, expected);
    }
}

//! Where group sparsity pays: every stored sweep.

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
    for sweep in sweeps {
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

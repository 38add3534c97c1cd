//! Node pruning and SIMD-aware pruning of a network, one after the other: trains, prunes in stages, times, and prints the row.

use std::process::ExitCode;

use scalpel::experiment;
use scalpel::train::recipe::Technique;

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    Ok(experiment::main(Technique::CombinedPruning)?)
}

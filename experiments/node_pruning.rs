//! Node pruning of a network: trains, prunes in stages, times, and prints the row.

use std::process::ExitCode;

use scalpel::experiment;
use scalpel::train::recipe::Technique;

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    Ok(experiment::main(Technique::NodePruning)?)
}

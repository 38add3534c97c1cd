//! Pruning of random groups of a network, a baseline: trains, prunes in stages, times, and prints the row.

use std::process::ExitCode;

use scalpel::cli;
use scalpel::train::recipe::Technique;

fn main() -> ExitCode {
    cli::technique(Technique::RandomPruning)
}

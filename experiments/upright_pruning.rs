//! Pruning of a network by upright groups, one input of several nodes: trains, prunes in stages, times, and prints
//! the row.

use std::process::ExitCode;

use scalpel::cli;
use scalpel::train::recipe::Technique;

fn main() -> ExitCode {
    cli::technique(Technique::UprightPruning)
}

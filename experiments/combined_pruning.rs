//! Node pruning of a network, then SIMD-aware pruning of what is left: trains, prunes in stages, times, and prints the row.

use std::process::ExitCode;

use scalpel::cli;
use scalpel::train::recipe::Technique;

fn main() -> ExitCode {
    cli::technique(Technique::CombinedPruning)
}

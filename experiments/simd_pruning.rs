//! SIMD-aware weight pruning of a network: trains, prunes in stages, times, and prints the row.

use clap::Parser;
use scalpel::experiment::{self, Options, Subject};
use scalpel::train::recipe::Technique;

#[derive(Parser)]
#[command(about = "Prunes aligned groups of weights (for hardware with little parallelism)")]
struct Cli {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let Cli { subject, options } = Cli::parse();
    let report = experiment::run(&subject, Technique::SimdPruning, &options)?;
    experiment::print(&[report], options.json)?;
    Ok(())
}

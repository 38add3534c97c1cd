//! Node pruning of a network: trains, prunes, retrains, compacts, times, and prints the row.

use clap::Parser;
use scalpel::experiment::{self, Options, Subject};
use scalpel::train::recipe::Technique;

#[derive(Parser)]
#[command(about = "Prunes whole nodes of a network (for hardware with much parallelism)")]
struct Cli {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let Cli { subject, options } = Cli::parse();
    let report = experiment::run(&subject, Technique::NodePruning, &options)?;
    experiment::print(&[report], options.json)?;
    Ok(())
}

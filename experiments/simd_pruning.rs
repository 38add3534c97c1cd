//! SIMD-aware weight pruning of a network: trains, prunes in stages, times, and prints the row.

use std::path::PathBuf;

use clap::Parser;
use scalpel::experiment::{self, Options};
use scalpel::train::recipe::Technique;

#[derive(Parser)]
#[command(about = "Prunes aligned groups of weights (for hardware with little parallelism)")]
struct Cli {
    /// A network of the zoo, such as lenet-300-100
    network: String,
    /// A recipe of your own
    #[arg(long)]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let report =
        experiment::run(&cli.network, Technique::SimdPruning, cli.recipe.as_ref(), &cli.options)?;
    experiment::print(&[report], cli.options.json)?;
    Ok(())
}

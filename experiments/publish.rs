//! Puts the model that a finished run came to, or began with, with its card, into the folder of models.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use scalpel::data::fetch::sha256;
use scalpel::error::Error;
use scalpel::files;
use scalpel::models::{self, Which};
use scalpel::report::ResultsTree;
use scalpel::train::recipe::{Precision, Recipe, Technique};

#[derive(Parser)]
#[command(
    about = "Puts what a finished run came to, with a card, into the folder of pre-pruned models"
)]
struct Cli {
    /// Such as simd_pruning
    experiment: String,
    /// A network of the zoo, such as lenet-300-100
    network: String,
    /// Another recipe that the program carries, such as `all`
    #[arg(long)]
    variant: Option<String>,
    /// Numbers in which it multiplied during training; the recipe's own, where absent
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Take the network as it was before pruning, for other runs to begin with (their --original)
    #[arg(long)]
    before_pruning: bool,
    /// The original network that the run was given, where it was
    #[arg(long, value_name = "FILE")]
    original: Option<PathBuf>,
    /// The run to take
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where results lie
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Where checkpoints lie
    #[arg(long, default_value = "checkpoints")]
    checkpoints: PathBuf,
    /// The folder of models
    #[arg(long, default_value = "zoo")]
    zoo: PathBuf,
}

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let technique = Technique::ALL.into_iter().find(|t| t.experiment() == cli.experiment);
    let technique = technique.ok_or_else(|| {
        let names = Technique::ALL.map(Technique::experiment).join(", ");
        Error::argument("experiment", names, cli.experiment.clone())
    })?;
    let variant = cli.variant.as_deref();
    let own = Recipe::built_in(&cli.network, technique, variant)?.full();
    let precision = cli.precision.filter(|&precision| precision != own.precision);
    let recipe = Recipe { seed: cli.seed, precision: precision.unwrap_or(own.precision), ..own };
    let recipe = match &cli.original {
        Some(path) => recipe.from_original(&sha256(&files::read(path)?))?,
        None => recipe,
    };
    let which = if cli.before_pruning { Which::Original } else { Which::Pruned };
    let name = models::name(&recipe, variant, precision, which);
    let tree = ResultsTree::at(&cli.results);
    let card = models::publish(&recipe, which, &name, &tree, &cli.checkpoints, &cli.zoo)?;
    println!("{}: {:.2}%, {} bytes", cli.zoo.join(&name).display(), card.accuracy, card.bytes);
    Ok(())
}

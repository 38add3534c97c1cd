//! Puts the model that a finished run came to, or began with, with its card, into the folder of models.

use std::process::ExitCode;

use scalpel::cli::{self, Publish};
use scalpel::data::fetch::sha256;
use scalpel::error::Error;
use scalpel::files;
use scalpel::models::{self, Which};
use scalpel::report::ResultsTree;
use scalpel::train::recipe::{Recipe, Technique};

fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Publish) -> anyhow::Result<()> {
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
    let tree = ResultsTree::at(&cli.results.results);
    let card = models::publish(
        &recipe,
        which,
        &name,
        &tree,
        &cli.checkpoints.checkpoints,
        &cli.zoo_dir.zoo_dir,
    )?;
    println!(
        "{}: {:.2}%, {} bytes",
        cli.zoo_dir.zoo_dir.join(&name).display(),
        card.accuracy,
        card.bytes
    );
    Ok(())
}

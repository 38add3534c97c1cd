//! Both techniques of the paper on one network, in one table beside the authors' numbers.

use std::process::ExitCode;

use scalpel::cli::{self, Reproduce};
use scalpel::experiment::{self, RecipeArgs};
use scalpel::network::zoo;
use scalpel::train::recipe::Technique;

fn main() -> ExitCode {
    cli::main(run)
}

fn run(Reproduce { network, options }: Reproduce) -> anyhow::Result<()> {
    let args = RecipeArgs { network: zoo::by_name(&network)?, recipe: None, variant: None };
    let mut reports = Vec::new();
    for technique in [Technique::NodePruning, Technique::SimdPruning] {
        reports.push(experiment::run(&args, technique, &options)?);
    }
    experiment::print(&reports, options.run.json.json)?;
    Ok(())
}

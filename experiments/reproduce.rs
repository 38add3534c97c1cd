//! Every technique of the paper on one network, in one table beside the authors' numbers.

use std::process::ExitCode;

use clap::Parser;
use scalpel::experiment::{self, Options, Subject};
use scalpel::train::recipe::Technique;

#[derive(Parser)]
#[command(about = "Trains, prunes, compacts and times a network, and prints its row of the table")]
struct Cli {
    /// A network of the zoo, such as lenet-300-100
    network: String,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    let Cli { network, options } = Cli::parse();
    let subject = Subject { network, recipe: None, variant: None };
    let mut reports = Vec::new();
    for technique in [Technique::NodePruning, Technique::SimdPruning] {
        reports.push(experiment::run(&subject, technique, &options)?);
    }
    experiment::print(&reports, options.json)?;
    Ok(())
}

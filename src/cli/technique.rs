use clap::{Command, CommandFactory, Parser};

use crate::experiment::{Options, RecipeArgs};
use crate::options::network_names;
use crate::train::recipe::Technique;

/// The arguments of a technique's binary.
#[derive(Clone, Debug, Parser)]
pub struct TechniqueCommand {
    /// Network and recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// How it runs.
    #[command(flatten)]
    pub options: Options,
}

/// The command of a technique's binary.
pub fn technique_command(technique: Technique) -> Command {
    let name = technique.experiment();
    let examples = format!(
        "Examples:\n  {name} lenet-300-100 --seed 1 --quick\n  {name} lenet-5 --threads 2 --results elsewhere"
    );
    TechniqueCommand::command().name(name).about(technique.about()).after_help(examples)
}

/// Trains, prunes, compacts and times a network by both techniques of the paper, and prints its row of the table
#[derive(Clone, Debug, Parser)]
#[command(
    name = "reproduce",
    after_help = "Examples:
  reproduce lenet-300-100
  reproduce lenet-5 --seed 2 --quick"
)]
pub struct Reproduce {
    /// The network, such as lenet-300-100
    #[arg(value_parser = network_names())]
    pub network: String,
    /// How it runs.
    #[command(flatten)]
    pub options: Options,
}

use std::path::PathBuf;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::options::{CheckpointsArg, ResultsArg, ZooDirArg, network_names};
use crate::train::recipe::{Precision, Technique};

/// Puts what a finished run came to, with a card, into the folder of published models
#[derive(Clone, Debug, Parser)]
#[command(
    name = "publish",
    after_help = "Examples:
  publish simd_pruning lenet-300-100 --variant lossless
  publish node_pruning nin --variant short --before-pruning"
)]
pub struct Publish {
    /// The experiment, such as simd_pruning
    #[arg(value_parser = PossibleValuesParser::new(Technique::ALL.map(Technique::experiment)))]
    pub experiment: String,
    /// The network, such as lenet-300-100
    #[arg(value_parser = network_names())]
    pub network: String,
    /// Another recipe that the program carries, such as all
    #[arg(long)]
    pub variant: Option<String>,
    /// Numbers in which it multiplied during training; the recipe's own, where absent
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Take the network as it was before pruning, for other runs to begin with (their --original)
    #[arg(long)]
    pub before_pruning: bool,
    /// The original network that the run was given, where it was
    #[arg(long, value_name = "FILE")]
    pub original: Option<PathBuf>,
    /// The run to take
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where results lie.
    #[command(flatten)]
    pub results: ResultsArg,
    /// Where checkpoints lie.
    #[command(flatten)]
    pub checkpoints: CheckpointsArg,
    /// Where published models lie.
    #[command(flatten)]
    pub zoo_dir: ZooDirArg,
}

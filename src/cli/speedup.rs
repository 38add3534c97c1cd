use std::path::PathBuf;

use clap::Parser;

use crate::engine::Policy;
use crate::network::Network;
use crate::options::{NetworkOrFile, ResultsArg, RunArgs, ZooDirArg};

/// Measures how much faster pruned networks are than dense ones on this machine
#[derive(Clone, Debug, Parser)]
#[command(
    name = "speedup",
    after_help = "Examples:
  speedup --threads 1 --batch 1,16
  speedup alexnet --threads 1 --batch 1 --profile
  speedup lenet-5 --weights pruned.pth --threads 1"
)]
pub struct Speedup {
    /// Networks, such as lenet-5 nin; all, where absent; with --weights, also a file (.json) that describes one
    #[arg(value_name = "NETWORK", value_parser = NetworkOrFile)]
    pub networks: Vec<Network>,
    /// Weights of your own for the one network named, pruned or not: safetensors or a state dict of PyTorch; what is
    /// measured is printed, not stored
    #[arg(long, value_name = "FILE", requires = "networks")]
    pub weights: Option<PathBuf>,
    /// Which dictionary of tensors, where a file of PyTorch has several
    #[arg(long, requires = "weights")]
    pub key: Option<String>,
    /// Images in a batch, such as 1,16,128
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    pub batch: Vec<usize>,
    /// Policies to run beside the library; all, where absent
    #[arg(long, value_enum, value_delimiter = ',')]
    pub policy: Vec<Policy>,
    /// A Python that has PyTorch, such as python3: its networks, captured in CUDA graphs, are timed in turns with ours
    #[arg(long, value_name = "PYTHON")]
    pub pytorch: Option<String>,
    /// Print each step of the networks as the policies run them: kernel, density, bytes, time
    #[arg(long, alias = "explain")]
    pub profile: bool,
    /// Measure which kernel is the fastest anew, instead of remembering it
    #[arg(long)]
    pub fresh: bool,
    /// Where published models lie.
    #[command(flatten)]
    pub zoo_dir: ZooDirArg,
    /// What computes, and how results are printed.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where results go.
    #[command(flatten)]
    pub results: ResultsArg,
}

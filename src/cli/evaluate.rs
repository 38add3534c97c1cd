use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use crate::engine::Policy;
use crate::network::Network;
use crate::options::{NetworkOrFile, RunArgs, ZooDirArg};

/// Measures the test accuracy of weights: ours or the authors', masked, compacted or sparse
#[derive(Clone, Debug, Parser)]
#[command(
    name = "evaluate",
    after_help = "Examples:
  evaluate lenet-5 --weights w.safetensors
  evaluate --zoo lenet-5-simd-pruning
  evaluate --zoo lenet-5-simd-pruning --policy simd"
)]
pub struct Evaluate {
    /// The network that the weights are of, such as lenet-5; with --recipe, also a file (.json) that describes one
    #[arg(required_unless_present = "zoo", value_parser = NetworkOrFile)]
    pub network: Option<Network>,
    /// A recipe of your own, which says the data set and how pixels become inputs
    #[arg(long, conflicts_with = "zoo")]
    pub recipe: Option<PathBuf>,
    /// safetensors or a state dict of PyTorch, under the authors' parameter names, with or without masks
    #[arg(long, value_name = "FILE", required_unless_present = "zoo")]
    pub weights: Option<PathBuf>,
    /// Which dictionary of tensors, where a file of PyTorch has several
    #[arg(long, conflicts_with = "zoo")]
    pub key: Option<String>,
    /// A published model, such as lenet-300-100-simd-pruning: is it what its card says?
    #[arg(long, value_name = "NAME", conflicts_with_all = ["network", "weights", "synthetic"])]
    pub zoo: Option<String>,
    /// Test on digits drawn by this program
    #[arg(long)]
    pub synthetic: bool,
    /// Test on so many of the test images, the first ones; a card, which is of all, is then not compared
    #[arg(long, value_name = "COUNT")]
    pub images: Option<NonZeroUsize>,
    /// Run it as this policy does, by our own kernels, instead of by libtorch
    #[arg(long, value_enum)]
    pub policy: Option<Policy>,
    /// Where published models lie.
    #[command(flatten)]
    pub zoo_dir: ZooDirArg,
    /// What computes, and how results are printed.
    #[command(flatten)]
    pub run: RunArgs,
}

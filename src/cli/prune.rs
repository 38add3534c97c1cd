use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::network::Network;
use crate::options::NetworkOrFile;

/// Prunes, compacts or converts a file of weights, without training
#[derive(Clone, Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:
  prune simd --width 8 --threshold 0.04 in.safetensors -o out.safetensors --format groups
  prune upright --height 8 --threshold 0.04 in.safetensors -o out.safetensors --format upright
  prune node lenet-5 masked.pth -o small.safetensors"
)]
pub struct Prune {
    /// What is removed, or converted.
    #[command(subcommand)]
    pub how: How,
    /// Print JSON to stdout
    #[arg(long, global = true)]
    pub json: bool,
}

/// What is removed.
#[derive(Clone, Debug, Subcommand)]
pub enum How {
    /// Remove aligned groups whose root mean square is below a threshold
    Simd {
        /// Weights in a group
        #[arg(long, default_value_t = 8)]
        width: usize,
        /// Root mean square below which a group is removed
        #[arg(long)]
        threshold: f64,
        /// Input and output.
        #[command(flatten)]
        files: Files,
    },
    /// Remove groups of one column and several rows whose root mean square is below a threshold
    Upright {
        /// Weights in a group
        #[arg(long, default_value_t = 8)]
        height: usize,
        /// Root mean square below which a group is removed
        #[arg(long)]
        threshold: f64,
        /// Input and output.
        #[command(flatten)]
        files: Files,
    },
    /// Remove the nodes that the masks in the file block: a smaller dense network
    Node {
        /// The network that the weights are of, such as lenet-5, or a file (.json) that describes another
        #[arg(value_parser = NetworkOrFile)]
        network: Network,
        /// Input and output.
        #[command(flatten)]
        files: Files,
    },
    /// Remove the smallest weights, each on its own
    Magnitude {
        /// How much of all weights to remove, 0 to 1
        #[arg(long)]
        fraction: f64,
        /// The same fraction of every layer
        #[arg(long)]
        per_layer: bool,
        /// Input and output.
        #[command(flatten)]
        files: Files,
    },
    /// Remove random aligned groups, a baseline
    Random {
        /// Weights in a group
        #[arg(long, default_value_t = 1)]
        width: usize,
        /// How much of every layer's groups to remove, 0 to 1
        #[arg(long)]
        fraction: f64,
        /// Start of the random choice
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Input and output.
        #[command(flatten)]
        files: Files,
    },
    /// Change nothing but the file's format
    Convert {
        /// Input and output.
        #[command(flatten)]
        files: Files,
    },
}

/// Input and output.
#[derive(Args, Clone, Debug)]
pub struct Files {
    /// safetensors (or an index of its shards), or what torch.save wrote
    pub input: PathBuf,
    /// Which dictionary of tensors, where a file of PyTorch has several
    #[arg(long)]
    pub key: Option<String>,
    /// safetensors
    #[arg(short, long)]
    pub output: PathBuf,
    /// How weights are stored
    #[arg(long, value_enum, default_value_t = Storage::Dense)]
    pub format: Storage,
    /// Weights in a stored group; the pruned width or height, where absent
    #[arg(long)]
    pub group_width: Option<usize>,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// All of them.
    Dense,
    /// Groups that are not 0.
    Groups,
    /// Upright groups that are not 0.
    Upright,
    /// Weights that are not 0, in compressed rows.
    Csr,
}

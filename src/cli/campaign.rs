use std::path::PathBuf;

use clap::Parser;

use crate::campaign::Shard;
use crate::experiment::Options;

/// Runs a plan of experiments, as many at once as the machine bears; one thread each, where --threads is absent
#[derive(Clone, Debug, Parser)]
#[command(
    name = "campaign",
    after_help = "Examples:
  campaign experiments/plans/lenet-300-100.toml
  campaign experiments/plans/nin-short.toml --parallel 1 --threads 2"
)]
pub struct Campaign {
    /// The plan (see experiments/plans)
    #[arg(required_unless_present = "job")]
    pub plan: Option<PathBuf>,
    /// Run part i of n of the plan: several hosts then share one results folder
    #[arg(long, default_value = "1/1")]
    pub shard: Shard,
    /// Jobs at once; as many as fill the cores (four for each GPU at most), where absent
    #[arg(long)]
    pub parallel: Option<usize>,
    /// GPUs to spread the jobs over, with --device cuda
    #[arg(long, default_value_t = 1)]
    pub gpus: usize,
    /// Run one job in this process
    #[arg(long, hide = true)]
    pub job: Option<String>,
    /// What all jobs share.
    #[command(flatten)]
    pub options: Options,
}

use anyhow::anyhow;
use clap::Parser;

use crate::options::{ResultsArg, RunArgs};
use crate::sparse::Pattern;

/// Measures where group sparsity pays: our products beside the best library's, over shapes and densities
#[derive(Clone, Debug, Parser)]
#[command(
    name = "breakeven",
    after_help = "Examples:
  breakeven --threads 1
  breakeven --threads 1 --shape 300x784,4096x4096 --density 0.1,0.5,1 --columns 1,64"
)]
pub struct Breakeven {
    /// Shapes M x K of the weights, such as 300x784,4096x9216
    #[arg(long, value_delimiter = ',', value_parser = shape)]
    pub shape: Vec<[usize; 2]>,
    /// Shares of the groups that are stored, such as 0.08,0.2,0.4
    #[arg(long, value_delimiter = ',')]
    pub density: Vec<f64>,
    /// Columns N of the activations, such as 1,64
    #[arg(long, value_delimiter = ',')]
    pub columns: Vec<usize>,
    /// How weights are grouped: neighbours of one row, or of one column
    #[arg(long, value_enum, default_value_t = Pattern::Groups)]
    pub pattern: Pattern,
    /// Weights in a group, such as 4,8
    #[arg(long, value_delimiter = ',')]
    pub width: Vec<usize>,
    /// Hold our kernels to an instruction set: avx512, avx2 or portable
    #[arg(long)]
    pub isa: Option<String>,
    /// What computes, and how results are printed.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where results go.
    #[command(flatten)]
    pub results: ResultsArg,
}

/// A shape such as `300x784`.
pub(super) fn shape(text: &str) -> anyhow::Result<[usize; 2]> {
    let expected = || anyhow!("expected a shape such as 300x784");
    let (rows, columns) = text.split_once('x').ok_or_else(expected)?;
    Ok([rows.parse().map_err(|_| expected())?, columns.parse().map_err(|_| expected())?])
}

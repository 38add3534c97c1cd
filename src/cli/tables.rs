use std::path::PathBuf;

use clap::Parser;

use crate::options::{ResultsArg, ZooDirArg};

/// Writes the tables of README.md, RESULTS.md, docs/results/ and every plot from the results tree alone
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tables",
    after_help = "Examples:
  tables
  tables --html report.html"
)]
pub struct Tables {
    /// Where results lie.
    #[command(flatten)]
    pub results: ResultsArg,
    /// Where published models lie.
    #[command(flatten)]
    pub zoo_dir: ZooDirArg,
    /// The folder of RESULTS.md, README.md and docs/
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub into: PathBuf,
    /// Write one self-contained page with sortable tables and all plots instead
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

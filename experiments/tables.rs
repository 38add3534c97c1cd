//! RESULTS.md, the tables of README.md, and every plot, from the results tree alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use scalpel::files;
use scalpel::report::{ResultsTree, Tables};

#[derive(Parser)]
#[command(
    about = "Writes RESULTS.md, the tables of README.md and every plot from the results tree"
)]
struct Cli {
    /// The results tree
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// The folder of RESULTS.md and README.md
    #[arg(long, default_value = ".")]
    into: PathBuf,
}

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // Tables of nothing would take the place of those that are there.
    ensure!(
        cli.results.is_dir(),
        "the results tree: expected a folder, got {}, which is none; run an experiment first, or name its \
         --results",
        cli.results.display()
    );
    let tree = ResultsTree::at(&cli.results);
    let tables = Tables::build(&tree)?;
    for (name, svg) in &tables.plots {
        write(&tree.plot(name), svg)?;
    }
    write(&cli.into.join("RESULTS.md"), &tables.results)?;
    let readme = cli.into.join("README.md");
    if readme.exists() {
        write(&readme, &tables.into_readme(&files::read_text(&readme)?)?)?;
    }
    for stale in tree.other_plots(&tables.plots)? {
        std::fs::remove_file(&stale)
            .with_context(|| format!("remove {}, which no table shows", stale.display()))?;
        println!("{} removed: nothing is left of what it showed", stale.display());
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    files::replace(path, text).context("the tables are not complete")?;
    println!("{}", path.display());
    Ok(())
}

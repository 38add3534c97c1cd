//! README.md's tables, RESULTS.md, docs/results/ and every plot, from the results tree alone.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use scalpel::cli::{self, Tables as Arguments};
use scalpel::report::{ResultsTree, Section, Tables};
use scalpel::{files, models};

fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Arguments) -> anyhow::Result<()> {
    let results = &cli.results.results;
    // Tables of nothing would take the place of those that are there.
    ensure!(
        results.is_dir(),
        "the results tree: expected a folder, got {}, which is none; run an experiment first, or name its \
         --results",
        results.display()
    );
    let tree = ResultsTree::at(results);
    let tables = Tables::build(&tree, &models::kept_shares(&cli.zoo_dir.zoo_dir)?)?;
    if let Some(page) = &cli.html {
        return write(page, &tables.html());
    }
    for (name, svg) in tables.plots() {
        write(&tree.plot(name), svg)?;
    }
    let files = tables.files();
    for (path, text) in &files {
        write(&cli.into.join(path), text)?;
    }
    let readme = cli.into.join("README.md");
    if readme.exists() {
        write(&readme, &tables.into_readme(&files::read_text(&readme)?)?)?;
    }
    let mut stale = tree.other_plots(tables.plots())?;
    stale.extend(
        pages(&cli.into.join(Section::FOLDER))?
            .into_iter()
            .filter(|path| files.iter().all(|(written, _)| cli.into.join(written) != *path)),
    );
    for path in stale {
        std::fs::remove_file(&path)
            .with_context(|| format!("remove {}, which nothing shows", path.display()))?;
        println!("{} removed: nothing is left of what it showed", path.display());
    }
    Ok(())
}

/// The files that earlier tables wrote into a folder.
fn pages(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder).context("read the folder of pages")? {
        let path = entry.context("read the folder of pages")?.path();
        if path.extension().is_some_and(|end| end == "md" || end == "csv") {
            pages.push(path);
        }
    }
    Ok(pages)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    files::replace(path, text).context("the tables are not complete")?;
    println!("{}", path.display());
    Ok(())
}

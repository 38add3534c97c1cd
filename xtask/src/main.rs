//! `cargo xtask`: the commands that work as the first one in a clean clone.
//!
//! Each provides libtorch (see [`libtorch`]) and hands over to plain cargo.

mod bundle;
mod cache;
mod collect;
mod libtorch;
mod mkl;
mod rehearse;
mod wheels;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Provides libtorch and runs the project's main jobs")]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Provide libtorch, so that plain `cargo build | run | test | bench` work.
    Setup {
        /// Provide Intel's MKL as well, to compare our kernels with (x86-64 Linux, 220 MB).
        #[arg(long)]
        mkl: bool,
    },
    /// Train, prune, compact and time a network, and print its row of the table.
    Reproduce {
        /// The network and the options of the `reproduce` binary, such as `lenet-300-100 --seed 2 --quick`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Gather binaries, tests, kernels and a run.sh in one folder, for a GPU host that has no Rust.
    Bundle {
        /// The folder; what it held is replaced.
        #[arg(long, default_value = "target/bundle")]
        out: PathBuf,
        /// Cargo's profile: `dev` for a rehearsal, which shares what tests have built.
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Pack CIFAR-10 in parts, for a GPU host to which little can be carried at a time.
    DataParts {
        /// The folder; what it held is replaced.
        #[arg(long, default_value = "target/data-parts")]
        out: PathBuf,
    },
    /// Let a bundle measure in tiny sizes on this machine, as it would on a GPU host: unpacked in an empty folder,
    /// without Rust and without a network.
    Rehearse {
        /// The bundle.
        #[arg(long, default_value = "target/bundle")]
        bundle: PathBuf,
    },
    /// Merge the archive that came back from a GPU host into results/, and write the tables anew.
    Collect {
        /// `results.tgz`.
        archive: PathBuf,
        /// Let trained runs of the archive take the place of other ones of the same recipe and seed.
        #[arg(long)]
        replace_runs: bool,
    },
    /// Run all tests.
    Test {
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    // What went wrong is the user's to know; where in this program, a backtrace of it, would only bury that.
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = workspace_root()?;
    let job = Cli::parse().job;
    libtorch::provide(&root)?;
    match job {
        Job::Setup { mkl: false } => Ok(()),
        Job::Setup { mkl: true } => mkl::provide(&root).map(|_| ()),
        Job::Reproduce { arguments } => {
            cargo(&root, &["run", "--release", "--bin", "reproduce", "--"], &arguments)
        }
        Job::Bundle { out, profile } => bundle::make(&root, &root.join(out), &profile),
        Job::DataParts { out } => bundle::make_data_parts(&root.join(out)),
        Job::Rehearse { bundle } => rehearse::run(&root, &root.join(bundle)),
        Job::Collect { archive, replace_runs } => {
            let merged = collect::merge(&archive, &root.join("results"), replace_runs)?;
            println!("{merged}");
            cargo(&root, &["run", "--release", "--quiet", "--bin", "tables"], &[])
        }
        Job::Test { arguments } => cargo(&root, &["test", "--workspace"], &arguments),
    }
}

/// The folder that holds the workspace's `Cargo.toml`: the parent of this crate's own.
fn workspace_root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().context("xtask lies in no workspace")?;
    if !root.join("Cargo.toml").is_file() {
        bail!(
            "{} holds no Cargo.toml: the checkout was moved after xtask was built; run `cargo clean -p xtask` and again",
            root.display()
        );
    }
    Ok(root.to_owned())
}

/// Cargo, for a run inside of which this program runs in one of cargo's own: without the variables that say so. Build
/// scripts ask for them (ring's does), and would run again, and all that depends on them be built anew, at each change
/// between `cargo xtask` and plain cargo.
fn plain_cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_this_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_this_run.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs `cargo <fixed> <arguments>` on the workspace, from the caller's folder (where the relative
/// paths of the arguments and of `SCALPEL_DATA_DIR` start), and fails as it fails.
fn cargo(root: &Path, fixed: &[&str], arguments: &[String]) -> Result<()> {
    let status = plain_cargo()
        .args(&fixed[..1])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .args(&fixed[1..])
        .args(arguments)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        // The command has said why; a second report from here would only bury it.
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_commands_are_ours() {
        let root = workspace_root().unwrap();
        let mut parsed = 0;
        for document in ["README.md", "CONTRIBUTING.md", "docs/experiments.md", "docs/gpu.md"] {
            let text = std::fs::read_to_string(root.join(document)).unwrap();
            for line in text.lines().filter_map(|line| line.strip_prefix("cargo xtask ")) {
                // A comment may follow; a part in angle brackets is the reader's.
                let line = line.split(" #").next().unwrap_or_default().replace(['<', '>'], "");
                let words = ["xtask"].into_iter().chain(line.split_whitespace());
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{document}: cargo xtask {line}: {error}");
                }
                parsed += 1;
            }
        }
        assert!(parsed >= 6, "{parsed} commands");
    }
}

//! Gathers what a host with a GPU needs to measure and train, where there is no Rust: binaries, tests,
//! benches and a script that finds libtorch and CUDA's libraries there. Kernels and recipes are inside
//! the binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What `run.sh` calls, and the name it has there.
const BINARIES: [&str; 4] = ["breakeven", "campaign", "evaluate", "speedup"];
/// Campaigns that can be run there, and models whose speed can be measured: folders of the checkout, and
/// what they are called in the bundle.
const FOLDERS: [(&str, &str); 2] = [("experiments/plans", "plans"), ("zoo", "zoo")];
const BENCHES: [&str; 2] = ["group_spmm", "masked_dense"];
const TESTS: &str = "conformance";
/// The folder of the programs.
const BIN: &str = "bin";
const SCRIPT: &str = include_str!("../bundle/run.sh");

/// The bundle must fit where 64 MB may be carried, with data beside it.
const MOST_BYTES: u64 = 60 << 20;

/// Builds everything and puts it into `folder`, anew.
pub fn make(root: &Path, folder: &Path) -> Result<()> {
    // In one go, so that what they share is built once.
    let mut wanted = vec!["build", "--release"];
    BINARIES.iter().for_each(|name| wanted.extend(["--bin", name]));
    BENCHES.iter().for_each(|name| wanted.extend(["--bench", name]));
    let mut programs = built(root, &wanted, |kind, name| match kind {
        "bin" if BINARIES.contains(&name) => Some(name.to_owned()),
        "bench" if BENCHES.contains(&name) => Some(format!("bench_{name}")),
        _ => None,
    })?;
    let tests = ["test", "--release", "--no-run", "--package", "scalpel", "--lib"];
    programs.extend(built(root, &tests, |kind, _| (kind == "lib").then(|| TESTS.to_owned()))?);
    let expected = BINARIES.len() + BENCHES.len() + 1;
    ensure!(programs.len() == expected, "cargo built {} of {expected} programs", programs.len());

    // Beside it first, so that a bundle is either whole or the one before.
    let fresh = folder.with_extension("partial");
    let _ = fs::remove_dir_all(&fresh);
    let bin = fresh.join(BIN);
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    for (name, path) in &programs {
        strip(path, &bin.join(name))?;
    }
    pack(&fresh)?;
    let script = fresh.join("run.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    for (from, to) in FOLDERS {
        copy_files(&root.join(from), &fresh.join(to))?;
    }
    fs::write(fresh.join("COMMIT"), commit(root)).context("cannot write COMMIT")?;
    let bytes = size(&fresh)?;
    ensure!(bytes <= MOST_BYTES, "the bundle has {bytes} bytes, more than {MOST_BYTES}");
    let _ = fs::remove_dir_all(folder);
    fs::rename(&fresh, folder).with_context(|| format!("cannot create {}", folder.display()))?;
    println!(
        "{} ({:.1} MB): copy it to the host and call run.sh there",
        folder.display(),
        bytes as f64 / 1e6
    );
    Ok(())
}

/// Runs cargo and gives the executables that it says it made, under the names that `named` gives them by
/// their target's kind and name.
fn built(
    root: &Path,
    arguments: &[&str],
    named: impl Fn(&str, &str) -> Option<String>,
) -> Result<Vec<(String, PathBuf)>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    let mut executables = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let target = &message["target"];
        let kind = target["kind"][0].as_str().unwrap_or_default();
        let name = target["name"].as_str().unwrap_or_default();
        if let (Some(path), Some(name)) = (message["executable"].as_str(), named(kind, name)) {
            executables.push((name, PathBuf::from(path)));
        }
    }
    Ok(executables)
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("-s").arg("-o").arg(to).arg(from).status();
    let status = status.context("`strip` is not on the PATH: install binutils")?;
    ensure!(status.success(), "strip failed on {}", from.display());
    Ok(())
}

/// Packs the programs of the bundle `folder` into one file, which `run.sh` unpacks: a third of their size.
fn pack(folder: &Path) -> Result<()> {
    let packed = format!("{BIN}.tar.gz");
    let status = Command::new("tar").args(["-czf", &packed, BIN]).current_dir(folder).status();
    let status = status.context("`tar` is not on the PATH")?;
    ensure!(status.success(), "tar failed on {}", folder.join(BIN).display());
    fs::remove_dir_all(folder.join(BIN)).context("cannot remove what was packed")
}

/// The commit, with `+` where the tree has changes; results from there name it.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    match git(&["status", "--porcelain", "--", ".", ":(exclude)results", ":(exclude)RESULTS.md"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => commit + "+",
    }
}

fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        bytes += if data.is_dir() { size(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}

fn copy_files(from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let to = into.join(path.file_name().unwrap_or_default());
        fs::copy(&path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

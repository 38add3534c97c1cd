//! Gathers what a host with a GPU needs to measure and train, where there is no Rust: binaries, tests,
//! benches and a script that finds libtorch and CUDA's libraries there. Kernels and recipes are inside
//! the binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::plain_cargo;

/// What `run.sh` calls, and the name it has there.
const BINARIES: [&str; 4] = ["breakeven", "campaign", "evaluate", "speedup"];
/// Campaigns that can be run there.
const PLANS: &str = "experiments/plans";
/// Models whose speed can be measured.
const ZOO: &str = "zoo";
const BENCHES: [&str; 2] = ["group_spmm", "masked_dense"];
const TESTS: &str = "conformance";
/// The folder of the programs.
const BIN: &str = "bin";
const SCRIPT: &str = include_str!("../bundle/run.sh");

/// MNIST's files, which go along where they are at hand: 12 MB.
const MNIST: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

/// What a checkout and the bundle in it may have together, so that both can be carried at once where 64 MB may be.
const MOST_BYTES: u64 = 60 << 20;

/// Builds everything in a profile of cargo's, and puts it into `folder`, anew.
pub fn make(root: &Path, folder: &Path, profile: &str) -> Result<()> {
    // In one go, so that what they share is built once.
    let mut wanted = vec!["build", "--profile", profile];
    BINARIES.iter().for_each(|name| wanted.extend(["--bin", name]));
    BENCHES.iter().for_each(|name| wanted.extend(["--bench", name]));
    let mut programs = built(root, &wanted, |kind, name| match kind {
        "bin" if BINARIES.contains(&name) => Some(name.to_owned()),
        "bench" if BENCHES.contains(&name) => Some(format!("bench_{name}")),
        _ => None,
    })?;
    let tests = ["test", "--profile", profile, "--no-run", "--package", "scalpel", "--lib"];
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
    copy_files(&root.join(PLANS), &fresh.join("plans"), |_| true)?;
    copy_files(&root.join(ZOO), &fresh.join("zoo"), is_pruned)?;
    let mnist = copy_mnist(&fresh.join("data/mnist"))?;
    fs::write(fresh.join("COMMIT"), commit(root)).context("cannot write COMMIT")?;
    let (bytes, tree) = (size(&fresh)?, tree_size(root)?);
    ensure!(
        bytes + tree <= MOST_BYTES,
        "the bundle has {bytes} bytes and the checkout {tree}, together more than {MOST_BYTES}: {}",
        largest(&fresh)?
    );
    let _ = fs::remove_dir_all(folder);
    fs::rename(&fresh, folder).with_context(|| format!("cannot create {}", folder.display()))?;
    println!(
        "{} ({:.1} MB, {} MNIST; the checkout beside it {:.1} MB): copy it to the host and call `run.sh first --out \
         <folder>` there",
        folder.display(),
        bytes as f64 / 1e6,
        if mnist { "with" } else { "without" },
        tree as f64 / 1e6
    );
    Ok(())
}

/// Copies MNIST from the user's folder of data, where it is whole; says whether it was.
fn copy_mnist(into: &Path) -> Result<bool> {
    let Some(data) = std::env::var_os("SCALPEL_DATA_DIR") else { return Ok(false) };
    let from = Path::new(&data).join("mnist");
    if !MNIST.iter().all(|file| from.join(file).is_file()) {
        return Ok(false);
    }
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    for file in MNIST {
        fs::copy(from.join(file), into.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    Ok(true)
}

/// Bytes of a part of CIFAR-10: what can be carried at once beside a checkout.
const PART_BYTES: usize = 36 << 20;

/// Packs CIFAR-10 from the user's folder of data into parts, each in a folder of its own below `folder`, for a host
/// to which little can be carried at a time: `run.sh data <part>` takes them there.
pub fn make_data_parts(folder: &Path) -> Result<()> {
    const NAME: &str = "cifar-10-batches-bin";
    let data = std::env::var_os("SCALPEL_DATA_DIR");
    let data = data
        .context("SCALPEL_DATA_DIR is not set: name the folder that has cifar-10-batches-bin/")?;
    ensure!(
        Path::new(&data).join(NAME).is_dir(),
        "{} has no {NAME}/: SCALPEL_DATA_DIR names the folder that does",
        Path::new(&data).display()
    );
    let packed = Command::new("tar").args(["-czf", "-", "-C"]).arg(&data).arg(NAME).output();
    let packed = packed.context("`tar` is not on the PATH")?;
    ensure!(packed.status.success(), "tar failed on {NAME}");
    let _ = fs::remove_dir_all(folder);
    let parts: Vec<&[u8]> = packed.stdout.chunks(PART_BYTES).collect();
    for (place, part) in parts.iter().enumerate() {
        let own = folder.join((place + 1).to_string());
        fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
        let file = own.join(format!("cifar-10.tar.gz.{}-of-{}", place + 1, parts.len()));
        fs::write(&file, part).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{} ({:.1} MB)", file.display(), part.len() as f64 / 1e6);
    }
    Ok(())
}

/// Bytes of the checkout's files that travel with it: those that git does not ignore.
fn tree_size(root: &Path) -> Result<u64> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        return Ok(0); // no checkout: nothing travels with the bundle
    };
    let names = listed.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let paths = names.map(|name| root.join(String::from_utf8_lossy(name).into_owned()));
    // One that is deleted but not yet committed is listed too.
    Ok(paths.filter_map(|path| fs::symlink_metadata(path).ok()).map(|data| data.len()).sum())
}

/// Runs cargo and gives the executables that it says it made, under the names that `named` gives them by
/// their target's kind and name.
fn built(
    root: &Path,
    arguments: &[&str],
    named: impl Fn(&str, &str) -> Option<String>,
) -> Result<Vec<(String, PathBuf)>> {
    let output = plain_cargo()
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

/// Packs the programs of the bundle `folder` into one file, which `run.sh` unpacks: an eighth of their size, since what
/// they share lies within the compressor's dictionary.
fn pack(folder: &Path) -> Result<()> {
    let packed = format!("{BIN}.tar.xz");
    let status = Command::new("tar")
        .args(["-I", "xz --lzma2=preset=1,dict=128MiB", "-cf", &packed, BIN])
        .current_dir(folder)
        .status();
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

/// The three largest parts of the bundle, in words.
fn largest(folder: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        parts.push((if path.is_dir() { size(&path)? } else { fs::metadata(&path)?.len() }, name));
    }
    parts.sort_unstable_by(|a, b| b.cmp(a));
    let told = parts.iter().take(3).map(|(bytes, name)| format!("{name} {bytes}"));
    Ok(told.collect::<Vec<_>>().join(", "))
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

/// Whether a file of the zoo is of a pruned model: originals lie there for others to prune, and are the largest.
fn is_pruned(file: &str) -> bool {
    !file.contains("-original")
}

/// Copies the files of a folder whose names are wanted.
fn copy_files(from: &Path, into: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if wanted(&name.to_string_lossy()) {
            fs::copy(entry.path(), into.join(&name))
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_takes_every_model_that_was_pruned_and_no_other() {
        let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(ZOO);
        let mut pruned = 0;
        for entry in fs::read_dir(zoo).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // A card names the technique, an original's has none.
            let card = fs::read_to_string(path.with_extension("toml")).unwrap();
            assert_eq!(is_pruned(&name), card.contains("technique = "), "{name}");
            pruned += usize::from(is_pruned(&name));
        }
        assert!(pruned > 0);
    }
}

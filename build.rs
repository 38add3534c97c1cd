//! Stamps the program with the commit that it is built from, and gives every binary, test and bench an rpath to the
//! libtorch that torch-sys linked against, so that plain `cargo run | test | bench` need no environment variable.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What is part of the program: results and documents change without making it another one.
const SOURCES: [&str; 8] = [
    "src",
    "cuda",
    "shaders",
    "experiments",
    "xtask/bundle",
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
];

/// What decides which of several kernels is the fastest.
const KERNELS: [&str; 4] = ["src/kernels", "src/engine", "cuda", "shaders"];

fn main() {
    stamp();
    println!("cargo::rustc-env=SCALPEL_KERNELS={:016x}", KERNELS.iter().fold(FNV_OFFSET, hash));
    rpath();
}

/// Sets `SCALPEL_COMMIT`, empty where git does not say, and `SCALPEL_VERSION`.
///
/// A release build asks again whenever the commit changes. Others keep the stamp of the last change of the sources:
/// each commit would compile the whole library anew.
fn stamp() {
    SOURCES.iter().for_each(|source| println!("cargo::rerun-if-changed={source}"));
    println!("cargo::rerun-if-env-changed=SCALPEL_COMMIT");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = env::var("SCALPEL_COMMIT").ok().or_else(commit).unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let stamped = if commit.is_empty() { String::new() } else { format!(" ({commit})") };
    println!("cargo::rustc-env=SCALPEL_COMMIT={commit}");
    println!("cargo::rustc-env=SCALPEL_VERSION={version}{stamped}");
}

/// The commit, with `-dirty` where the sources differ from it.
fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}

/// The start of an FNV-1a hash.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// The FNV-1a hash of a file, or of all files below a folder in order of name, after what was hashed before.
fn hash(before: u64, path: impl AsRef<Path>) -> u64 {
    let path = path.as_ref();
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            paths.iter().fold(before, hash)
        }
        Err(_) => fs::read(path).unwrap_or_default().iter().fold(before, mix),
    }
}

fn rpath() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return;
    }
    let Some(libtorch) = env::var_os("LIBTORCH").map(PathBuf::from) else {
        return;
    };
    // The folder that the link names: an rpath through `.libtorch` would break when the link is renewed.
    let lib = fs::canonicalize(&libtorch).unwrap_or(libtorch).join("lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

//! Gives every binary, test and bench an rpath to the libtorch that torch-sys linked against,
//! so that plain `cargo run | test | bench` need no environment variable.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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

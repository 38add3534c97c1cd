//! Provides Intel's MKL in the [`cache`], where the program looks for it at run time. Nothing links it.
//!
//! libtorch contains an older MKL, whose symbols the whole process sees. MKL's own single library loads
//! its parts by and by, and each would be bound to libtorch's functions of the same names, which ends in
//! a crash. So the parts are bound to each other here, by an empty library that names them all: loaded
//! with `RTLD_DEEPBIND`, it makes each look for symbols among them first.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, wheels};

/// Folder of the cache; `src/baselines/mkl/mod.rs` looks for it under this name.
const NAME: &str = "mkl-2026.2.0";

/// Interface, common core, and a library per instruction set (the common core loads the one that fits).
const COMMON: [&str; 6] = [
    "libmkl_intel_lp64.so.3",
    "libmkl_core.so.3",
    "libmkl_def.so.3",
    "libmkl_avx2.so.3",
    "libmkl_avx512.so.3",
    "libmkl_avx10.so.3",
];

/// The two libraries that bind them, each with what it needs beside [`COMMON`]; `src/baselines/mkl/mod.rs`
/// loads them under these names.
const BOUND: [(&str, &[&str]); 2] = [
    ("libmkl_bound_sequential.so", &["libmkl_sequential.so.3"]),
    ("libmkl_bound_threads.so", &["libmkl_intel_thread.so.3", "libiomp5.so"]),
];

/// Provides MKL for a checkout at `root` and returns its folder.
pub fn provide(root: &Path) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("PyPI has MKL for x86-64 Linux alone: without it, libtorch is what we compare with");
    }
    let requirements = [root.join("xtask/wheels/mkl.txt")];
    let folder = cache::provide(&cache::root()?, NAME, place, |folder| {
        wheels::download(&requirements, folder)
    })?;
    for (name, own) in BOUND {
        bind(&folder, name, own)?;
    }
    Ok(folder)
}

/// Links the library `name`, which names `own` and [`COMMON`] and has nothing of its own.
fn bind(folder: &Path, name: &str, own: &[&str]) -> Result<()> {
    let target = folder.join(name);
    if target.exists() {
        return Ok(());
    }
    let partial = folder.join(format!("{name}.{}.partial", std::process::id()));
    let mut linker = Command::new("cc");
    linker.args(["-shared", "-nostdlib", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN"]);
    linker.arg("-Wl,--allow-shlib-undefined").arg("-L").arg(folder).arg("-o").arg(&partial);
    linker.args(own.iter().chain(&COMMON).map(|file| format!("-l:{file}")));
    linker.args(["-lm", "-ldl", "-lpthread", "-lc"]);
    let status = linker.status().context("cannot run cc, the linker that MKL's parts need")?;
    if !status.success() {
        bail!("cc could not link MKL's parts together (its own lines above say why)");
    }
    fs::rename(&partial, &target).with_context(|| format!("cannot create {}", target.display()))
}

/// Where a file of the wheels belongs: those that are needed, side by side.
fn place(name: &Path) -> Option<PathBuf> {
    let Some(Component::Normal(file)) = name.components().next_back() else { return None };
    let mut known = BOUND.iter().flat_map(|(_, own)| *own).chain(&COMMON);
    known.find(|known| file == **known).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_loads_has_a_place_and_the_rest_has_none() {
        let place = |name: &str| place(Path::new(name)).map(|path| path.display().to_string());
        let folder = "mkl-2026.2.0.data/data/lib";
        let core = place(&format!("{folder}/libmkl_core.so.3"));
        assert_eq!(core.as_deref(), Some("libmkl_core.so.3"));
        let openmp = place("intel_openmp-2026.2.0.data/data/lib/libiomp5.so");
        assert_eq!(openmp.as_deref(), Some("libiomp5.so"));
        assert_eq!(place(&format!("{folder}/libmkl_scalapack_lp64.so.2")), None);
    }
}

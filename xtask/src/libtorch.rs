//! Provides libtorch 2.11.0, the version that tch 0.24 binds.
//!
//! Where the user has set `LIBTORCH`, that one serves. Else the wheels of PyPI are unpacked into the
//! [`cache`]. `.libtorch` in the checkout links to it, and `.cargo/config.toml` points torch-sys at
//! the link.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{cache, wheels};

const VERSION: &str = "2.11.0";
const LINK: &str = ".libtorch";

/// Provides libtorch, links the checkout at `root` to it and returns its folder.
pub fn provide(root: &Path) -> Result<PathBuf> {
    let link = root.join(LINK);
    let folder = match set_by_user(&link) {
        Some(folder) => checked(folder)?,
        None => {
            let variant = Variant::of_this_machine();
            let requirements = variant.requirements(&root.join("xtask/wheels"));
            let name = format!("libtorch-{VERSION}-{}", variant.name());
            cache::provide(&cache::root()?, &name, wheels::place_in_libtorch, |folder| {
                wheels::download(&requirements, folder)
            })?
        }
    };
    point(&link, &folder)?;
    Ok(folder)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    /// What libtorch needs to start on a machine without a GPU.
    Cpu,
    /// CUDA's libraries as well.
    Cuda,
}

impl Variant {
    fn of_this_machine() -> Self {
        if Path::new("/proc/driver/nvidia/version").exists() { Self::Cuda } else { Self::Cpu }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The pinned wheels of this variant, as files in pip's format.
    fn requirements(self, folder: &Path) -> Vec<PathBuf> {
        let mut files = vec![folder.join("torch.txt")];
        if cfg!(target_os = "linux") {
            files.push(folder.join("cuda-at-start.txt"));
            if self == Self::Cuda {
                files.push(folder.join("cuda.txt"));
            }
        }
        files
    }
}

/// The folder that the user, not `.cargo/config.toml`, has named in `LIBTORCH`.
fn set_by_user(link: &Path) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("LIBTORCH")?);
    let is_the_link = folder == link
        || (folder.file_name() == link.file_name()
            && folder.parent()?.canonicalize().ok() == link.parent()?.canonicalize().ok());
    (!is_the_link && !folder.as_os_str().is_empty()).then_some(folder)
}

/// A libtorch that the user has named, or what is wrong with it.
fn checked(folder: PathBuf) -> Result<PathBuf> {
    let library =
        format!("{}torch_cpu{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    for part in [format!("lib/{library}"), "include/torch/csrc/api/include/torch/torch.h".into()] {
        if !folder.join(&part).is_file() {
            bail!(
                "LIBTORCH is {}, which holds no {part}: name the folder of a libtorch {VERSION}, or unset it",
                folder.display()
            );
        }
    }
    // The archives of pytorch.org say their version; a Python package's folder does not.
    let version = fs::read_to_string(folder.join("build-version")).unwrap_or(VERSION.into());
    if version.trim().split('+').next() != Some(VERSION) {
        bail!(
            "LIBTORCH is {}, version {}: tch 0.24 needs {VERSION}; name another folder, or unset it",
            folder.display(),
            version.trim()
        );
    }
    folder.canonicalize().with_context(|| format!("cannot resolve LIBTORCH, {}", folder.display()))
}

/// Makes `link` point to `folder`, in one step, whatever it pointed to.
fn point(link: &Path, folder: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == folder) {
        return Ok(());
    }
    let context = || format!("cannot link {} to {}", link.display(), folder.display());
    let fresh = link.with_extension(format!("{}.partial", std::process::id()));
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(folder, &fresh).with_context(context)?;
    fs::rename(&fresh, link).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_libtorch_of_the_user_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = checked(folder.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("LIBTORCH is") && error.contains("libtorch_cpu"), "{error}");
    }

    #[test]
    fn the_link_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(LINK);
        for target in ["one", "two"] {
            let target = folder.path().join(target);
            point(&link, &target).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), target);
        }
    }
}

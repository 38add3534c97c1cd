//! Provides libtorch 2.11.0, the version that tch 0.24 binds.
//!
//! Where the user has set `LIBTORCH`, that one serves. Else the wheels of PyPI are unpacked into a
//! cache outside the checkout, so that another clone does not download them again. `.libtorch` in
//! the checkout links to it, and `.cargo/config.toml` points torch-sys at the link.
//!
//! Two processes may do this at once (a lock in the cache lets one work and the other wait), and
//! either may be killed at any point: a folder takes its final name only when it is whole, and is
//! trusted only while every file that its manifest lists has its size.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::wheels;

const VERSION: &str = "2.11.0";
const LINK: &str = ".libtorch";
const MANIFEST: &str = "manifest.txt";

/// Provides libtorch, links the checkout at `root` to it and returns its folder.
pub fn provide(root: &Path) -> Result<PathBuf> {
    let link = root.join(LINK);
    let folder = match set_by_user(&link) {
        Some(folder) => checked(folder)?,
        None => {
            let requirements = root.join("xtask/wheels");
            let cache = dirs::cache_dir()
                .context("this system names no cache folder: set XDG_CACHE_HOME or HOME")?
                .join("scalpel");
            let variant = Variant::of_this_machine();
            cached(&cache, variant, |folder| {
                wheels::download(&variant.requirements(&requirements), folder)
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

/// The libtorch in `cache`, unpacked from what `fetch` puts into the folder that it is given where
/// the cache does not hold it whole.
fn cached(
    cache: &Path,
    variant: Variant,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let target = cache.join(format!("libtorch-{VERSION}-{}", variant.name()));
    if is_whole(&target) {
        return Ok(target);
    }
    fs::create_dir_all(cache)
        .with_context(|| format!("cannot create the cache {}", cache.display()))?;
    let _lock = lock(&cache.join("libtorch.lock"))?;
    if is_whole(&target) {
        return Ok(target); // another process provided it while this one waited
    }

    // Only the holder of the lock writes here, so whatever lies here was left by one that was killed.
    let work = cache.join("libtorch.partial");
    remove(&work)?;
    remove(&target)?;
    let (downloads, unpacked) = (work.join("wheels"), work.join("libtorch"));
    for folder in [&downloads, &unpacked] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    eprintln!("libtorch {VERSION} ({}) goes into {}, once", variant.name(), target.display());
    fetch(&downloads)?;
    for wheel in wheels::list(&downloads)? {
        eprintln!("unpacking {}", wheel.file_name().unwrap_or_default().display());
        wheels::unpack(&wheel, &unpacked, wheels::place_in_libtorch)?;
    }
    fs::write(unpacked.join(MANIFEST), manifest(&unpacked)?)
        .context("cannot write libtorch's manifest")?;
    fs::rename(&unpacked, &target)
        .with_context(|| format!("cannot create {}", target.display()))?;
    remove(&work)?;
    Ok(target)
}

fn lock(path: &Path) -> Result<File> {
    let context = || format!("cannot lock {}", path.display());
    let file = File::create(path).with_context(context)?;
    if file.try_lock().is_err() {
        eprintln!("another process is providing libtorch; waiting for it");
        file.lock().with_context(context)?;
    }
    Ok(file)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A line `size path` for every file below `folder`, in order of path.
fn manifest(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in
            fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                files
                    .push((entry.path().strip_prefix(folder)?.to_owned(), entry.metadata()?.len()));
            }
        }
    }
    files.sort();
    let mut text = String::new();
    for (path, size) in files {
        writeln!(text, "{size} {}", path.display())?;
    }
    Ok(text)
}

/// Whether `folder` has a manifest and every file it lists, at its size.
fn is_whole(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join(MANIFEST)) else {
        return false;
    };
    let has = |line: &str| {
        let (size, path) = line.split_once(' ')?;
        let found = fs::metadata(folder.join(path)).ok()?.len();
        (size.parse() == Ok(found)).then_some(())
    };
    !text.is_empty() && text.lines().all(|line| has(line).is_some())
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
    use std::io::Write as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Writes a wheel with the parts that matter and one that does not.
    fn small_wheel(folder: &Path) -> Result<()> {
        let mut archive = zip::ZipWriter::new(File::create(folder.join("torch-2.11.0.whl"))?);
        let options = zip::write::SimpleFileOptions::default();
        for (name, text) in [
            ("torch/lib/libtorch_cpu.so", "library"),
            ("torch/include/torch.h", "header"),
            ("torch/nn.py", ""),
        ] {
            archive.start_file(name, options)?;
            archive.write_all(text.as_bytes())?;
        }
        archive.finish()?;
        Ok(())
    }

    #[test]
    fn a_second_call_fetches_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let first = cached(cache.path(), Variant::Cpu, small_wheel).unwrap();
        assert_eq!(fs::read_to_string(first.join("lib/libtorch_cpu.so")).unwrap(), "library");
        assert!(!first.join("nn.py").exists() && !cache.path().join("libtorch.partial").exists());
        let second = cached(cache.path(), Variant::Cpu, |_| bail!("fetched again")).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let stopped = cached(cache.path(), Variant::Cpu, |folder| {
            fs::write(folder.join("torch-2.11.0.whl.part"), "half")?;
            bail!("killed")
        });
        assert!(stopped.unwrap_err().to_string().contains("killed"));
        let folder = cached(cache.path(), Variant::Cpu, small_wheel).unwrap();
        assert!(is_whole(&folder));

        fs::write(folder.join("lib/libtorch_cpu.so"), "libr").unwrap();
        assert!(!is_whole(&folder), "a truncated library must not be trusted");
        assert!(is_whole(&cached(cache.path(), Variant::Cpu, small_wheel).unwrap()));
    }

    #[test]
    fn of_two_at_once_one_fetches_and_both_have_it() {
        let cache = tempfile::tempdir().unwrap();
        let fetched = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let folder = cached(cache.path(), Variant::Cpu, |folder| {
                        fetched.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(100));
                        small_wheel(folder)
                    });
                    assert!(is_whole(&folder.unwrap()));
                });
            }
        });
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
    }

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

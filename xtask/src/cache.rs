//! Folders of libraries in a cache outside the checkout, so that another clone does not download them
//! again.
//!
//! Two processes may provide the same folder at once (a lock lets one work and the other wait), and
//! either may be killed at any point: a folder takes its final name only when it is whole, and is
//! trusted only while every file that its manifest lists has its size.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::wheels;

const MANIFEST: &str = "manifest.txt";

/// The project's cache folder.
pub fn root() -> Result<PathBuf> {
    let caches = dirs::cache_dir()
        .context("this system names no cache folder: set XDG_CACHE_HOME or HOME")?;
    Ok(caches.join("scalpel"))
}

/// The folder `name` in `cache`. Where it is not there whole, `fetch` puts wheels into the folder that
/// it is given, and the files for which `place` names a path are unpacked from them.
pub fn provide(
    cache: &Path,
    name: &str,
    place: fn(&Path) -> Option<PathBuf>,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let target = cache.join(name);
    if is_whole(&target) {
        return Ok(target);
    }
    fs::create_dir_all(cache)
        .with_context(|| format!("cannot create the cache {}", cache.display()))?;
    let _lock = lock(&cache.join(format!("{name}.lock")))?;
    if is_whole(&target) {
        return Ok(target); // another process provided it while this one waited
    }

    // Only the holder of the lock writes here, so whatever lies here was left by one that was killed.
    let work = cache.join(format!("{name}.partial"));
    remove(&work)?;
    remove(&target)?;
    let (downloads, unpacked) = (work.join("wheels"), work.join("unpacked"));
    for folder in [&downloads, &unpacked] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    eprintln!("{name} goes into {}, once", cache.display());
    fetch(&downloads)?;
    for wheel in wheels::list(&downloads)? {
        eprintln!("unpacking {}", wheel.file_name().unwrap_or_default().display());
        wheels::unpack(&wheel, &unpacked, place)?;
    }
    fs::write(unpacked.join(MANIFEST), manifest(&unpacked)?)
        .with_context(|| format!("cannot write the manifest of {name}"))?;
    fs::rename(&unpacked, &target)
        .with_context(|| format!("cannot create {}", target.display()))?;
    remove(&work)?;
    Ok(target)
}

fn lock(path: &Path) -> Result<File> {
    let context = || format!("cannot lock {}", path.display());
    let file = File::create(path).with_context(context)?;
    if file.try_lock().is_err() {
        eprintln!("another process is providing this folder; waiting for it");
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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::io::Write as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NAME: &str = "libtorch-2.11.0-cpu";

    fn cached(cache: &Path, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        provide(cache, NAME, wheels::place_in_libtorch, fetch)
    }

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
        let first = cached(cache.path(), small_wheel).unwrap();
        assert_eq!(fs::read_to_string(first.join("lib/libtorch_cpu.so")).unwrap(), "library");
        assert!(
            !first.join("nn.py").exists()
                && !cache.path().join("libtorch-2.11.0-cpu.partial").exists()
        );
        let second = cached(cache.path(), |_| bail!("fetched again")).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let stopped = cached(cache.path(), |folder| {
            fs::write(folder.join("torch-2.11.0.whl.part"), "half")?;
            bail!("killed")
        });
        assert!(stopped.unwrap_err().to_string().contains("killed"));
        let folder = cached(cache.path(), small_wheel).unwrap();
        assert!(is_whole(&folder));

        fs::write(folder.join("lib/libtorch_cpu.so"), "libr").unwrap();
        assert!(!is_whole(&folder), "a truncated library must not be trusted");
        assert!(is_whole(&cached(cache.path(), small_wheel).unwrap()));
    }

    #[test]
    fn of_two_at_once_one_fetches_and_both_have_it() {
        let cache = tempfile::tempdir().unwrap();
        let fetched = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let folder = cached(cache.path(), |folder| {
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
}

//! Wheels from PyPI: fetched by pip, which checks them against pinned SHA-256 sums, and unpacked by us.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The wheel tags that serve this machine, most specific first, or why there are none.
///
/// Named one by one, since an old pip matches a tag literally and knows none newer than itself.
pub fn platform_tags(os: &str, arch: &str) -> Result<Vec<String>> {
    let machine = match (os, arch) {
        ("linux", "x86_64") => "x86_64",
        ("linux", "aarch64") => "aarch64",
        ("macos", "aarch64") => return Ok(vec!["macosx_11_0_arm64".into()]),
        _ => bail!(
            "PyPI has no libtorch 2.11.0 for {arch} {os} (only for x86-64 and Arm Linux and Arm macOS); \
             install it by hand, set LIBTORCH to its folder and run this again"
        ),
    };
    let glibc = ["2_28", "2_27", "2_25", "2_18", "2_17"];
    let mut tags: Vec<String> = glibc.iter().map(|v| format!("manylinux_{v}_{machine}")).collect();
    tags.push(format!("manylinux2014_{machine}"));
    Ok(tags)
}

/// Downloads the wheels that `requirements` (files in pip's format, hashes included) name into `folder`.
pub fn download(requirements: &[PathBuf], folder: &Path) -> Result<()> {
    require_pip()?;
    // Results go to stdout; a download's progress is not one.
    let mut pip = pip_download(requirements, folder)?;
    let status = pip.stdout(io::stderr()).status().context("cannot run pip")?;
    if !status.success() {
        bail!(
            "pip could not download the wheels (its own lines above say why); run the same command again, or, for libtorch, set LIBTORCH to a libtorch 2.11.0"
        );
    }
    Ok(())
}

fn pip_download(requirements: &[PathBuf], folder: &Path) -> Result<Command> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.args(["--python-version", "3.11", "--implementation", "cp"]);
    for tag in platform_tags(std::env::consts::OS, std::env::consts::ARCH)? {
        pip.args(["--platform", &tag]);
    }
    for file in requirements {
        pip.arg("--requirement").arg(file);
    }
    pip.arg("--dest").arg(folder);
    Ok(pip)
}

fn require_pip() -> Result<()> {
    let answers = |arguments: &[&str]| {
        Command::new("python3")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !answers(&["--version"]) {
        bail!(
            "libtorch and MKL come from PyPI, which needs python3, and that is not on the PATH: install it, or (libtorch) set LIBTORCH to a libtorch 2.11.0"
        );
    }
    if !answers(&["-m", "pip", "--version"]) {
        bail!(
            "libtorch and MKL come from PyPI, which needs pip, and this python3 lacks it: install it (Debian: python3-pip), or (libtorch) set LIBTORCH to a libtorch 2.11.0"
        );
    }
    Ok(())
}

/// Every wheel in `folder`, in order of name.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut wheels = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    wheels.sort();
    Ok(wheels)
}

/// Unpacks the files of a wheel for which `place` names a path, relative to `target`.
pub fn unpack(wheel: &Path, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> Result<()> {
    let context = || format!("cannot unpack {}", wheel.display());
    let mut archive =
        zip::ZipArchive::new(File::open(wheel).with_context(context)?).with_context(context)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).with_context(context)?;
        let Some(name) = entry.enclosed_name().filter(|_| entry.is_file()) else {
            continue;
        };
        let Some(relative) = place(&name) else {
            continue;
        };
        let path = target.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        let mut file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        io::copy(&mut entry, &mut file)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Where a file of libtorch's wheels belongs in a libtorch folder: torch's `lib` and `include` at
/// the top, the shared libraries of NVIDIA's wheels beside torch's own.
pub fn place_in_libtorch(name: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = name
        .components()
        .filter_map(|part| match part {
            Component::Normal(text) => text.to_str(),
            _ => None,
        })
        .collect();
    match parts.as_slice() {
        ["torch", folder @ ("lib" | "include"), ..] => {
            Some(Path::new(folder).join(parts[2..].iter().collect::<PathBuf>()))
        }
        ["torch", "version.py"] => Some("version.py".into()),
        ["nvidia", .., "lib", file] if file.contains(".so") => Some(Path::new("lib").join(file)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_knows_the_options_that_it_is_given() {
        let mut pip = pip_download(&["a.txt".into(), "b.txt".into()], Path::new("wheels")).unwrap();
        // Help comes last, so pip has read all the others before it, and downloads nothing.
        let output = pip.arg("--help").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn every_supported_platform_has_tags_and_another_says_what_to_do() {
        assert!(
            platform_tags("linux", "x86_64").unwrap().contains(&"manylinux_2_28_x86_64".into())
        );
        assert!(
            platform_tags("linux", "aarch64").unwrap().contains(&"manylinux2014_aarch64".into())
        );
        assert_eq!(platform_tags("macos", "aarch64").unwrap(), ["macosx_11_0_arm64"]);
        let error = platform_tags("freebsd", "riscv64").unwrap_err().to_string();
        assert!(error.contains("riscv64 freebsd") && error.contains("LIBTORCH"), "{error}");
    }

    #[test]
    fn libraries_and_headers_have_a_place_and_the_rest_has_none() {
        let place =
            |name: &str| place_in_libtorch(Path::new(name)).map(|path| path.display().to_string());
        assert_eq!(place("torch/lib/libc10.so").as_deref(), Some("lib/libc10.so"));
        assert_eq!(place("torch/include/ATen/ATen.h").as_deref(), Some("include/ATen/ATen.h"));
        assert_eq!(place("nvidia/cu13/lib/libcupti.so.13").as_deref(), Some("lib/libcupti.so.13"));
        assert_eq!(place("nvidia/cudnn/lib/libcudnn.so.9").as_deref(), Some("lib/libcudnn.so.9"));
        assert_eq!(place("nvidia/cu13/include/cupti.h"), None);
        assert_eq!(place("torch/nn/modules/linear.py"), None);
    }
}

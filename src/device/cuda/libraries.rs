//! CUDA's libraries, found at run time where Python packages or a toolkit keep them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The variable that names the folder of CUDA's libraries.
const VARIABLE: &str = "SCALPEL_CUDA_LIB";

/// Says whether NVRTC can be called.
///
/// # Errors
/// It cannot: where it was looked for, and how to get it.
pub fn nvrtc() -> Result<()> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        // NVRTC asks for the first by its bare name when it compiles.
        preload("libnvrtc-builtins.so.13.0");
        preload("libnvrtc.so.13");
        // SAFETY: NVRTC's initialisers have no preconditions.
        unsafe { cudarc::nvrtc::sys::is_culib_present() }
    });
    if found {
        Ok(())
    } else {
        Err(missing("NVRTC, CUDA's run-time compiler,", "nvidia-cuda-nvrtc"))
    }
}

/// Says whether cuBLAS and cuSPARSE can be called.
///
/// # Errors
/// They cannot: where they were looked for, and how to get them.
pub fn blas_and_sparse() -> Result<()> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        for file in
            ["libnvJitLink.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcusparse.so.12"]
        {
            preload(file);
        }
        // SAFETY: as above.
        unsafe {
            cudarc::cublas::sys::is_culib_present() && cudarc::cusparse::sys::is_culib_present()
        }
    });
    if found {
        Ok(())
    } else {
        Err(missing("cuBLAS or cuSPARSE", "nvidia-cublas and nvidia-cusparse"))
    }
}

fn missing(what: &str, packages: &str) -> Error {
    let places: Vec<String> = folders().iter().map(|f| f.display().to_string()).collect();
    Error::Unavailable {
        what: format!("{what} of CUDA 13"),
        reason: format!("the system's loader does not find it, nor is it in {}", places.join(", ")),
        remedy: format!(
            "install the CUDA toolkit 13 or the Python package {packages}, and name the folder of its \
             libraries in {VARIABLE}"
        ),
    }
}

/// Loads a library by its path, so that the loader has it when it is asked for by its bare name. Where
/// it is not found, the loader's own paths remain.
fn preload(file: &str) {
    let Some(path) = folders().into_iter().map(|folder| folder.join(file)).find(|p| p.is_file())
    else {
        return;
    };
    // SAFETY: CUDA's libraries have initialisers without preconditions.
    if let Ok(library) = unsafe { libloading::Library::new(path) } {
        std::mem::forget(library);
    }
}

/// Where CUDA's libraries may lie beside the loader's own paths.
fn folders() -> Vec<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut folders: Vec<PathBuf> = set(VARIABLE).into_iter().collect();
    folders.extend(set("CUDA_HOME").map(|home| home.join("lib64")));
    folders.extend(dirs::cache_dir().map(|cache| cache.join("scalpel/nvrtc/nvidia/cu13/lib")));
    folders.push(Path::new("/usr/local/cuda/lib64").to_owned());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_library_is_an_error_that_says_what_to_do() {
        for (found, package) in
            [(nvrtc(), "nvidia-cuda-nvrtc"), (blas_and_sparse(), "nvidia-cublas")]
        {
            let Err(error) = found else { continue };
            let text = error.to_string();
            assert!(text.contains(package) && text.contains(VARIABLE), "{text}");
        }
        let text = missing("a library", "a-package").to_string();
        assert!(text.contains("a library of CUDA 13 is not available"), "{text}");
        assert!(text.contains("install") && text.contains("a-package"), "{text}");
    }
}

//! OpenBLAS and BLIS, loaded at run time: dense products beside MKL's, which on AMD's processors takes a slow path.
//!
//! Each is the file that a variable names (`SCALPEL_OPENBLAS`, `SCALPEL_BLIS`), else what the system's loader finds
//! under its usual name, as Debian's `libopenblas0-pthread` and `libblis4-pthread` install it. A variable that is empty
//! leaves its library out.

use std::ffi::{CStr, c_char, c_int, c_long};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::RTLD_DEEPBIND;
use super::c_functions::{Cblas, c_functions};
use crate::error::{Error, Result};
use crate::kernels::library_gemm::{DenseLibrary, Strided};

/// Libraries with the C interface of a BLAS and nothing sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlasLibrary {
    /// OpenBLAS.
    OpenBlas,
    /// BLIS.
    Blis,
}

impl BlasLibrary {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OpenBlas, Self::Blis];

    fn name(self) -> &'static str {
        match self {
            Self::OpenBlas => "OpenBLAS",
            Self::Blis => "BLIS",
        }
    }

    /// The variable that names its file.
    pub fn variable(self) -> &'static str {
        match self {
            Self::OpenBlas => "SCALPEL_OPENBLAS",
            Self::Blis => "SCALPEL_BLIS",
        }
    }

    /// Where it may lie: its file by the loader's own search, and where Debian's packages put it.
    fn places(self) -> [&'static str; 2] {
        match self {
            Self::OpenBlas => ["libopenblas.so.0", "openblas-pthread/libopenblas.so.0"],
            Self::Blis => ["libblis.so.4", "blis-pthread/libblis.so.4"],
        }
    }

    /// Those that are here, for so many threads. One whose variable is set must be here, unless that is empty: then it
    /// is left out.
    ///
    /// # Errors
    /// A variable that names a file which is none.
    pub fn load_all(threads: usize) -> Result<Vec<Arc<LoadedBlas>>> {
        let mut all = Vec::new();
        for blas in Self::ALL {
            let set = std::env::var_os(blas.variable()).filter(|value| !value.is_empty());
            match blas.load(threads) {
                Ok(loaded) => all.push(loaded),
                Err(error) if set.is_some() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(all)
    }

    /// Loads it for so many threads, which it has for the whole process: those of the last call.
    ///
    /// # Errors
    /// It is nowhere, and where it was looked for; a variable that is empty.
    pub fn load(self, threads: usize) -> Result<Arc<LoadedBlas>> {
        let set = std::env::var_os(self.variable()).map(PathBuf::from);
        let paths = match set {
            Some(path) if path.as_os_str().is_empty() => Vec::new(),
            Some(path) => vec![path],
            None => {
                let [file, own_folder] = self.places();
                let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
                vec![PathBuf::from(file), Path::new(&folder).join(own_folder)]
            }
        };
        let mut reasons = Vec::new();
        for path in paths {
            // SAFETY: the initialisers of these libraries have no preconditions.
            match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND) } {
                Ok(library) => match LoadedBlas::new(self, library, threads) {
                    Ok(loaded) => return Ok(Arc::new(loaded)),
                    Err(error) => reasons.push(format!("{}: {error}", path.display())),
                },
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(Error::Unavailable {
            what: self.name().into(),
            reason: match &reasons[..] {
                [] => format!("{} is empty", self.variable()),
                reasons => reasons.join("; "),
            },
            remedy: format!("install it, or name its file in {}", self.variable()),
        })
    }
}

c_functions! {
    OpenBlasFunctions:
    set_threads = b"openblas_set_num_threads\0" (c_int);
    config = b"openblas_get_config\0" () -> *const c_char;
    core = b"openblas_get_corename\0" () -> *const c_char;
}

c_functions! {
    BlisFunctions:
    // BLIS counts in integers of its own, of 64 bits.
    set_threads = b"bli_thread_set_num_threads\0" (c_long);
    version = b"bli_info_get_version_str\0" () -> *const c_char;
    arch = b"bli_arch_query_id\0" () -> c_int;
    arch_name = b"bli_arch_string\0" (c_int) -> *const c_char;
}

/// One of them, loaded.
#[derive(Debug)]
pub struct LoadedBlas {
    name: String,
    cblas: Cblas,
    /// Keeps the functions' code in memory.
    _library: Library,
}

impl LoadedBlas {
    fn new(blas: BlasLibrary, library: Library, threads: usize) -> Result<Self, libloading::Error> {
        let text = |start: *const c_char| match start.is_null() {
            true => String::new(),
            // SAFETY: strings of these libraries end with a 0 and are never freed.
            false => unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned(),
        };
        // SAFETY: the library of this name, by its headers' own signatures.
        let (cblas, name) = unsafe {
            let cblas = Cblas::of(&library)?;
            let (version, processor) = match blas {
                BlasLibrary::OpenBlas => {
                    let functions = OpenBlasFunctions::of(&library)?;
                    (functions.set_threads)(threads as c_int);
                    // "OpenBLAS 0.3.21 DYNAMIC_ARCH ..."
                    let config = text((functions.config)());
                    let version = config.split_whitespace().nth(1).unwrap_or("of unknown version");
                    (version.to_owned(), text((functions.core)()))
                }
                BlasLibrary::Blis => {
                    let functions = BlisFunctions::of(&library)?;
                    (functions.set_threads)(threads as c_long);
                    let processor = text((functions.arch_name)((functions.arch)()));
                    (text((functions.version)()), processor)
                }
            };
            (cblas, format!("{} {version} for {processor}", blas.name()))
        };
        Ok(Self { name, cblas, _library: library })
    }
}

impl DenseLibrary for LoadedBlas {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn multiply(
        &self,
        shape: [usize; 3],
        w: &[f32],
        x: Strided<&[f32]>,
        y: Strided<&mut [f32]>,
    ) -> Result<()> {
        self.cblas.multiply(&self.name, shape, w, x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    #[test]
    fn their_products_are_those_of_plain_loops() {
        for (blas, requirement) in BlasLibrary::ALL.into_iter().zip(["openblas", "blis"]) {
            match blas.load(1) {
                Ok(loaded) => super::super::tests::check_dense(loaded),
                Err(error) => test_support::skip(requirement, &error.to_string()),
            }
        }
    }

    #[test]
    fn the_instruction_set_is_named() {
        let Ok(blas) = BlasLibrary::OpenBlas.load(1) else {
            return test_support::skip("openblas", "absent");
        };
        let name = blas.name();
        assert!(name.starts_with("OpenBLAS 0.") && name.contains(" for "), "{name}");
    }
}

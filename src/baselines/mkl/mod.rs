//! Intel's MKL, loaded at run time: dense products, and sparse ones as a serious user would run them
//! (the inspector-executor interface: a matrix created once, hints given, optimised before it is used).
//!
//! Found in the folder that `SCALPEL_MKL` names, else in the cache, both as `cargo xtask setup --mkl`
//! leaves them. Its own variables work as ever: `MKL_ENABLE_INSTRUCTIONS=AVX2` limits it to AVX2.
//!
//! libtorch contains an older MKL, whose symbols the whole process sees. So the library that is loaded
//! here is one that binds all parts of this MKL to each other, and not to those.

use std::ffi::{c_char, c_float, c_int, c_void};
use std::path::PathBuf;
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use ndarray::ArrayView2;

use super::c_functions::{self, Cblas, c_functions};
use super::{DenseProduct, Product, Products, RTLD_DEEPBIND, check_lengths};
use crate::error::{Error, Result};
use crate::kernels::library_gemm::{DenseLibrary, Strided};
use crate::sparse::Csr;

/// The variable that names its folder.
const VARIABLE: &str = "SCALPEL_MKL";

const ROW_MAJOR: c_int = 101;
/// `sparse_operation_t`, not transposed.
const SPARSE_PLAIN: c_int = 10;
/// `SPARSE_MEMORY_AGGRESSIVE`: may keep a copy in a better order.
const MAY_ALLOCATE: c_int = 81;
/// Products that a sparse matrix is optimised for: many.
const EXPECTED_CALLS: c_int = 1 << 20;

/// `matrix_descr` of a general matrix.
#[repr(C)]
#[derive(Clone, Copy)]
struct Description {
    kind: c_int,
    fill: c_int,
    diagonal: c_int,
}

const GENERAL: Description = Description { kind: 20, fill: 40, diagonal: 50 };

type Handle = *mut c_void;

c_functions! {
    Functions:
    set_threads = b"MKL_Set_Num_Threads_Local\0" (c_int) -> c_int;
    version = b"MKL_Get_Version_String\0" (*mut c_char, c_int);
    // Handle, index base, rows, columns, rows_start, rows_end, columns, values.
    create_csr = b"mkl_sparse_s_create_csr\0" (
        *mut Handle, c_int, c_int, c_int, *mut c_int, *mut c_int, *mut c_int, *mut f32
    ) -> c_int;
    mv_hint = b"mkl_sparse_set_mv_hint\0" (Handle, c_int, Description, c_int) -> c_int;
    mm_hint = b"mkl_sparse_set_mm_hint\0" (
        Handle, c_int, Description, c_int, c_int, c_int
    ) -> c_int;
    memory_hint = b"mkl_sparse_set_memory_hint\0" (Handle, c_int) -> c_int;
    optimize = b"mkl_sparse_optimize\0" (Handle) -> c_int;
    destroy = b"mkl_sparse_destroy\0" (Handle) -> c_int;
    // Operation, alpha, matrix, description, x, beta, y.
    mv = b"mkl_sparse_s_mv\0" (
        c_int, c_float, Handle, Description, *const f32, c_float, *mut f32
    ) -> c_int;
    // Operation, alpha, matrix, description, layout, x, columns, ldx, beta, y, ldy.
    mm = b"mkl_sparse_s_mm\0" (
        c_int, c_float, Handle, Description, c_int, *const f32, c_int, c_int, c_float, *mut f32,
        c_int
    ) -> c_int;
}

/// MKL, loaded.
#[derive(Debug)]
pub struct Mkl {
    cblas: Cblas,
    functions: Functions,
    version: String,
    threads: usize,
    /// Keeps the functions' code in memory.
    _library: Library,
}

impl Mkl {
    /// Loads MKL for so many threads.
    ///
    /// # Errors
    /// It is nowhere, and where it was looked for.
    pub fn load(threads: usize) -> Result<Arc<Self>> {
        let part = if threads == 1 { "sequential" } else { "threads" };
        let file = format!("libmkl_bound_{part}.so");
        let set = std::env::var_os(VARIABLE).map(PathBuf::from);
        let cached = dirs::cache_dir().map(|cache| cache.join("scalpel/mkl-2026.2.0"));
        let mut reasons = Vec::new();
        for path in set.into_iter().chain(cached).map(|folder| folder.join(&file)) {
            let flags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
            // SAFETY: MKL's initialisers have no preconditions.
            match unsafe { Library::open(Some(&path), flags) } {
                Ok(library) => return Self::from_library(library, threads),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(unavailable(reasons.join("; ")))
    }

    fn from_library(library: Library, threads: usize) -> Result<Arc<Self>> {
        let mut text = [0 as c_char; 256];
        // SAFETY: the library of this name; the C interface's own signatures; a buffer of the length
        // that is passed, which the version string's terminating 0 stays within.
        let (cblas, functions, version) = unsafe {
            let missing = |error: libloading::Error| unavailable(error.to_string());
            let cblas = Cblas::of(&library).map_err(missing)?;
            let functions = Functions::of(&library).map_err(missing)?;
            (functions.version)(text.as_mut_ptr(), text.len() as c_int - 1);
            let version = std::ffi::CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
            (cblas, functions, version)
        };
        let number = version.split_whitespace().skip_while(|word| *word != "Version").nth(1);
        let number = number.unwrap_or("of unknown version").split('-').next().unwrap_or_default();
        let version = number.to_owned();
        Ok(Arc::new(Self { cblas, functions, version, threads, _library: library }))
    }

    /// Tells MKL how many threads the calling thread's products may use.
    fn use_threads(&self) {
        // SAFETY: the C interface's own signature.
        unsafe { (self.functions.set_threads)(self.threads as c_int) };
    }

    /// A sparse matrix, inspected and optimised for products with `n` columns.
    ///
    /// # Errors
    /// What MKL refuses.
    pub fn csr(self: &Arc<Self>, matrix: &Csr, n: usize) -> Result<MklCsr> {
        let shape = matrix.shape();
        let to_int = |numbers: &[u32]| -> Result<Vec<c_int>> {
            numbers.iter().map(|&number| int(number as usize)).collect()
        };
        let mut made = MklCsr {
            row_ptr: to_int(matrix.row_ptr())?,
            columns: to_int(matrix.columns())?,
            values: matrix.values().to_vec(),
            shape,
            n: int(n)?,
            handle: std::ptr::null_mut(),
            mkl: Arc::clone(self),
        };
        self.use_threads();
        let functions = &self.functions;
        // SAFETY: the C interface's own signatures; the arrays live in the value that holds the
        // handle, and are not changed or moved while it lives (a Vec's elements stay in place).
        unsafe {
            let start = made.row_ptr.as_mut_ptr();
            let status = (functions.create_csr)(
                &mut made.handle,
                0,
                int(shape[0])?,
                int(shape[1])?,
                start,
                start.add(1),
                made.columns.as_mut_ptr(),
                made.values.as_mut_ptr(),
            );
            done("create a sparse matrix", status)?;
            // A hint that MKL does not take is no error: it then optimises without.
            let (plain, many) = (SPARSE_PLAIN, EXPECTED_CALLS);
            if n == 1 {
                (functions.mv_hint)(made.handle, plain, GENERAL, many);
            } else {
                (functions.mm_hint)(made.handle, plain, GENERAL, ROW_MAJOR, made.n, many);
            }
            (functions.memory_hint)(made.handle, MAY_ALLOCATE);
            done("optimise a sparse matrix", (functions.optimize)(made.handle))?;
        }
        Ok(made)
    }
}

impl DenseLibrary for Mkl {
    fn name(&self) -> String {
        format!("MKL {}", self.version)
    }

    fn multiply(
        &self,
        shape: [usize; 3],
        w: &[f32],
        x: Strided<&[f32]>,
        y: Strided<&mut [f32]>,
    ) -> Result<()> {
        self.use_threads();
        self.cblas.multiply("MKL", shape, w, x, y)
    }
}

/// MKL as a candidate.
#[derive(Debug)]
pub struct MklProducts(pub Arc<Mkl>);

impl Products for MklProducts {
    fn name(&self) -> String {
        self.0.name()
    }

    fn dense(&self, w: ArrayView2<'_, f32>, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        Ok(Box::new(DenseProduct::new(Arc::clone(&self.0) as _, w, x, n)?))
    }

    fn csr(&self, w: &Csr, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let [m, k] = w.shape();
        let y = vec![0.0; m * n];
        check_lengths([m, k, n], None, x, &y)?;
        Ok(Box::new(Sparse { matrix: self.0.csr(w, n)?, x: x.to_vec(), y }))
    }
}

struct Sparse {
    matrix: MklCsr,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Product for Sparse {
    fn run(&mut self) -> Result<()> {
        self.matrix.run(&self.x, &mut self.y)
    }

    fn result(&self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}

/// A sparse matrix that MKL has inspected.
#[derive(Debug)]
pub struct MklCsr {
    row_ptr: Vec<c_int>,
    columns: Vec<c_int>,
    values: Vec<f32>,
    shape: [usize; 2],
    n: c_int,
    handle: Handle,
    mkl: Arc<Mkl>,
}

impl MklCsr {
    /// `y = w x`: x `[k, n]`, y `[m, n]`, row-major, for the n that it was optimised for.
    ///
    /// # Errors
    /// Slices of other lengths; what MKL refuses.
    pub fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let (functions, n) = (&self.mkl.functions, self.n);
        check_lengths([self.shape[0], self.shape[1], n as usize], None, x, y)?;
        self.mkl.use_threads();
        let (x, y) = (x.as_ptr(), y.as_mut_ptr());
        // SAFETY: the C interface's own signatures; a handle that `csr` made; arrays of the lengths that
        // its shape asks for.
        let status = unsafe {
            if n == 1 {
                (functions.mv)(SPARSE_PLAIN, 1.0, self.handle, GENERAL, x, 0.0, y)
            } else {
                let (plain, wide) = (SPARSE_PLAIN, n.max(1));
                (functions.mm)(
                    plain,
                    1.0,
                    self.handle,
                    GENERAL,
                    ROW_MAJOR,
                    x,
                    n,
                    wide,
                    0.0,
                    y,
                    wide,
                )
            }
        };
        done("multiply a sparse matrix", status)
    }
}

impl Drop for MklCsr {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: a handle that MKL made and that nobody uses from here on.
            unsafe { (self.mkl.functions.destroy)(self.handle) };
        }
    }
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable {
        what: "MKL".into(),
        reason,
        remedy: format!(
            "run `cargo xtask setup --mkl` (x86-64 Linux), or name its folder in {VARIABLE}"
        ),
    }
}

fn int(number: usize) -> Result<c_int> {
    c_functions::int("MKL", number)
}

fn done(operation: &str, status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    Err(Error::argument(format!("MKL: {operation}"), "status 0", status.to_string()))
}

#[cfg(test)]
mod tests;

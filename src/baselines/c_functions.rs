//! Functions of C libraries that are loaded at run time, and the product that all BLAS have.

use std::ffi::{c_float, c_int};

use libloading::os::unix::Library;

use super::check_operands;
use crate::error::{Error, Result};
use crate::kernels::library_gemm::Strided;

/// Declares the C functions that are taken from a library, once: their names and signatures.
macro_rules! c_functions {
    ($name:ident: $($field:ident = $symbol:literal ($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[derive(Debug)]
        struct $name { $($field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl $name {
            /// # Safety
            /// The library's functions of these names have these signatures.
            unsafe fn of(
                library: &libloading::os::unix::Library,
            ) -> ::std::result::Result<Self, libloading::Error> {
                $(
                    // SAFETY: the signature is that of the library's C header, which the list repeats; the symbol
                    // was found by its name.
                    let $field = *unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) $(-> $result)?>($symbol)
                    }?;
                )*
                Ok(Self { $($field,)* })
            }
        }
    };
}

pub(super) use c_functions;

const ROW_MAJOR: c_int = 101;
const NOT_TRANSPOSED: c_int = 111;

c_functions! {
    Functions:
    // Layout, transpositions, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc.
    sgemm = b"cblas_sgemm\0" (
        c_int, c_int, c_int, c_int, c_int, c_int, c_float, *const f32, c_int, *const f32, c_int,
        c_float, *mut f32, c_int
    );
    // Layout, transposition, m, n, alpha, a, lda, x, incx, beta, y, incy.
    sgemv = b"cblas_sgemv\0" (
        c_int, c_int, c_int, c_int, c_float, *const f32, c_int, *const f32, c_int, c_float,
        *mut f32, c_int
    );
}

/// The C interface of a BLAS with 32-bit integers.
#[derive(Debug)]
pub(super) struct Cblas(Functions);

impl Cblas {
    /// # Safety
    /// The library is a BLAS with 32-bit integers, and is not unloaded while this lives.
    pub unsafe fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: the signatures are those of cblas.h.
        Ok(Self(unsafe { Functions::of(library) }?))
    }

    /// `y = w x`, as `DenseLibrary::multiply` says, for the library that is called `library`.
    pub fn multiply(
        &self,
        library: &str,
        [m, k, n]: [usize; 3],
        w: &[f32],
        x: Strided<&[f32]>,
        y: Strided<&mut [f32]>,
    ) -> Result<()> {
        check_operands([m, k, n], w, &x, &y)?;
        let int = |number: usize| int(library, number);
        let [rows, inner, columns] = [int(m)?, int(k)?, int(n)?];
        let (weights_stride, x_stride, y_stride) =
            (inner.max(1), int(x.stride)?.max(1), int(y.stride)?.max(1));
        let (w, x, y) = (w.as_ptr(), x.values.as_ptr(), y.values.as_mut_ptr());
        // SAFETY: the C interface's own signatures, and arrays that hold what these dimensions ask for.
        unsafe {
            if n == 1 {
                (self.0.sgemv)(
                    ROW_MAJOR,
                    NOT_TRANSPOSED,
                    rows,
                    inner,
                    1.0,
                    w,
                    weights_stride,
                    x,
                    x_stride,
                    0.0,
                    y,
                    y_stride,
                );
            } else {
                (self.0.sgemm)(
                    ROW_MAJOR,
                    NOT_TRANSPOSED,
                    NOT_TRANSPOSED,
                    rows,
                    columns,
                    inner,
                    1.0,
                    w,
                    weights_stride,
                    x,
                    x_stride,
                    0.0,
                    y,
                    y_stride,
                );
            }
        }
        Ok(())
    }
}

/// A size as the library counts.
pub(super) fn int(library: &str, number: usize) -> Result<c_int> {
    c_int::try_from(number)
        .map_err(|_| Error::argument(library, "a size below 2^31", number.to_string()))
}

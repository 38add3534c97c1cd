//! NVIDIA's libraries: cuBLAS for dense products, by the algorithm of its own choice, and cuSPARSE for
//! compressed sparse rows, by the one of its algorithms that is the fastest here (`sparse`). All preparation is
//! done before.

mod sparse;

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cublas::{self, CudaBlas};
use cudarc::cusparse::sys;
use ndarray::ArrayView2;

use self::sparse::{SparseOperands, SparseSet};
use super::rotation::{Rotation, Set};
use super::{Product, Products};
use crate::device::cuda::{Cuda, libraries};
use crate::device::gpu::{self, Buffer, Gpu};
use crate::error::{Error, Result};
use crate::sparse::Csr;

/// cuBLAS and cuSPARSE on one GPU.
#[derive(Debug)]
pub struct CudaLibraries {
    cuda: Arc<Cuda>,
    blas: Arc<Blas>,
    sparse: Arc<Sparse>,
    tf32: bool,
}

/// Bytes that cuBLAS may work in: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;

/// A handle of cuBLAS, and memory of its own: without it, cuBLAS would allocate inside a recording.
#[derive(Debug)]
struct Blas {
    handle: CudaBlas,
    workspace: Buffer,
}

/// A handle of cuSPARSE.
#[derive(Debug)]
struct Sparse(sys::cusparseHandle_t);

// SAFETY: a handle may be used by one thread at a time; everything that holds one is used through `&mut`.
unsafe impl Send for Sparse {}
// SAFETY: as above.
unsafe impl Sync for Sparse {}

impl Drop for Sparse {
    fn drop(&mut self) {
        // SAFETY: created by `CudaLibraries::new`, and not used again.
        let _ = unsafe { cudarc::cusparse::result::destroy(self.0) };
    }
}

impl CudaLibraries {
    /// The libraries on a GPU. With `tf32`, cuBLAS may use tensor cores that round to TF32.
    ///
    /// # Errors
    /// cuBLAS or cuSPARSE is not here, or refuses.
    pub fn new(cuda: Arc<Cuda>, tf32: bool) -> Result<Self> {
        libraries::blas_and_sparse()?;
        let blas =
            CudaBlas::new(Arc::clone(cuda.stream())).map_err(refused("make a cuBLAS handle"))?;
        let workspace = cuda.allocate(WORKSPACE)?;
        let mode = if tf32 {
            cublas::sys::cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH
        } else {
            cublas::sys::cublasMath_t::CUBLAS_DEFAULT_MATH
        };
        // SAFETY: the handle is alive.
        let set = unsafe { cublas::sys::cublasSetMathMode(*blas.handle(), mode) };
        set.result().map_err(refused("set cuBLAS's precision"))?;
        let sparse =
            cudarc::cusparse::result::create().map_err(refused("make a cuSPARSE handle"))?;
        let sparse = Sparse(sparse);
        let blas = Arc::new(Blas { handle: blas, workspace });
        Ok(Self { cuda, blas, sparse: Arc::new(sparse), tf32 })
    }
}

impl Blas {
    /// The handle, for a call from this thread: on the stream to which its work goes now.
    fn handle(&self, cuda: &Cuda) -> Result<cublas::sys::cublasHandle_t> {
        let handle = *self.handle.handle();
        let workspace = cuda.address(&self.workspace)? as *mut c_void;
        // SAFETY: handle, stream and workspace are alive. Another stream takes the workspace away.
        unsafe {
            cublas::sys::cublasSetStream_v2(handle, cuda.current_stream().cast())
                .result()
                .map_err(refused("give cuBLAS a stream"))?;
            cublas::sys::cublasSetWorkspace_v2(handle, workspace, WORKSPACE)
                .result()
                .map_err(refused("give cuBLAS a workspace"))?;
        }
        Ok(handle)
    }
}

impl Sparse {
    /// As [`Blas::handle`].
    fn handle(&self, cuda: &Cuda) -> Result<sys::cusparseHandle_t> {
        // SAFETY: handle and stream are alive.
        let set = unsafe { sys::cusparseSetStream(self.0, cuda.current_stream().cast()) };
        set.result().map_err(refused("give cuSPARSE a stream"))?;
        Ok(self.0)
    }
}

fn refused<E: std::fmt::Debug>(operation: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::argument(operation, "success", format!("{error:?}"))
}

/// Refuses an x of another length than `[m, k, n]` asks for.
fn check_x([m, k, n]: [usize; 3], x: &[f32]) -> Result<()> {
    if x.len() == k * n {
        return Ok(());
    }
    let operation = format!("multiply [{m}, {k}] and [{k}, {n}]");
    Err(Error::argument(operation, format!("{} of X", k * n), x.len().to_string()))
}

impl Products for CudaLibraries {
    fn name(&self) -> String {
        if self.tf32 { "cuBLAS with TF32, cuSPARSE".into() } else { "cuBLAS, cuSPARSE".into() }
    }

    fn dense(&self, w: ArrayView2<'_, f32>, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let shape = [w.nrows(), w.ncols(), n];
        check_x(shape, x)?;
        let weights: Vec<f32> = w.iter().copied().collect();
        let bytes = 4 * (weights.len() + x.len() + shape[0] * n);
        let make = || -> Result<Box<dyn Set>> {
            Ok(Box::new(Dense {
                cuda: Arc::clone(&self.cuda),
                blas: Arc::clone(&self.blas),
                shape: shape.map(|size| size as i32),
                w: gpu::upload(&*self.cuda, &weights)?,
                x: gpu::upload(&*self.cuda, x)?,
                y: self.cuda.allocate(4 * shape[0] * n)?,
            }))
        };
        let gpu: Arc<dyn Gpu> = Arc::<Cuda>::clone(&self.cuda);
        Ok(Box::new(Rotation::new(gpu, bytes, shape[0] * n, make)?))
    }

    fn csr(&self, w: &Csr, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let [m, k] = w.shape();
        check_x([m, k, n], x)?;
        let bytes = 4 * (2 * w.nnz() + m + 1 + x.len() + m * n);
        let operands = SparseOperands::of(w, x, n);
        let algorithm = sparse::fastest(&self.cuda, &self.sparse, &operands)?;
        let make = || -> Result<Box<dyn Set>> {
            Ok(Box::new(SparseSet::new(&self.cuda, &self.sparse, &operands, algorithm)?))
        };
        let gpu: Arc<dyn Gpu> = Arc::<Cuda>::clone(&self.cuda);
        let rotation = Rotation::new(gpu, bytes, m * n, make)?;
        Ok(Box::new(rotation.with_detail(algorithm.to_string())))
    }
}

struct Dense {
    cuda: Arc<Cuda>,
    blas: Arc<Blas>,
    shape: [i32; 3],
    w: Buffer,
    x: Buffer,
    y: Buffer,
}

impl Set for Dense {
    fn enqueue(&self) -> Result<()> {
        let [m, k, n] = self.shape;
        let address = |buffer| self.cuda.address(buffer);
        let (w, x, y) = (address(&self.w)?, address(&self.x)?, address(&self.y)?);
        let (w, x, y) = (w as *const f32, x as *const f32, y as *mut f32);
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (none, transposed) = (
            cublas::sys::cublasOperation_t::CUBLAS_OP_N,
            cublas::sys::cublasOperation_t::CUBLAS_OP_T,
        );
        let handle = self.blas.handle(&self.cuda)?;
        // SAFETY: the buffers have the sizes that the shape says. cuBLAS counts by columns, so that it
        // sees every matrix transposed: it is asked for Y^T = X^T W^T.
        let done = unsafe {
            if n == 1 {
                cublas::result::sgemv(handle, transposed, k, m, &one, w, k, x, 1, &zero, y, 1)
            } else {
                cublas::result::sgemm(handle, none, none, n, m, k, &one, x, n, w, k, &zero, y, n)
            }
        };
        done.map_err(refused("multiply by cuBLAS"))
    }

    fn y(&self) -> &Buffer {
        &self.y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    #[test]
    fn both_libraries_compute_what_loops_do() {
        let cuda = match Cuda::new(0) {
            Ok(cuda) => Arc::new(cuda),
            Err(error) => return test_support::skip("cuda", &error.to_string()),
        };
        super::super::tests::check(&CudaLibraries::new(cuda, false).unwrap());
    }
}

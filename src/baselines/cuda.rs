//! NVIDIA's libraries: cuBLAS for dense products, cuSPARSE for compressed sparse rows, each told to
//! choose its own algorithm, with all preparation done before.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::{self, CudaBlas};
use cudarc::cusparse::sys;
use ndarray::ArrayView2;

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
    blas: Arc<CudaBlas>,
    sparse: Arc<Sparse>,
    tf32: bool,
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
        // SAFETY: handle and stream are alive; the stream outlives the handle, which `cuda` holds.
        let set = unsafe { sys::cusparseSetStream(sparse.0, cuda.stream().cu_stream().cast()) };
        set.result().map_err(refused("give cuSPARSE a stream"))?;
        Ok(Self { cuda, blas: Arc::new(blas), sparse: Arc::new(sparse), tf32 })
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
        let make = || -> Result<Box<dyn Set>> { Ok(Box::new(SparseSet::new(self, w, x, n)?)) };
        let gpu: Arc<dyn Gpu> = Arc::<Cuda>::clone(&self.cuda);
        Ok(Box::new(Rotation::new(gpu, bytes, m * n, make)?))
    }
}

struct Dense {
    cuda: Arc<Cuda>,
    blas: Arc<CudaBlas>,
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
        let (none, turned) = (
            cublas::sys::cublasOperation_t::CUBLAS_OP_N,
            cublas::sys::cublasOperation_t::CUBLAS_OP_T,
        );
        let handle = *self.blas.handle();
        // SAFETY: the buffers have the sizes that the shape says. cuBLAS counts by columns, so that it
        // sees every matrix turned: it is asked for Y^T = X^T W^T.
        let done = unsafe {
            if n == 1 {
                cublas::result::sgemv(handle, turned, k, m, &one, w, k, x, 1, &zero, y, 1)
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

/// X and Y as cuSPARSE sees them.
enum Operands {
    Vectors([sys::cusparseDnVecDescr_t; 2]),
    Matrices([sys::cusparseDnMatDescr_t; 2]),
}

struct SparseSet {
    sparse: Arc<Sparse>,
    weights: sys::cusparseSpMatDescr_t,
    operands: Operands,
    workspace: u64,
    y: Buffer,
    /// What the descriptors and the workspace point to.
    _buffers: Vec<Buffer>,
    /// The stream's owner.
    _cuda: Arc<Cuda>,
}

const FLOAT: sys::cudaDataType = sys::cudaDataType::CUDA_R_32F;
const AS_IT_IS: sys::cusparseOperation_t =
    sys::cusparseOperation_t::CUSPARSE_OPERATION_NON_TRANSPOSE;
const VECTOR: sys::cusparseSpMVAlg_t = sys::cusparseSpMVAlg_t::CUSPARSE_SPMV_ALG_DEFAULT;
const MATRIX: sys::cusparseSpMMAlg_t = sys::cusparseSpMMAlg_t::CUSPARSE_SPMM_ALG_DEFAULT;

/// `cusparseSpMV`, or its preparation.
type VectorFunction = unsafe fn(
    sys::cusparseHandle_t,
    sys::cusparseOperation_t,
    *const c_void,
    sys::cusparseConstSpMatDescr_t,
    sys::cusparseConstDnVecDescr_t,
    *const c_void,
    sys::cusparseDnVecDescr_t,
    sys::cudaDataType,
    sys::cusparseSpMVAlg_t,
    *mut c_void,
) -> sys::cusparseStatus_t;

/// `cusparseSpMM`, or its preparation.
type MatrixFunction = unsafe fn(
    sys::cusparseHandle_t,
    sys::cusparseOperation_t,
    sys::cusparseOperation_t,
    *const c_void,
    sys::cusparseConstSpMatDescr_t,
    sys::cusparseConstDnMatDescr_t,
    *const c_void,
    sys::cusparseDnMatDescr_t,
    sys::cudaDataType,
    sys::cusparseSpMMAlg_t,
    *mut c_void,
) -> sys::cusparseStatus_t;

impl SparseSet {
    fn new(libraries: &CudaLibraries, w: &Csr, x: &[f32], n: usize) -> Result<Self> {
        let cuda = &*libraries.cuda;
        let [m, k] = w.shape();
        let buffers = vec![
            gpu::upload(cuda, w.row_ptr())?,
            gpu::upload(cuda, w.columns())?,
            gpu::upload(cuda, w.values())?,
            gpu::upload(cuda, x)?,
        ];
        let y = cuda.allocate(4 * m * n)?;
        let address = |buffer: &Buffer| Ok::<_, Error>(cuda.address(buffer)? as *mut c_void);
        let mut weights = ptr::null_mut();
        let index = sys::cusparseIndexType_t::CUSPARSE_INDEX_32I;
        // SAFETY: the buffers have the sizes that are said, and live as long as the descriptors.
        let made = unsafe {
            sys::cusparseCreateCsr(
                &raw mut weights,
                m as i64,
                k as i64,
                w.nnz() as i64,
                address(&buffers[0])?,
                address(&buffers[1])?,
                address(&buffers[2])?,
                index,
                index,
                sys::cusparseIndexBase_t::CUSPARSE_INDEX_BASE_ZERO,
                FLOAT,
            )
        };
        made.result().map_err(refused("describe a matrix to cuSPARSE"))?;
        let places = [(k, address(&buffers[3])?), (m, address(&y)?)];
        let operands = if n == 1 {
            let mut both = [ptr::null_mut(); 2];
            for (operand, (rows, place)) in both.iter_mut().zip(places) {
                // SAFETY: as above.
                let made = unsafe { sys::cusparseCreateDnVec(operand, rows as i64, place, FLOAT) };
                made.result().map_err(refused("describe a vector to cuSPARSE"))?;
            }
            Operands::Vectors(both)
        } else {
            let mut both = [ptr::null_mut(); 2];
            for (operand, (rows, place)) in both.iter_mut().zip(places) {
                let (rows, n) = (rows as i64, n as i64);
                let order = sys::cusparseOrder_t::CUSPARSE_ORDER_ROW;
                // SAFETY: as above.
                let made =
                    unsafe { sys::cusparseCreateDnMat(operand, rows, n, n, place, FLOAT, order) };
                made.result().map_err(refused("describe a matrix to cuSPARSE"))?;
            }
            Operands::Matrices(both)
        };
        let mut set = Self {
            sparse: Arc::clone(&libraries.sparse),
            weights,
            operands,
            workspace: 0,
            y,
            _buffers: buffers,
            _cuda: Arc::clone(&libraries.cuda),
        };
        let workspace = cuda.allocate(set.workspace_bytes()?)?;
        set.workspace = cuda.address(&workspace)?;
        set._buffers.push(workspace);
        set.call(sys::cusparseSpMV_preprocess, sys::cusparseSpMM_preprocess)?;
        Ok(set)
    }

    fn workspace_bytes(&self) -> Result<usize> {
        let (handle, weights) = (self.sparse.0, self.weights.cast_const());
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (one, zero) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        let mut bytes = 0;
        // SAFETY: handle and descriptors are alive.
        let asked = unsafe {
            match self.operands {
                Operands::Vectors([x, y]) => sys::cusparseSpMV_bufferSize(
                    handle,
                    AS_IT_IS,
                    one,
                    weights,
                    x,
                    zero,
                    y,
                    FLOAT,
                    VECTOR,
                    &raw mut bytes,
                ),
                Operands::Matrices([x, y]) => sys::cusparseSpMM_bufferSize(
                    handle,
                    AS_IT_IS,
                    AS_IT_IS,
                    one,
                    weights,
                    x,
                    zero,
                    y,
                    FLOAT,
                    MATRIX,
                    &raw mut bytes,
                ),
            }
        };
        asked.result().map_err(refused("ask cuSPARSE for its workspace"))?;
        Ok(bytes)
    }

    /// One of cuSPARSE's functions that work on all operands: the preparation, or the product.
    fn call(&self, vector: VectorFunction, matrix: MatrixFunction) -> Result<()> {
        let (handle, weights) = (self.sparse.0, self.weights.cast_const());
        let workspace = self.workspace as *mut c_void;
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (one, zero) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        // SAFETY: handle, descriptors and workspace are alive.
        let done = unsafe {
            match self.operands {
                Operands::Vectors([x, y]) => {
                    vector(handle, AS_IT_IS, one, weights, x, zero, y, FLOAT, VECTOR, workspace)
                }
                Operands::Matrices([x, y]) => matrix(
                    handle, AS_IT_IS, AS_IT_IS, one, weights, x, zero, y, FLOAT, MATRIX, workspace,
                ),
            }
        };
        done.result().map_err(refused("multiply by cuSPARSE"))
    }
}

impl Set for SparseSet {
    fn enqueue(&self) -> Result<()> {
        self.call(sys::cusparseSpMV, sys::cusparseSpMM)
    }

    fn y(&self) -> &Buffer {
        &self.y
    }
}

impl Drop for SparseSet {
    fn drop(&mut self) {
        // SAFETY: created by `new`, and not used again.
        unsafe {
            sys::cusparseDestroySpMat(self.weights.cast_const());
            match self.operands {
                Operands::Vectors(both) => {
                    let _ = both.map(|operand| sys::cusparseDestroyDnVec(operand.cast_const()));
                }
                Operands::Matrices(both) => {
                    let _ = both.map(|operand| sys::cusparseDestroyDnMat(operand.cast_const()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirement;

    #[test]
    fn both_libraries_compute_what_loops_do() {
        let cuda = match Cuda::new(0) {
            Ok(cuda) => Arc::new(cuda),
            Err(error) => return requirement::skip("cuda", &error.to_string()),
        };
        super::super::tests::check(&CudaLibraries::new(cuda, false).unwrap());
    }
}

//! Compressed sparse rows by cuSPARSE. It has several algorithms, and takes dense operands by rows or by
//! columns: each is timed on the very operands, and the fastest is taken and named.

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use cudarc::cusparse::sys;

use super::{Sparse, refused};
use crate::baselines::rotation::Set;
use crate::device::cuda::Cuda;
use crate::device::gpu::{self, Buffer, Gpu, Replay, download};
use crate::error::{Error, Result};
use crate::sparse::Csr;
use crate::timing::{MeasureConfig, interleave_by};

const FLOAT: sys::cudaDataType = sys::cudaDataType::CUDA_R_32F;
const AS_IT_IS: sys::cusparseOperation_t =
    sys::cusparseOperation_t::CUSPARSE_OPERATION_NON_TRANSPOSE;

/// How the dense operands lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Rows,
    Columns,
}

/// One of cuSPARSE's ways to compute a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Of one column.
    Vector(sys::cusparseSpMVAlg_t),
    /// Of several.
    Matrix(sys::cusparseSpMMAlg_t, Order),
}

impl Algorithm {
    /// All for products of n columns.
    fn all(n: usize) -> Vec<Self> {
        use sys::cusparseSpMMAlg_t as Matrix;
        use sys::cusparseSpMVAlg_t as Vector;
        if n == 1 {
            let all = [Vector::CUSPARSE_SPMV_CSR_ALG1, Vector::CUSPARSE_SPMV_CSR_ALG2];
            return all.map(Self::Vector).to_vec();
        }
        let all = [
            Matrix::CUSPARSE_SPMM_CSR_ALG1,
            Matrix::CUSPARSE_SPMM_CSR_ALG2,
            Matrix::CUSPARSE_SPMM_CSR_ALG3,
        ];
        let orders = [Order::Rows, Order::Columns];
        all.iter().flat_map(|&one| orders.map(|order| Self::Matrix(one, order))).collect()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector(algorithm) => {
                f.write_str(format!("{algorithm:?}").trim_start_matches("CUSPARSE_"))
            }
            Self::Matrix(algorithm, order) => {
                let order = if *order == Order::Rows { "by rows" } else { "by columns" };
                write!(f, "{}, {order}", format!("{algorithm:?}").trim_start_matches("CUSPARSE_"))
            }
        }
    }
}

/// W, X and their product's shape.
pub(super) struct SparseOperands<'a> {
    w: &'a Csr,
    x: &'a [f32],
    /// X by columns.
    transposed: Vec<f32>,
    n: usize,
}

impl<'a> SparseOperands<'a> {
    pub(super) fn of(w: &'a Csr, x: &'a [f32], n: usize) -> Self {
        Self { w, x, transposed: transpose(x, n), n }
    }
}

/// A matrix of so many columns, column by column.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| values.iter().skip(column).step_by(columns.max(1)).copied();
    (0..columns).flat_map(column).collect()
}

/// The fastest algorithm for these operands. One that cuSPARSE refuses is none.
pub(super) fn fastest(
    cuda: &Arc<Cuda>,
    sparse: &Arc<Sparse>,
    operands: &SparseOperands<'_>,
) -> Result<Algorithm> {
    let mut candidates = Vec::new();
    let mut refusal = None;
    for algorithm in Algorithm::all(operands.n) {
        let made = SparseSet::new(cuda, sparse, operands, algorithm).and_then(|set| {
            set.enqueue()?;
            cuda.wait()?;
            Ok(set)
        });
        match made {
            Ok(set) => candidates.push((algorithm, set, Replay::default())),
            Err(error) => refusal = Some(error),
        }
    }
    let mut turns: Vec<_> = candidates
        .iter_mut()
        .map(|(_, set, replay)| |calls: u32| replay.seconds(&**cuda, calls, &mut || set.enqueue()))
        .collect();
    let mut turns: Vec<&mut dyn FnMut(u32) -> Result<f64>> =
        turns.iter_mut().map(|turn| turn as _).collect();
    let timings = interleave_by(&mut turns, MeasureConfig::QUICK)?;
    let times = timings.iter().map(|timing| timing.median).enumerate();
    match times.min_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((best, _)) => Ok(candidates[best].0),
        None => Err(refusal.unwrap_or_else(|| {
            Error::argument("multiply by cuSPARSE", "an algorithm that it takes", "none")
        })),
    }
}

/// X and Y as cuSPARSE sees them.
enum Descriptors {
    Vectors([sys::cusparseDnVecDescr_t; 2], sys::cusparseSpMVAlg_t),
    Matrices([sys::cusparseDnMatDescr_t; 2], sys::cusparseSpMMAlg_t),
}

/// One set of operands on the device.
pub(super) struct SparseSet {
    cuda: Arc<Cuda>,
    sparse: Arc<Sparse>,
    weights: sys::cusparseSpMatDescr_t,
    descriptors: Descriptors,
    /// Rows of Y, where it lies by columns.
    by_columns: Option<usize>,
    workspace: u64,
    y: Buffer,
    /// What the descriptors and the workspace point to.
    buffers: Vec<Buffer>,
}

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
    pub(super) fn new(
        cuda: &Arc<Cuda>,
        sparse: &Arc<Sparse>,
        operands: &SparseOperands<'_>,
        algorithm: Algorithm,
    ) -> Result<Self> {
        let SparseOperands { w, x, transposed, n } = operands;
        let [m, k] = w.shape();
        let by_columns = matches!(algorithm, Algorithm::Matrix(_, Order::Columns));
        let x: &[f32] = if by_columns { transposed } else { x };
        let buffers = vec![
            gpu::upload(&**cuda, w.row_ptr())?,
            gpu::upload(&**cuda, w.columns())?,
            gpu::upload(&**cuda, w.values())?,
            gpu::upload(&**cuda, x)?,
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
        let descriptors = match algorithm {
            Algorithm::Vector(algorithm) => Descriptors::Vectors(vectors(places)?, algorithm),
            Algorithm::Matrix(algorithm, order) => {
                Descriptors::Matrices(matrices(places, *n, order)?, algorithm)
            }
        };
        let mut set = Self {
            cuda: Arc::clone(cuda),
            sparse: Arc::clone(sparse),
            weights,
            descriptors,
            by_columns: by_columns.then_some(m),
            workspace: 0,
            y,
            buffers,
        };
        let workspace = cuda.allocate(set.workspace_bytes()?)?;
        set.workspace = cuda.address(&workspace)?;
        set.buffers.push(workspace);
        set.call(sys::cusparseSpMV_preprocess, sys::cusparseSpMM_preprocess)?;
        Ok(set)
    }

    fn workspace_bytes(&self) -> Result<usize> {
        let (handle, weights) = (self.sparse.handle(&self.cuda)?, self.weights.cast_const());
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (one, zero) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        let mut bytes = 0;
        // SAFETY: handle and descriptors are alive.
        let asked = unsafe {
            match self.descriptors {
                Descriptors::Vectors([x, y], algorithm) => sys::cusparseSpMV_bufferSize(
                    handle,
                    AS_IT_IS,
                    one,
                    weights,
                    x,
                    zero,
                    y,
                    FLOAT,
                    algorithm,
                    &raw mut bytes,
                ),
                Descriptors::Matrices([x, y], algorithm) => sys::cusparseSpMM_bufferSize(
                    handle,
                    AS_IT_IS,
                    AS_IT_IS,
                    one,
                    weights,
                    x,
                    zero,
                    y,
                    FLOAT,
                    algorithm,
                    &raw mut bytes,
                ),
            }
        };
        asked.result().map_err(refused("ask cuSPARSE for its workspace"))?;
        Ok(bytes)
    }

    /// One of cuSPARSE's functions that work on all operands: the preparation, or the product.
    fn call(&self, vector: VectorFunction, matrix: MatrixFunction) -> Result<()> {
        let (handle, weights) = (self.sparse.handle(&self.cuda)?, self.weights.cast_const());
        let workspace = self.workspace as *mut c_void;
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (one, zero) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        // SAFETY: handle, descriptors and workspace are alive.
        let done = unsafe {
            match self.descriptors {
                Descriptors::Vectors([x, y], algorithm) => {
                    vector(handle, AS_IT_IS, one, weights, x, zero, y, FLOAT, algorithm, workspace)
                }
                Descriptors::Matrices([x, y], algorithm) => matrix(
                    handle, AS_IT_IS, AS_IT_IS, one, weights, x, zero, y, FLOAT, algorithm,
                    workspace,
                ),
            }
        };
        done.result().map_err(refused("multiply by cuSPARSE"))
    }
}

/// Descriptors of two vectors: how many values each has, and where.
fn vectors(places: [(usize, *mut c_void); 2]) -> Result<[sys::cusparseDnVecDescr_t; 2]> {
    let mut both = [ptr::null_mut(); 2];
    for (operand, (rows, place)) in both.iter_mut().zip(places) {
        // SAFETY: `SparseSet::new`, the only caller, has allocated the buffers for as many values.
        let made = unsafe { sys::cusparseCreateDnVec(operand, rows as i64, place, FLOAT) };
        made.result().map_err(refused("describe a vector to cuSPARSE"))?;
    }
    Ok(both)
}

/// Descriptors of two matrices of n columns: the rows of each, and where it lies.
fn matrices(
    places: [(usize, *mut c_void); 2],
    n: usize,
    order: Order,
) -> Result<[sys::cusparseDnMatDescr_t; 2]> {
    let mut both = [ptr::null_mut(); 2];
    for (operand, (rows, place)) in both.iter_mut().zip(places) {
        let (rows, n) = (rows as i64, n as i64);
        let (leading, order) = match order {
            Order::Rows => (n, sys::cusparseOrder_t::CUSPARSE_ORDER_ROW),
            Order::Columns => (rows, sys::cusparseOrder_t::CUSPARSE_ORDER_COL),
        };
        // SAFETY: as in `vectors`.
        let made =
            unsafe { sys::cusparseCreateDnMat(operand, rows, n, leading, place, FLOAT, order) };
        made.result().map_err(refused("describe a matrix to cuSPARSE"))?;
    }
    Ok(both)
}

impl Set for SparseSet {
    fn enqueue(&self) -> Result<()> {
        self.call(sys::cusparseSpMV, sys::cusparseSpMM)
    }

    fn y(&self) -> &Buffer {
        &self.y
    }

    fn result(&self, gpu: &dyn Gpu, floats: usize) -> Result<Vec<f32>> {
        let y = download(gpu, &self.y, floats)?;
        Ok(match self.by_columns {
            None => y,
            Some(rows) => transpose(&y, rows),
        })
    }
}

impl Drop for SparseSet {
    fn drop(&mut self) {
        // SAFETY: created by `new`, and not used again.
        unsafe {
            sys::cusparseDestroySpMat(self.weights.cast_const());
            match self.descriptors {
                Descriptors::Vectors(both, _) => {
                    let _ = both.map(|operand| sys::cusparseDestroyDnVec(operand.cast_const()));
                }
                Descriptors::Matrices(both, _) => {
                    let _ = both.map(|operand| sys::cusparseDestroyDnMat(operand.cast_const()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_by_columns_are_those_by_rows_transposed() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
        let columns = transpose(&rows, 3);
        assert_eq!(columns, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(transpose(&columns, 2), rows);
    }

    #[test]
    fn every_algorithm_has_a_name_of_its_own() {
        for n in [1, 2] {
            let mut names: Vec<String> =
                Algorithm::all(n).iter().map(Algorithm::to_string).collect();
            assert!(names.iter().all(|name| name.contains("ALG")), "{names:?}");
            names.sort();
            names.dedup();
            assert_eq!(names.len(), Algorithm::all(n).len());
        }
    }
}

//! What a user would take instead of our kernels.
//!
//! [`Products`] is a library's dense and sparse products behind one contract, so that a measurement
//! names its baselines and does not know them. MKL is the first choice on a CPU; libtorch stands in
//! where MKL is absent, and every measurement says which it was. On NVIDIA's GPUs it is cuBLAS and
//! cuSPARSE ([`cuda`]).

pub mod cuda;
pub mod mkl;
pub mod rotation;
#[cfg(feature = "torch")]
mod torch_products;

use ndarray::ArrayView2;

use crate::error::{Error, Result};
use crate::sparse::Csr;

/// A library's products Y = W X: W is `[M, K]`, X is `[K, n]`, Y is `[M, n]`, row-major f32.
pub trait Products {
    /// The library and its version, such as `MKL 2026.2`.
    fn name(&self) -> String;

    /// A dense product, prepared as far as the library allows.
    ///
    /// # Errors
    /// An x of another length than K n; what the library refuses.
    fn dense(&self, w: ArrayView2<'_, f32>, x: &[f32], n: usize) -> Result<Box<dyn Product>>;

    /// A product with compressed sparse rows, prepared as far as the library allows.
    ///
    /// # Errors
    /// An x of another length than K n; what the library refuses.
    fn csr(&self, w: &Csr, x: &[f32], n: usize) -> Result<Box<dyn Product>>;
}

/// One product, ready to be run again and again: the operands are in the library's own hands, so that
/// nothing but the product is timed.
pub trait Product {
    /// Computes Y and returns when it is there.
    ///
    /// # Errors
    /// What the library refuses.
    fn run(&mut self) -> Result<()>;

    /// Seconds that so many runs take, one after the other.
    ///
    /// # Errors
    /// What the library refuses.
    fn seconds(&mut self, calls: u32) -> Result<f64> {
        crate::timing::seconds(calls, || self.run())
    }

    /// Y of the last run.
    ///
    /// # Errors
    /// What the library refuses.
    fn result(&self) -> Result<Vec<f32>>;

    /// How it computes, where the library leaves a choice: the algorithm that was the fastest here.
    fn detail(&self) -> Option<&str> {
        None
    }
}

/// The best library here for so many threads: MKL, else libtorch.
///
/// # Errors
/// Neither is here.
pub fn best(threads: usize) -> Result<Box<dyn Products>> {
    match mkl::Mkl::load(threads) {
        Ok(mkl) => Ok(Box::new(mkl::MklProducts(mkl))),
        #[cfg(feature = "torch")]
        Err(_) => Ok(Box::new(torch_products::TorchProducts::new(threads))),
        #[cfg(not(feature = "torch"))]
        Err(error) => Err(error),
    }
}

/// Refuses operands of other lengths than `[m, k, n]` asks for.
fn check_lengths([m, k, n]: [usize; 3], w: Option<&[f32]>, x: &[f32], y: &[f32]) -> Result<()> {
    let operation = format!("multiply [{m}, {k}] and [{k}, {n}]");
    Error::check_length(&operation, "w", m * k, w.map_or(m * k, <[f32]>::len))?;
    Error::check_length(&operation, "x", k * n, x.len())?;
    Error::check_length(&operation, "y", m * n, y.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rand::RngExt;

    /// Both products of a library, on small and uneven shapes, against plain loops.
    pub(super) fn check(library: &dyn Products) {
        let mut rng = crate::seed::stream(1, "baselines", &[]);
        let mut weight = |_: (usize, usize)| {
            if rng.random_bool(0.3) { rng.random_range(-1.0..1.0) } else { 0.0 }
        };
        let weights = Array2::<f32>::from_shape_fn((13, 29), &mut weight);
        let sparse = Csr::from_dense(weights.view()).unwrap();
        for n in [1, 2, 17] {
            let value = |(row, column)| ((row * 7 + column) % 11) as f32 - 5.0;
            let x = Array2::from_shape_fn((29, n), value);
            let (expected, x) = (weights.dot(&x), x.as_slice().unwrap());
            let dense = library.dense(weights.view(), x, n).unwrap();
            let sparse = library.csr(&sparse, x, n).unwrap();
            for mut product in [dense, sparse] {
                product.run().unwrap();
                product.run().unwrap(); // nothing is added to what the last run left
                for (expected, found) in expected.iter().zip(product.result().unwrap()) {
                    approx::assert_abs_diff_eq!(*expected, found, epsilon = 1e-4);
                }
            }
            assert!(library.dense(weights.view(), &x[1..], n).is_err(), "{}", library.name());
        }
    }
}

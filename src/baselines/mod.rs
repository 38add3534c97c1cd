//! What a user would take instead of our kernels.
//!
//! [`Products`] is a library's dense and sparse products behind one contract, so that a measurement
//! names its baselines and does not know them. On a CPU they are MKL ([`mkl`]), or libtorch where MKL is absent, and
//! OpenBLAS and BLIS ([`blas`]) where they are installed: the fastest of them is the one to beat, product by
//! product, and every measurement says which it was. On NVIDIA's GPUs it is cuBLAS and cuSPARSE ([`cuda`]).

pub mod blas;
mod c_functions;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod mkl;
pub mod rotation;
#[cfg(feature = "torch")]
mod torch_convolutions;
#[cfg(feature = "torch")]
mod torch_products;

use std::sync::Arc;

use ndarray::ArrayView2;

use self::blas::BlasLibrary;
use crate::error::{Error, Result};
use crate::kernels::convolution::ConvLibrary;
use crate::kernels::library_gemm::{DenseLibrary, Strided};
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

/// The libraries to beat: of their dense products, the fastest.
pub struct Libraries {
    /// One with products of both kinds.
    pub products: Box<dyn Products>,
    /// The dense products of others.
    pub dense: Vec<Arc<dyn DenseLibrary>>,
}

impl Libraries {
    /// All of the CPU that are here, for so many threads: the best one, OpenBLAS and BLIS.
    ///
    /// # Errors
    /// As [`best`] and [`BlasLibrary::load_all`].
    pub fn load(threads: usize) -> Result<Self> {
        let others = BlasLibrary::load_all(threads)?.into_iter();
        let dense = others.map(|blas| blas as Arc<dyn DenseLibrary>).collect();
        Ok(Self { products: best(threads)?, dense })
    }

    /// Their names.
    pub fn name(&self) -> String {
        let others = self.dense.iter().map(|library| format!(", {}", library.name()));
        self.products.name() + &others.collect::<String>()
    }

    /// The dense product of each, with its library's name.
    ///
    /// # Errors
    /// An x of another length than K n; what a library refuses.
    pub fn dense(
        &self,
        w: ArrayView2<'_, f32>,
        x: &[f32],
        n: usize,
    ) -> Result<Vec<(String, Box<dyn Product>)>> {
        let mut all = vec![(self.products.name(), self.products.dense(w, x, n)?)];
        for library in &self.dense {
            let product = DenseProduct::new(Arc::clone(library), w, x, n)?;
            all.push((library.name(), Box::new(product)));
        }
        Ok(all)
    }
}

/// The dense products of all libraries that are here, each on the thread that calls it.
///
/// # Errors
/// As [`BlasLibrary::load_all`].
pub fn dense_libraries() -> Result<Vec<Arc<dyn DenseLibrary>>> {
    let mkl = mkl::Mkl::load(1).ok().map(|mkl| mkl as Arc<dyn DenseLibrary>);
    let others = BlasLibrary::load_all(1)?.into_iter().map(|blas| blas as Arc<dyn DenseLibrary>);
    Ok(mkl.into_iter().chain(others).collect())
}

/// The convolutions of all libraries that are here, each on the thread that calls it: libtorch's, which are oneDNN's.
pub fn conv_libraries() -> Vec<Arc<dyn ConvLibrary>> {
    #[cfg(feature = "torch")]
    if let Some(libtorch) = torch_convolutions::TorchConvolutions::new() {
        return vec![Arc::new(libtorch)];
    }
    Vec::new()
}

/// Flag of `dlopen` (Linux): a library's symbols are looked for among its own parts first, and not among those of
/// the older MKL that libtorch contains.
const RTLD_DEEPBIND: std::ffi::c_int = 8;

/// Refuses operands of other lengths than `[m, k, n]` asks for.
fn check_lengths([m, k, n]: [usize; 3], w: Option<&[f32]>, x: &[f32], y: &[f32]) -> Result<()> {
    let operation = format!("multiply [{m}, {k}] and [{k}, {n}]");
    Error::check_length(&operation, "w", m * k, w.map_or(m * k, <[f32]>::len))?;
    Error::check_length(&operation, "x", k * n, x.len())?;
    Error::check_length(&operation, "y", m * n, y.len())
}

/// Refuses operands that do not hold `[m, k, n]`.
fn check_operands(
    [m, k, n]: [usize; 3],
    w: &[f32],
    x: &Strided<&[f32]>,
    y: &Strided<&mut [f32]>,
) -> Result<()> {
    let operation = format!("multiply [{m}, {k}] and [{k}, {n}]");
    Error::check_length(&operation, "w", m * k, w.len())?;
    for (name, rows, stride, length) in
        [("x", k, x.stride, x.values.len()), ("y", m, y.stride, y.values.len())]
    {
        if stride < n {
            let expected = format!("rows of {name} that do not overlap");
            return Err(Error::argument(operation, expected, format!("{stride} floats apart")));
        }
        let most = rows.checked_sub(1).map_or(0, |before| before.saturating_mul(stride) + n);
        Error::check_room(&operation, name, most, length)?;
    }
    Ok(())
}

/// A library's dense product with operands of its own.
struct DenseProduct {
    library: Arc<dyn DenseLibrary>,
    shape: [usize; 3],
    w: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl DenseProduct {
    fn new(
        library: Arc<dyn DenseLibrary>,
        w: ArrayView2<'_, f32>,
        x: &[f32],
        n: usize,
    ) -> Result<Self> {
        let (m, k) = w.dim();
        let y = vec![0.0; m * n];
        check_lengths([m, k, n], None, x, &y)?;
        Ok(Self { library, shape: [m, k, n], w: w.iter().copied().collect(), x: x.to_vec(), y })
    }
}

impl Product for DenseProduct {
    fn run(&mut self) -> Result<()> {
        let stride = self.shape[2];
        let x = Strided { values: &self.x[..], stride };
        let y = Strided { values: &mut self.y[..], stride };
        self.library.multiply(self.shape, &self.w, x, y)
    }

    fn result(&self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rand::RngExt;

    /// A dense product, on small and uneven shapes, against plain loops.
    pub(super) fn check_dense(library: Arc<dyn DenseLibrary>) {
        for [m, k, n] in [[13, 29, 1], [13, 29, 17], [1, 1, 1], [64, 300, 48]] {
            let w = Array2::from_shape_fn((m, k), |(row, column)| ((row + column) % 7) as f32);
            let x = Array2::from_shape_fn((k, n), |(row, column)| ((row * 7 + column) % 11) as f32);
            let [w_, x_] = [&w, &x].map(|array| array.as_slice().unwrap());
            let mut product = DenseProduct::new(Arc::clone(&library), w.view(), x_, n).unwrap();
            product.run().unwrap();
            product.run().unwrap(); // nothing is added to what the last run left
            assert_eq!(product.result().unwrap(), w.dot(&x).into_raw_vec_and_offset().0);
            // Rows that lie apart: what is between them is neither read nor written.
            let (apart, mut y) = (n + 3, vec![-1.0; m * (n + 2)]);
            let mut wide = vec![f32::NAN; k * apart];
            for (to, from) in wide.chunks_mut(apart).zip(x_.chunks(n)) {
                to[..n].copy_from_slice(from);
            }
            let to = Strided { values: &mut y[..], stride: n + 2 };
            library.multiply([m, k, n], w_, Strided { values: &wide, stride: apart }, to).unwrap();
            for (found, expected) in y.chunks(n + 2).zip(w.dot(&x).rows()) {
                assert_eq!(&found[..n], expected.as_slice().unwrap(), "{}", library.name());
                assert_eq!(found[n..], [-1.0; 2], "{}", library.name());
            }
        }
    }

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

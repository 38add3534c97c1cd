//! libtorch's products, where MKL is absent.

use ndarray::ArrayView2;
use tch::{Device, Kind, Tensor};

use super::{Product, Products, check_lengths};
use crate::error::{Error, Result};
use crate::sparse::Csr;

/// libtorch as a candidate.
#[derive(Debug)]
pub(super) struct TorchProducts;

impl TorchProducts {
    /// libtorch on so many threads, which it has for the whole process.
    pub(super) fn new(threads: usize) -> Self {
        tch::set_num_threads(threads as i32);
        Self
    }
}

impl Products for TorchProducts {
    fn name(&self) -> String {
        "libtorch 2.11.0".into()
    }

    fn dense(&self, w: ArrayView2<'_, f32>, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let (m, k) = w.dim();
        let values: Vec<f32> = w.iter().copied().collect();
        let w = Tensor::from_slice(&values).view([m as i64, k as i64]);
        Ok(Box::new(TorchProduct::new(w, [m, k, n], x)?))
    }

    /// libtorch builds MKL's handle anew on every call: for small shapes no fair baseline.
    fn csr(&self, w: &Csr, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let [m, k] = w.shape();
        let index = |numbers: &[u32]| {
            Tensor::from_slice(&numbers.iter().map(|&number| number as i32).collect::<Vec<_>>())
        };
        let w = Tensor::f_sparse_csr_tensor_crow_col_value_size(
            &index(w.row_ptr()),
            &index(w.columns()),
            &Tensor::from_slice(w.values()),
            [m as i64, k as i64],
            (Kind::Float, Device::Cpu),
        )
        .map_err(Error::torch("make a sparse matrix"))?;
        Ok(Box::new(TorchProduct::new(w, [m, k, n], x)?))
    }
}

struct TorchProduct {
    w: Tensor,
    x: Tensor,
    y: Tensor,
}

impl TorchProduct {
    fn new(w: Tensor, [m, k, n]: [usize; 3], x: &[f32]) -> Result<Self> {
        let y = vec![0.0_f32; m * n];
        check_lengths([m, k, n], None, x, &y)?;
        let [m, k, n] = [m, k, n].map(|size| size as i64);
        let (x, y) = (Tensor::from_slice(x).view([k, n]), Tensor::from_slice(&y).view([m, n]));
        Ok(Self { w, x, y })
    }
}

impl Product for TorchProduct {
    fn run(&mut self) -> Result<()> {
        self.w.f_mm_out(&self.y, &self.x).map(|_| ()).map_err(Error::torch("multiply two matrices"))
    }

    fn result(&self) -> Result<Vec<f32>> {
        self.y
            .f_flatten(0, -1)
            .and_then(|flat| Vec::try_from(&flat))
            .map_err(Error::torch("read a product"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_products_are_those_of_plain_loops() {
        super::super::tests::check(&TorchProducts::new(1));
    }
}

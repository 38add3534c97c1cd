//! Any columns, by a library.

use std::sync::Arc;

use super::{Gathered, Kernel};
use crate::error::Result;
use crate::kernels::PackedProduct;
use crate::kernels::layout::{ColumnLayout, Input, Output, RowTable, Rows};
use crate::kernels::library_gemm::{DenseLibrary, LibraryGemm};

#[derive(Debug)]
pub(super) struct LibraryKernel {
    product: LibraryGemm,
    n: usize,
    inputs: RowTable,
    outputs: RowTable,
}

impl LibraryKernel {
    pub(super) fn new(layer: Gathered, library: Arc<dyn DenseLibrary>) -> Result<Self> {
        let Gathered { weights, bias, relu, n, inputs, outputs } = layer;
        let product = LibraryGemm::new(weights.view(), Some(&bias), relu, library)?;
        Ok(Self { product, n, inputs, outputs })
    }
}

impl Kernel for LibraryKernel {
    fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let x = Input { values: x, rows: Rows::At(&self.inputs) };
        let columns = ColumnLayout::contiguous(self.n);
        self.product.run_at(x, self.n, Output { values: y, rows: Rows::At(&self.outputs), columns })
    }
}

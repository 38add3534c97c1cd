//! Many columns: by `group_spmm` with every group stored.

use super::{Gathered, Kernel};
use crate::error::Result;
use crate::kernels::PackedProduct;
use crate::kernels::group_spmm::{self, GroupSpmm, Variant};
use crate::kernels::layout::{ColumnLayout, Input, Output, RowTable, Rows};
use crate::sparse::GroupSparse;

/// Weights in a group: what every variant's widest update takes.
const WIDTH: usize = 8;

#[derive(Debug)]
pub(super) struct ColumnsKernel {
    kernel: GroupSpmm,
    n: usize,
    inputs: RowTable,
    outputs: RowTable,
}

impl ColumnsKernel {
    pub(super) fn new(layer: Gathered, variant: &'static Variant) -> Result<Self> {
        let weights = GroupSparse::full(layer.weights.view(), WIDTH)?;
        let groups =
            group_spmm::GroupLayer { weights: &weights, bias: Some(&layer.bias), relu: layer.relu };
        let kernel = GroupSpmm::with(variant, &groups)?;
        Ok(Self { kernel, n: layer.n, inputs: layer.inputs, outputs: layer.outputs })
    }
}

impl Kernel for ColumnsKernel {
    fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let x = Input { values: x, rows: Rows::At(&self.inputs) };
        let columns = ColumnLayout::contiguous(self.n);
        self.kernel.run_at(x, self.n, Output { values: y, rows: Rows::At(&self.outputs), columns })
    }
}

//! Rows of Y, one after the other, on any operands.

use std::cell::Cell;
use std::ops::Range;

use super::{CsrLayer, Kernel};
use crate::kernels::balanced_ranges;
use crate::kernels::layout::{Input, Output, Rows, Segment};
use crate::kernels::parallel::{parallel_for, task_count};

/// Useful operations that a thread does in a microsecond.
const PER_MICROSECOND: usize = 40_000;

/// Computes the rows from `first` on: y is `[rows, n]`.
///
/// # Safety
/// The processor has what the function was compiled for.
pub(super) type RowsFunction =
    unsafe fn(&RowsKernel, x: &Input<'_>, n: usize, first: usize, y: &mut [f32]);

/// A layer's rows, and the function that computes them.
#[derive(Debug)]
pub(super) struct RowsKernel {
    pub(super) row_ptr: Vec<usize>,
    pub(super) columns: Vec<u32>,
    pub(super) values: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) relu: bool,
    function: RowsFunction,
}

thread_local! {
    /// One row of Y before it goes to its lines, kept from call to call.
    static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl RowsKernel {
    /// Packs a layer for a function.
    ///
    /// # Safety
    /// The processor has what the function was compiled for.
    pub(super) unsafe fn new(layer: &CsrLayer<'_>, function: RowsFunction) -> Self {
        let weights = layer.weights;
        let rows = weights.shape()[0];
        Self {
            row_ptr: weights.row_ptr().iter().map(|&place| place as usize).collect(),
            columns: weights.columns().to_vec(),
            values: weights.values().to_vec(),
            bias: layer.bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec),
            relu: layer.relu,
            function,
        }
    }

    /// Computes rows `range` of Y, each of which starts where `start` says, and cuts it into its lines.
    fn rows_at(
        &self,
        x: &Input<'_>,
        n: usize,
        range: Range<usize>,
        y: &mut Output<'_>,
        start: impl Fn(usize) -> usize,
    ) {
        let mut row_of_y = ROW.take();
        row_of_y.resize(n, 0.0);
        for row in range {
            // SAFETY: the function is one for this processor.
            unsafe { (self.function)(self, x, n, row, &mut row_of_y) };
            for Segment { from, to, length } in y.columns.segments(n) {
                let to = start(row) + to;
                y.values[to..to + length].copy_from_slice(&row_of_y[from..from + length]);
            }
        }
        ROW.set(row_of_y);
    }
}

impl Kernel for RowsKernel {
    fn run(&self, x: &Input<'_>, n: usize, mut y: Output<'_>) {
        let rows = self.bias.len();
        if n == 0 || rows == 0 {
            return;
        }
        let parts = task_count(2 * self.values.len() * n, PER_MICROSECOND);
        if y.is_plain(n) {
            let run = |first: usize, y: &mut [f32]| {
                // SAFETY: the function is one for this processor.
                unsafe { (self.function)(self, x, n, first, y) };
            };
            let values = &mut y.values[..rows * n];
            if parts == 1 {
                run(0, values);
            } else {
                let shares = balanced_ranges(&self.row_ptr, parts, n, values);
                parallel_for(shares, |(rows, y)| run(rows.start, y));
            }
            return;
        }
        match y.rows {
            Rows::Every(stride) if parts > 1 => {
                let columns = y.columns;
                let shares = balanced_ranges(&self.row_ptr, parts, stride, y.values);
                parallel_for(shares, |(range, values)| {
                    let first = range.start;
                    let mut y = Output { values, rows: Rows::Every(stride), columns };
                    self.rows_at(x, n, range, &mut y, |row| (row - first) * stride);
                });
            }
            rows_of_y => self.rows_at(x, n, 0..rows, &mut y, |row| rows_of_y.start(row)),
        }
    }
}

//! The loop over arrays of fixed size, compiled for each instruction set.

use super::RowsKernel;
use crate::kernels::activate;
use crate::kernels::layout::{Input, Rows};

impl RowsKernel {
    /// Rows from `first` on, in tiles of `T` columns. `FMA` says whether fused products are one
    /// instruction: else they would be calls.
    #[inline(always)]
    pub(super) fn rows<const T: usize, const FMA: bool>(
        &self,
        x: &Input<'_>,
        n: usize,
        first: usize,
        y: &mut [f32],
    ) {
        match x.rows {
            Rows::Every(stride) => {
                self.rows_from::<T, FMA>(x.values, |column| column * stride, n, first, y);
            }
            Rows::At(table) => {
                let starts = table.starts();
                self.rows_from::<T, FMA>(x.values, |column| starts[column], n, first, y);
            }
        }
    }

    /// As [`RowsKernel::rows`]; `start` says where in x the row of activations of a column of W begins.
    #[inline(always)]
    fn rows_from<const T: usize, const FMA: bool>(
        &self,
        x: &[f32],
        start: impl Fn(usize) -> usize,
        n: usize,
        first: usize,
        y: &mut [f32],
    ) {
        let product = |a: f32, b: f32, c: f32| if FMA { a.mul_add(b, c) } else { a * b + c };
        for (row, y) in (first..).zip(y.chunks_exact_mut(n)) {
            let places = self.row_ptr[row]..self.row_ptr[row + 1];
            let (columns, values) = (&self.columns[places.clone()], &self.values[places]);
            if n == 1 {
                let mut sums = [0.0_f32; 4];
                let (fours, rest) = columns.as_chunks::<4>();
                let (value_fours, rest_values) = values.as_chunks::<4>();
                for (columns, values) in fours.iter().zip(value_fours) {
                    for flight in 0..4 {
                        let x = x[start(columns[flight] as usize)];
                        sums[flight] = product(values[flight], x, sums[flight]);
                    }
                }
                for ((&column, &value), sum) in rest.iter().zip(rest_values).zip(&mut sums) {
                    *sum = product(value, x[start(column as usize)], *sum);
                }
                let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
                y[0] = activate(sum + self.bias[row], self.relu);
                continue;
            }
            let (tiles, rest) = y.as_chunks_mut::<T>();
            let tiled = tiles.len() * T;
            for (tile, place) in tiles.iter_mut().zip((0..).step_by(T)) {
                let mut sums = [self.bias[row]; T];
                for (&column, &value) in columns.iter().zip(values) {
                    let x: &[f32] = &x[start(column as usize) + place..][..T];
                    for (sum, &x) in sums.iter_mut().zip(x) {
                        *sum = product(value, x, *sum);
                    }
                }
                *tile = sums.map(|sum| activate(sum, self.relu));
            }
            rest.fill(self.bias[row]);
            for (&column, &value) in columns.iter().zip(values) {
                let x = &x[start(column as usize) + tiled..][..rest.len()];
                for (sum, &x) in rest.iter_mut().zip(x) {
                    *sum = product(value, x, *sum);
                }
            }
            rest.iter_mut().for_each(|sum| *sum = activate(*sum, self.relu));
        }
    }
}

//! One column: a strip's sums as vectors, four of them so that additions overlap, each taking every fourth group.
//!
//! The last, partial strip is padded to the others' height with rows of 0, which nobody reads.

use std::cell::Cell;
use std::ops::Range;

use super::{Kernel, UprightLayer};
use crate::kernels::aligned::{Aligned, LINE};
use crate::kernels::layout::{Input, Output, Rows};
use crate::kernels::parallel::{parallel_for, task_count};
use crate::kernels::simd::{WEIGHTS_AHEAD, prefetch};
use crate::kernels::{activate, balanced_ranges};

/// Stored weights that a thread multiplies in a microsecond.
const PER_MICROSECOND: usize = 14_000;

/// Groups that are summed apart.
const SUMS: usize = 4;

/// Bytes of weights from which it pays to prefetch them, since they come from memory. (AMD EPYC, 32 MiB of L3, rates
/// with and without: 12 and 13 MB .66 and .56, .87 and .79; but 1.4 and 2.1 MB .67 and .77, .70 and .82.)
const PREFETCH_FROM: usize = 8 << 20;

/// Computes strips, `height` results each.
///
/// # Safety
/// The processor has what the function was compiled for, which is for the layer's height; `x` has K floats, and
/// `out` those of the strips.
pub(super) type StripsFunction =
    unsafe fn(&PaddedStrips, x: &[f32], strips: Range<usize>, out: &mut [f32]);

/// A layer in strips of equal height.
#[derive(Debug)]
pub(super) struct PaddedStrips {
    /// Where each strip's groups start, and where the last one's end.
    starts: Vec<usize>,
    /// The activation of each group.
    columns: Vec<u32>,
    /// Each group's weights.
    values: Aligned,
    /// Of every row, the padding's included.
    bias: Vec<f32>,
    relu: bool,
    /// Whether weights are prefetched.
    prefetch: bool,
    height: usize,
    rows: usize,
    inner: usize,
}

impl PaddedStrips {
    fn new(layer: &UprightLayer<'_>) -> Self {
        let weights = layer.weights;
        let ([rows, inner], height) = (weights.shape(), weights.height());
        let mut starts: Vec<usize> = weights.strip_ptr().iter().map(|&at| at as usize).collect();
        let mut columns = weights.indices().to_vec();
        let mut values = Vec::with_capacity(weights.values().len());
        for strip in 0..weights.strips() {
            for (_, group) in weights.strip(strip) {
                values.extend(group);
                values.resize(values.len().next_multiple_of(height), 0.0);
            }
        }
        if weights.tail_rows() > 0 {
            for column in 0..inner {
                columns.push(column as u32);
                values.extend(weights.tail().chunks_exact(inner).map(|row| row[column]));
                values.resize(columns.len() * height, 0.0);
            }
            starts.push(columns.len());
        }
        let mut bias = layer.bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec);
        bias.resize(rows.next_multiple_of(height), 0.0);
        let values: Aligned = values.into();
        let prefetch = size_of_val(&values[..]) > PREFETCH_FROM;
        Self { starts, columns, values, bias, relu: layer.relu, prefetch, height, rows, inner }
    }

    /// The loop itself, for groups of `H`; compiled for each instruction set by whom it is inlined into. `FMA`
    /// says whether that set has fused products: without it they would be calls.
    ///
    /// # Safety
    /// As [`StripsFunction`] asks; the layer has groups of `H`.
    #[inline(always)]
    pub unsafe fn compute<const H: usize, const FMA: bool>(
        &self,
        x: &[f32],
        strips: Range<usize>,
        out: &mut [f32],
    ) {
        // SAFETY: as this function asks.
        unsafe {
            match self.prefetch {
                true => self.compute_strips::<H, FMA, true>(x, strips, out),
                false => self.compute_strips::<H, FMA, false>(x, strips, out),
            }
        }
    }

    /// # Safety
    /// As for [`Self::compute`].
    #[inline(always)]
    unsafe fn compute_strips<const H: usize, const FMA: bool, const PREFETCH: bool>(
        &self,
        x: &[f32],
        strips: Range<usize>,
        out: &mut [f32],
    ) {
        let (values, _) = self.values.as_chunks::<H>();
        let (biases, _) = self.bias.as_chunks::<H>();
        let (outs, _) = out.as_chunks_mut::<H>();
        let add = |sums: &mut [f32; H], weights: &[f32; H], k: u32| {
            debug_assert!((k as usize) < x.len());
            // SAFETY: every group's activation is one of K, and x has as many.
            let x = unsafe { *x.get_unchecked(k as usize) };
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum = if FMA { weight.mul_add(x, *sum) } else { *sum + weight * x };
            }
        };
        for (strip, out) in strips.zip(outs) {
            let groups = self.starts[strip]..self.starts[strip + 1];
            let (columns, values) = (&self.columns[groups.clone()], &values[groups]);
            let (columns_of_four, columns_left) = columns.as_chunks::<SUMS>();
            let (values_of_four, values_left) = values.as_chunks::<SUMS>();
            let mut sums = [[0.0; H]; SUMS];
            for (columns, values) in columns_of_four.iter().zip(values_of_four) {
                if PREFETCH {
                    let ahead = values.as_ptr().cast::<f32>().wrapping_add(WEIGHTS_AHEAD);
                    for line in (0..SUMS * H).step_by(LINE) {
                        prefetch(ahead.wrapping_add(line));
                    }
                }
                for lane in 0..SUMS {
                    add(&mut sums[lane], &values[lane], columns[lane]);
                }
            }
            for (&k, weights) in columns_left.iter().zip(values_left) {
                add(&mut sums[0], weights, k);
            }
            for row in 0..H {
                let sum = (sums[0][row] + sums[1][row]) + (sums[2][row] + sums[3][row]);
                out[row] = activate(sum + biases[strip][row], self.relu);
            }
        }
    }
}

/// A layer in strips, with the function that runs it.
#[derive(Debug)]
pub(super) struct RowsKernel {
    strips: PaddedStrips,
    function: StripsFunction,
}

impl RowsKernel {
    /// Packs a layer.
    ///
    /// # Safety
    /// The processor has what the function was compiled for, which is for the layer's height.
    pub unsafe fn new(layer: &UprightLayer<'_>, function: StripsFunction) -> Self {
        Self { strips: PaddedStrips::new(layer), function }
    }
}

thread_local! {
    /// The activations, where they do not lie side by side, and the results; kept from call to call.
    static SCRATCH: Cell<(Vec<f32>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Kernel for RowsKernel {
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>) {
        let strips = &self.strips;
        if n == 0 || strips.rows == 0 {
            return;
        }
        // Taken and put back, since another product may run on this thread while it waits for others.
        let (mut copy, mut out) = SCRATCH.take();
        let x = match x.rows {
            Rows::Every(1) => &x.values[..strips.inner],
            rows => {
                copy.clear();
                copy.extend((0..strips.inner).map(|row| x.values[rows.start(row)]));
                &copy[..]
            }
        };
        out.resize(strips.bias.len(), 0.0);
        let count = strips.starts.len() - 1;
        let parts = task_count(strips.values.len(), PER_MICROSECOND);
        // SAFETY (of both calls): `new` asks that the processor has what the function was compiled for, for the
        // layer's height; x has K floats, and the output those of every strip.
        if parts == 1 {
            unsafe { (self.function)(strips, x, 0..count, &mut out) };
        } else {
            let ranges = balanced_ranges(&strips.starts, parts, strips.height, &mut out);
            parallel_for(ranges, |(range, out)| unsafe { (self.function)(strips, x, range, out) });
        }
        let results = &out[..strips.rows];
        match y.rows {
            Rows::Every(1) => y.values[..results.len()].copy_from_slice(results),
            rows => {
                for (row, &result) in results.iter().enumerate() {
                    y.values[rows.start(row)] = result;
                }
            }
        }
        SCRATCH.set((copy, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::UprightSparse;
    use ndarray::Array2;

    /// A result for each row, by groups of `H`, with and without prefetching.
    fn both<const H: usize>() -> [Vec<f32>; 2] {
        // A partial strip, columns without groups, and more groups than are summed at once.
        let dense = Array2::from_shape_fn((5 * H + 3, 61), |(row, column)| {
            if (row / H + column).is_multiple_of(3) { (row * 61 + column) as f32 } else { 0.0 }
        });
        let weights = UprightSparse::from_dense(dense.view(), H).unwrap();
        let layer = UprightLayer { weights: &weights, bias: None, relu: false };
        let x: Vec<f32> = (0..61).map(|row| row as f32 - 30.0).collect();
        [false, true].map(|prefetch| {
            let strips = PaddedStrips { prefetch, ..PaddedStrips::new(&layer) };
            let mut out = vec![f32::NAN; strips.bias.len()];
            // SAFETY: for every processor, and for the layer's height; x has 61 floats, and the output all strips.
            unsafe { strips.compute::<H, false>(&x, 0..6, &mut out) };
            let expected = dense.dot(&ndarray::arr1(&x));
            for (found, expected) in out.iter().zip(&expected) {
                approx::assert_relative_eq!(found, expected, max_relative = 1e-4, epsilon = 1.0);
            }
            out
        })
    }

    #[test]
    fn prefetching_changes_no_result() {
        let [without, with] = both::<4>();
        assert_eq!(without, with);
        let [without, with] = both::<8>();
        assert_eq!(without, with);
        let [without, with] = both::<16>();
        assert_eq!(without, with);
    }

    #[test]
    fn only_weights_that_come_from_memory_are_prefetched() {
        let prefetches = |columns: usize| {
            let dense = Array2::ones((8, columns));
            let weights = UprightSparse::from_dense(dense.view(), 8).unwrap();
            PaddedStrips::new(&UprightLayer { weights: &weights, bias: None, relu: false }).prefetch
        };
        let columns = PREFETCH_FROM / (4 * 8);
        assert_eq!([columns, columns + 1].map(prefetches), [false, true]);
    }
}

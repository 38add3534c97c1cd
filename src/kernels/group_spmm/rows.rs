//! One column: a row's groups one after another.

use rayon::prelude::*;

use super::{Kernel, Layer};
use crate::kernels::activate;
use crate::kernels::layout::{Input, Output, Rows as RowStarts};

/// Stored weights below which one thread is as fast as all: waking another takes about as long as
/// so many products.
const WORTH_A_THREAD: usize = 200_000;

/// Computes rows `first..first + y.len()`.
///
/// # Safety
/// The processor has what the function was compiled for.
pub(super) type RowsFunction = unsafe fn(&Rows, x: &[f32], first: usize, y: &mut [f32]);

/// A layer in the order of its rows.
#[derive(Debug)]
pub(super) struct Rows {
    row_ptr: Vec<usize>,
    /// The first column of each group.
    starts: Vec<u32>,
    values: Vec<f32>,
    tail: Vec<f32>,
    /// Columns, and how many of them the groups cover.
    columns: usize,
    covered: usize,
    bias: Vec<f32>,
    relu: bool,
}

impl Rows {
    pub(super) fn new(layer: &Layer<'_>) -> Self {
        let weights = layer.weights;
        let ([rows, columns], width) = (weights.shape(), weights.width());
        Self {
            row_ptr: weights.row_ptr().iter().map(|&place| place as usize).collect(),
            // The format holds fewer columns than 2^32 only if they are groups; a group's first
            // column is below K, which the activations hold in memory.
            starts: weights.groups().iter().map(|&group| group * width as u32).collect(),
            values: weights.values().to_vec(),
            tail: weights.tail().to_vec(),
            columns,
            covered: columns / width * width,
            bias: layer.bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec),
            relu: layer.relu,
        }
    }

    /// The loop itself, for groups of `W`; compiled for each instruction set by whom it is inlined
    /// into. `FMA` says whether that set has fused products: without it they would be calls.
    #[inline(always)]
    pub(super) fn compute<const W: usize, const FMA: bool>(
        &self,
        x: &[f32],
        first: usize,
        y: &mut [f32],
    ) {
        let product = |a: f32, b: f32, c: f32| if FMA { a.mul_add(b, c) } else { a * b + c };
        let (groups, _) = self.values.as_chunks::<W>();
        let tail_width = self.columns - self.covered;
        for (row, y) in (first..).zip(y) {
            let (from, to) = (self.row_ptr[row], self.row_ptr[row + 1]);
            let (groups, starts) = (&groups[from..to], &self.starts[from..to]);
            let mut sums = [[0.0_f32; W]; 4];
            let add = |sum: &mut [f32; W], group: &[f32; W], start: u32| {
                let x = &x[start as usize..][..W];
                for lane in 0..W {
                    sum[lane] = product(group[lane], x[lane], sum[lane]);
                }
            };
            let (fours, rest) = groups.as_chunks::<4>();
            let (four_starts, rest_starts) = starts.as_chunks::<4>();
            for (four, starts) in fours.iter().zip(four_starts) {
                for flight in 0..4 {
                    add(&mut sums[flight], &four[flight], starts[flight]);
                }
            }
            for (flight, (group, &start)) in rest.iter().zip(rest_starts).enumerate() {
                add(&mut sums[flight], group, start);
            }
            let [a, b, c, d] = sums;
            let lanes: [f32; W] =
                std::array::from_fn(|lane| (a[lane] + b[lane]) + (c[lane] + d[lane]));
            let mut sum: f32 = lanes.iter().sum();
            let tail = &self.tail[row * tail_width..(row + 1) * tail_width];
            for (&weight, &x) in tail.iter().zip(&x[self.covered..]) {
                sum = product(weight, x, sum);
            }
            *y = activate(sum + self.bias[row], self.relu);
        }
    }
}

/// A layer with the function that runs it.
#[derive(Debug)]
pub(super) struct RowsKernel {
    rows: Rows,
    function: RowsFunction,
}

impl RowsKernel {
    /// # Safety
    /// The processor has what `function` was compiled for, and it is the one for the layer's width.
    pub(super) unsafe fn new(layer: &Layer<'_>, function: RowsFunction) -> Self {
        Self { rows: Rows::new(layer), function }
    }
}

impl Kernel for RowsKernel {
    fn run(&self, x: &Input<'_>, _: usize, y: Output<'_>) {
        let gathered: Vec<f32>;
        let x = match x.rows {
            RowStarts::Every(1) => &x.values[..self.rows.columns],
            rows => {
                gathered = (0..self.rows.columns).map(|row| x.values[rows.start(row)]).collect();
                &gathered
            }
        };
        let count = self.rows.bias.len();
        match y.rows {
            RowStarts::Every(1) => self.contiguous(x, &mut y.values[..count]),
            rows => {
                let mut results = vec![0.0; count];
                self.contiguous(x, &mut results);
                for (row, result) in results.into_iter().enumerate() {
                    y.values[rows.start(row)] = result;
                }
            }
        }
    }
}

impl RowsKernel {
    fn contiguous(&self, x: &[f32], y: &mut [f32]) {
        let rows = &self.rows;
        let threads = rayon::current_num_threads();
        if threads == 1 || rows.values.len() < WORTH_A_THREAD {
            // SAFETY: whoever made this kernel vouched for the processor.
            return unsafe { (self.function)(rows, x, 0, y) };
        }
        // Pieces of equal weight, by stored groups and not by rows.
        let mut pieces = Vec::with_capacity(threads);
        let (mut rest, mut first) = (y, 0);
        for thread in 1..=threads {
            let target = rows.values.len() * thread / threads;
            let width = rows.values.len() / rows.starts.len().max(1);
            let end = rows.row_ptr.partition_point(|&place| place * width < target);
            let end = if thread == threads {
                first + rest.len()
            } else {
                end.clamp(first, first + rest.len())
            };
            let (piece, behind) = rest.split_at_mut(end - first);
            pieces.push((first, piece));
            (rest, first) = (behind, end);
        }
        // SAFETY: as above.
        pieces.into_par_iter().for_each(|(first, y)| unsafe { (self.function)(rows, x, first, y) });
    }
}

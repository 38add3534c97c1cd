//! Compressed sparse rows times activations: Y = act(W X + b), the format of traditional pruning.
//!
//! The same contract as [`group_spmm`](super::group_spmm) with one index per weight: what pruning costs
//! that does not look at the hardware. Row by row: with one column, four weights in flight, each with a
//! load of its own activation; with many, a tile of the row's results in registers, to which every
//! weight adds its multiple of a row of X. It is here so that the format runs everywhere, as convolutions
//! too; the baseline in measurements is the best library's ([`baselines`](crate::baselines)).

pub mod gpu;
mod micro_kernel;
mod portable;
pub mod reference;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use std::cell::Cell;
use std::ops::Range;

use super::PackedProduct;
use super::layout::{Input, Output, Rows, Segment};
use super::parallel::{parallel_for, task_count};
use super::registry::{self, Isa};
use crate::error::Result;
use crate::sparse::Csr;

/// Useful operations that a thread does in a microsecond.
const PER_MICROSECOND: usize = 40_000;

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct CsrLayer<'a> {
    /// `[M, K]`.
    pub weights: &'a Csr,
    /// M entries; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

/// Computes the rows from `first` on: y is `[rows, n]`.
///
/// # Safety
/// The processor has what the function was compiled for.
type RowsFunction = unsafe fn(&CsrSpmm, x: &Input<'_>, n: usize, first: usize, y: &mut [f32]);

/// How a variant computes.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// The function; `None` where the processor lacks the instructions.
    function: fn() -> Option<RowsFunction>,
}

/// `csr_spmm_f32_<instruction set>`.
pub type Variant = registry::Variant<Design>;

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant::new("csr_spmm_f32_avx512", Isa::Avx512, Design { function: x86_avx512::function }),
    #[cfg(target_arch = "x86_64")]
    Variant::new("csr_spmm_f32_avx2", Isa::Avx2, Design { function: x86_avx2::function }),
    Variant::new("csr_spmm_f32_portable", Isa::Portable, Design { function: portable::function }),
];

/// A layer packed and ready to run.
#[derive(Debug)]
pub struct CsrSpmm {
    shape: [usize; 2],
    row_ptr: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    bias: Vec<f32>,
    relu: bool,
    variant: &'static Variant,
    function: RowsFunction,
}

impl CsrSpmm {
    /// Packs a layer for the variant that `SCALPEL_KERNEL` names, else for the first of [`VARIANTS`]
    /// that this processor has.
    ///
    /// # Errors
    /// A bias of another length than M; a forced variant that is unknown or not for this processor.
    pub fn new(layer: &CsrLayer<'_>) -> Result<Self> {
        match registry::forced(VARIANTS, "csr_spmm_")? {
            Some(variant) => Self::with(variant, layer),
            None => registry::first_available(VARIANTS, |variant| Self::with(variant, layer)),
        }
    }

    /// Packs a layer for one variant.
    ///
    /// # Errors
    /// A bias of another length than M; a processor that lacks the variant's instructions.
    pub fn with(variant: &'static Variant, layer: &CsrLayer<'_>) -> Result<Self> {
        let shape = layer.weights.shape();
        let bias = super::bias("csr_spmm", layer.bias, shape[0])?;
        let function = (variant.design.function)().ok_or_else(|| variant.unavailable())?;
        Ok(Self {
            shape,
            row_ptr: layer.weights.row_ptr().iter().map(|&place| place as usize).collect(),
            columns: layer.weights.columns().to_vec(),
            values: layer.weights.values().to_vec(),
            bias,
            relu: layer.relu,
            variant,
            function,
        })
    }

    /// The variant that it was packed for.
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// Computes `y = act(W x + b)`: x is `[K, n]`, y is `[M, n]`. What y held is overwritten.
    ///
    /// # Errors
    /// Slices of other lengths.
    pub fn run(&self, x: &[f32], n: usize, y: &mut [f32]) -> Result<()> {
        super::check_plain(self.variant.name, self.shape, n, x, y)?;
        self.run_at(Input::plain(x, n), n, Output::plain(y, n))
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

thread_local! {
    /// One row of Y before it goes to its lines, kept from call to call.
    static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl PackedProduct for CsrSpmm {
    fn name(&self) -> &'static str {
        self.variant.name
    }

    fn run_at(&self, x: Input<'_>, n: usize, mut y: Output<'_>) -> Result<()> {
        let [rows, inner] = self.shape;
        x.check(self.variant.name, inner, n)?;
        y.check(self.variant.name, rows, n)?;
        if n == 0 || rows == 0 {
            return Ok(());
        }
        let parts = task_count(2 * self.values.len() * n, PER_MICROSECOND);
        if y.is_plain(n) {
            let run = |first: usize, y: &mut [f32]| {
                // SAFETY: the function is one for this processor.
                unsafe { (self.function)(self, &x, n, first, y) };
            };
            let values = &mut y.values[..rows * n];
            if parts == 1 {
                run(0, values);
            } else {
                let shares = super::balanced_ranges(&self.row_ptr, parts, n, values);
                parallel_for(shares, |(rows, y)| run(rows.start, y));
            }
            return Ok(());
        }
        match y.rows {
            Rows::Every(stride) if parts > 1 => {
                let columns = y.columns;
                let shares = super::balanced_ranges(&self.row_ptr, parts, stride, y.values);
                parallel_for(shares, |(range, values)| {
                    let first = range.start;
                    let mut y = Output { values, rows: Rows::Every(stride), columns };
                    self.rows_at(&x, n, range, &mut y, |row| (row - first) * stride);
                });
            }
            rows_of_y => self.rows_at(&x, n, 0..rows, &mut y, |row| rows_of_y.start(row)),
        }
        Ok(())
    }
}

//! Compressed sparse rows times activations: Y = act(W X + b), the format of traditional pruning.
//!
//! The same contract as [`group_spmm`](super::group_spmm) with one index per weight: what pruning costs
//! that does not look at the hardware. Row by row: with one column, four weights in flight, each with a
//! load of its own activation; with many, a tile of the row's results in registers, to which every
//! weight adds its multiple of a row of X. It is here so that the format runs everywhere; the opponent
//! in measurements is the best library's ([`baselines`](crate::baselines)).

mod cpu;
pub mod gpu;
pub mod reference;
#[cfg(test)]
mod suite;

use rayon::prelude::*;

use crate::error::Result;
use crate::sparse::Csr;

/// Useful operations from which two threads are faster than one: some 100 us of work, where waking a
/// thread takes 20 to 30.
const WORTH_A_THREAD: usize = 4_000_000;

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
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
/// The processor has what the function was compiled for; the columns of the weights are below K, and x
/// is `[K, n]`.
type RowsFunction = unsafe fn(&CsrSpmm, x: &[f32], n: usize, first: usize, y: &mut [f32]);

/// One implementation of the operation.
#[derive(Debug)]
pub struct Variant {
    /// `csr_spmm_f32_<instruction set>`.
    pub name: &'static str,
    /// What the processor must have, for the message where it has it not.
    pub needs: &'static str,
    /// The function; `None` where the processor lacks the instructions.
    function: fn() -> Option<RowsFunction>,
}

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant { name: "csr_spmm_f32_avx512", needs: "avx512f", function: cpu::avx512 },
    #[cfg(target_arch = "x86_64")]
    Variant { name: "csr_spmm_f32_avx2", needs: "avx2+fma", function: cpu::avx2 },
    Variant { name: "csr_spmm_f32_portable", needs: "nothing", function: cpu::portable },
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
    pub fn new(layer: &Layer<'_>) -> Result<Self> {
        match super::forced("csr_spmm_") {
            Some(name) => {
                let names = VARIANTS.iter().map(|variant| variant.name);
                Self::with(&VARIANTS[super::position(names, &name)?], layer)
            }
            None => super::first_available(VARIANTS, |variant| Self::with(variant, layer)),
        }
    }

    /// Packs a layer for one variant.
    ///
    /// # Errors
    /// A bias of another length than M; a processor that lacks the variant's instructions.
    pub fn with(variant: &'static Variant, layer: &Layer<'_>) -> Result<Self> {
        let shape = layer.weights.shape();
        let bias = super::bias("csr_spmm", layer.bias, shape[0])?;
        let function =
            (variant.function)().ok_or_else(|| super::unavailable(variant.name, variant.needs))?;
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
        if n == 0 {
            return Ok(());
        }
        let run = |first: usize, y: &mut [f32]| {
            // SAFETY: the function is one for this processor; the format has checked its columns.
            unsafe { (self.function)(self, x, n, first, y) };
        };
        let threads = rayon::current_num_threads();
        if threads == 1 || 2 * self.values.len() * n < WORTH_A_THREAD {
            run(0, y);
            return Ok(());
        }
        let shares = super::shares(&self.row_ptr, threads, n, y);
        shares.into_par_iter().for_each(|(rows, y)| run(rows.start, y));
        Ok(())
    }
}

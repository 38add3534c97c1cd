//! A matrix with its rows and columns exchanged: from images in rows to features in rows, and back.
//!
//! X is `[R, C]`, Y is `[C, R]`, both f32 and row-major. Squares as wide as a vector are transposed in registers and
//! written as whole vectors: bound by the cache or memory that holds the larger of the two. Some columns of X are
//! taken from its first row to its last, so that Y is written from end to end and what a cache line of X holds beside
//! them is still in the first-level cache when it is their turn.

mod micro_kernel;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use std::ops::Range;

use super::parallel::{parallel_for, task_count};
use super::registry::{self, Isa};
use crate::error::{Error, Result};

/// Floats that a thread moves in a microsecond.
const PER_MICROSECOND: usize = 10_000;

/// Columns that threads share out at once: those of a cache line.
const COLUMNS: usize = 16;

/// Writes the columns `range` of x, `[rows, columns]`, as rows from the start of y on.
///
/// # Safety
/// The processor has what the function was compiled for; x has as many floats as its shape, and y as many as the
/// range's columns.
type ColumnsFunction = unsafe fn(x: &[f32], shape: [usize; 2], range: Range<usize>, y: &mut [f32]);

/// How a variant moves floats.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// The function; `None` where the processor lacks the instructions.
    function: fn() -> Option<ColumnsFunction>,
}

/// `transpose_f32_<instruction set>`.
pub type Variant = registry::Variant<Design>;

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant::new("transpose_f32_avx512", Isa::Avx512, Design { function: x86_avx512::function }),
    #[cfg(target_arch = "x86_64")]
    Variant::new("transpose_f32_avx2", Isa::Avx2, Design { function: x86_avx2::function }),
    Variant::new("transpose_f32_portable", Isa::Portable, Design { function: portable::function }),
];

/// The transposition of matrices of one shape, ready to run.
#[derive(Clone, Copy, Debug)]
pub struct Transpose {
    shape: [usize; 2],
    variant: &'static Variant,
    function: ColumnsFunction,
}

impl Transpose {
    /// Of matrices `[rows, columns]`, by the variant that `SCALPEL_KERNEL` names, else by the first of [`VARIANTS`]
    /// that this processor has.
    ///
    /// # Errors
    /// A forced variant that is unknown or not for this processor.
    pub fn new(shape: [usize; 2]) -> Result<Self> {
        match registry::forced(VARIANTS, "transpose_")? {
            Some(variant) => Self::with(variant, shape),
            None => registry::first_available(VARIANTS, |variant| Self::with(variant, shape)),
        }
    }

    /// As [`Transpose::new`], by one variant.
    ///
    /// # Errors
    /// A processor that lacks its instructions.
    pub fn with(variant: &'static Variant, shape: [usize; 2]) -> Result<Self> {
        let function = (variant.design.function)().ok_or_else(|| variant.unavailable())?;
        Ok(Self { shape, variant, function })
    }

    /// The variant that does it.
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// Writes the transpose of x, `[rows, columns]`, to y, by all threads where that pays.
    ///
    /// # Errors
    /// Slices of other lengths.
    pub fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let [rows, columns] = self.shape;
        let floats = rows.saturating_mul(columns);
        Error::check_length(self.variant.name, "x", floats, x.len())?;
        Error::check_length(self.variant.name, "y", floats, y.len())?;
        if floats == 0 {
            return Ok(());
        }
        // SAFETY (of both calls): `with` has found the instructions, and the lengths have been checked.
        let run = |range: Range<usize>, y: &mut [f32]| unsafe {
            (self.function)(x, self.shape, range, y);
        };
        let parts = task_count(floats, PER_MICROSECOND);
        if parts == 1 {
            run(0..columns, y);
            return Ok(());
        }
        let share = columns.div_ceil(parts).next_multiple_of(COLUMNS);
        let shares = y.chunks_mut(share * rows).enumerate().collect();
        parallel_for(shares, |(part, y): (usize, &mut [f32])| {
            let first = part * share;
            run(first..first + y.len() / rows, y);
        });
        Ok(())
    }
}

//! What the products of sparse weights have in common: Y = act(W X + b), W `[M, K]` in a storage format, X `[K, N]`,
//! Y `[M, N]`, packed for one of the variants that the format has.
//!
//! The operations are [`group_spmm`](super::group_spmm), [`upright_spmm`](super::upright_spmm) and
//! [`csr_spmm`](super::csr_spmm): each has a table of variants and implements [`SparseFormat`] for its weights.

#[cfg(test)]
pub(super) mod suite;
#[cfg(test)]
pub(super) mod suite_on_gpus;

use std::fmt;

use super::PackedProduct;
use super::layout::{Input, Output};
use super::registry;
use crate::error::{Error, Result};

/// Weights, bias and activation of one layer.
#[derive(Debug)]
pub struct SparseLayer<'a, F> {
    /// `[M, K]`.
    pub weights: &'a F,
    /// M entries; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

impl<F> Clone for SparseLayer<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for SparseLayer<'_, F> {}

/// A storage format that has kernels of its own.
pub trait SparseFormat: fmt::Debug + Sized + 'static {
    /// The operation, with which the names of its variants begin.
    const OPERATION: &'static str;
    /// Every variant, the preferred ones first.
    const VARIANTS: &'static [Variant<Self>];
    /// The fewest columns for which its variants differ, so that more than the preferred one is worth timing.
    const FEWEST_TIMED: usize = 0;

    /// Rows and columns, `[M, K]`.
    fn shape(&self) -> [usize; 2];
}

/// A layer packed for one variant.
pub trait Kernel: Send + Sync + fmt::Debug {
    /// Computes `y = act(W x + b)` for `n` columns. The layouts have been checked.
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>);
}

/// For how many columns a variant is.
#[derive(Clone, Copy, Debug)]
pub enum Columns {
    /// N = 1 alone.
    One,
    /// Any N. Made for several, and preferred where this is true of M and N.
    Many(fn(rows: usize, n: usize) -> bool),
    /// Any N.
    Any,
}

impl Columns {
    /// Whether a product of `rows` rows and `n` columns is best given to such a variant.
    pub fn suit(self, rows: usize, n: usize) -> bool {
        match self {
            Self::One => n == 1,
            Self::Many(preferred) => n != 1 && preferred(rows, n),
            Self::Any => true,
        }
    }
}

/// How a variant computes: for which N, and by what.
#[derive(Debug)]
pub struct Design<F: SparseFormat> {
    /// What it takes.
    pub columns: Columns,
    /// Packs a layer; `None` where the processor lacks the instructions.
    pub pack: fn(&SparseLayer<'_, F>) -> Option<Box<dyn Kernel>>,
}

impl<F: SparseFormat> Design<F> {
    /// Whether it takes one column alone.
    pub fn one_column(&self) -> bool {
        matches!(self.columns, Columns::One)
    }
}

/// A line of a format's table.
pub type Variant<F> = registry::Variant<Design<F>>;

/// The variant that a product of `rows` rows and `n` columns is packed for: the one that `SCALPEL_KERNEL` names, else
/// the first one of the format's that suits it and that this processor has.
///
/// # Errors
/// A forced variant that is unknown, or whose instructions this processor lacks.
pub fn preferred<F: SparseFormat>(rows: usize, n: usize) -> Result<&'static Variant<F>> {
    if let Some(variant) = forced::<F>()? {
        return if variant.target.available() { Ok(variant) } else { Err(variant.unavailable()) };
    }
    let suits =
        |variant: &&Variant<F>| variant.design.columns.suit(rows, n) && variant.target.available();
    F::VARIANTS.iter().find(suits).ok_or_else(|| {
        Error::argument(F::OPERATION, "a variant for these columns", format!("{n} columns"))
    })
}

/// The variants worth timing for `n` columns, the preferred one first: those of the best instruction set that this
/// processor has, or the one that `SCALPEL_KERNEL` names. Below [`SparseFormat::FEWEST_TIMED`], the preferred one alone.
///
/// # Errors
/// As [`preferred`].
pub fn candidates<F: SparseFormat>(n: usize) -> Result<Vec<&'static Variant<F>>> {
    let first = preferred::<F>(0, n)?;
    if forced::<F>()?.is_some() || n < F::FEWEST_TIMED {
        return Ok(vec![first]);
    }
    let others = F::VARIANTS.iter().filter(|variant| {
        let alike = variant.design.one_column() == first.design.one_column();
        alike && variant.target == first.target && variant.name != first.name
    });
    Ok(std::iter::once(first).chain(others).collect())
}

/// The variant of that name.
///
/// # Errors
/// There is none.
pub fn by_name<F: SparseFormat>(name: &str) -> Result<&'static Variant<F>> {
    registry::by_name(F::VARIANTS, name)
}

fn forced<F: SparseFormat>() -> Result<Option<&'static Variant<F>>> {
    registry::forced(F::VARIANTS, F::OPERATION)
}

/// A layer packed for one variant and ready to run.
#[derive(Debug)]
pub struct SparseProduct<F: SparseFormat> {
    shape: [usize; 2],
    variant: &'static Variant<F>,
    kernel: Box<dyn Kernel>,
}

impl<F: SparseFormat> SparseProduct<F> {
    /// Packs a layer for the variant that is [`preferred`] for `n` columns.
    ///
    /// # Errors
    /// A bias of another length than M; as [`preferred`].
    pub fn new(layer: &SparseLayer<'_, F>, n: usize) -> Result<Self> {
        Self::with(preferred(layer.weights.shape()[0], n)?, layer)
    }

    /// Packs a layer for one variant.
    ///
    /// # Errors
    /// A bias of another length than M; a processor that lacks the variant's instructions.
    pub fn with(variant: &'static Variant<F>, layer: &SparseLayer<'_, F>) -> Result<Self> {
        let shape = layer.weights.shape();
        if let Some(bias) = layer.bias {
            Error::check_length(F::OPERATION, "a bias", shape[0], bias.len())?;
        }
        let kernel = (variant.design.pack)(layer).ok_or_else(|| variant.unavailable())?;
        Ok(Self { shape, variant, kernel })
    }

    /// The variant that it was packed for.
    pub fn variant(&self) -> &'static Variant<F> {
        self.variant
    }

    /// Rows and columns of the weights, `[M, K]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Computes `y = act(W x + b)`: x is `[K, n]`, y is `[M, n]`. What y held is overwritten.
    ///
    /// # Errors
    /// Slices of other lengths; more than one column for a variant of one.
    pub fn run(&self, x: &[f32], n: usize, y: &mut [f32]) -> Result<()> {
        super::check_plain(self.variant.name, self.shape, n, x, y)?;
        self.run_at(Input::plain(x, n), n, Output::plain(y, n))
    }
}

impl<F: SparseFormat> PackedProduct for SparseProduct<F> {
    fn name(&self) -> &'static str {
        self.variant.name
    }

    fn run_at(&self, x: Input<'_>, n: usize, y: Output<'_>) -> Result<()> {
        let [rows, inner] = self.shape;
        let name = self.variant.name;
        if self.variant.design.one_column() && n != 1 {
            return Err(Error::argument(name, "1 column", n.to_string()));
        }
        x.check(name, inner, n)?;
        y.check(name, rows, n)?;
        self.kernel.run(&x, n, y);
        Ok(())
    }
}

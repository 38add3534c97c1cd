//! Group-sparse weights times activations: Y = act(W X + b).
//!
//! W is `[M, K]` in aligned groups of `width` columns ([`GroupSparse`]); X is `[K, N]`, Y is `[M, N]`,
//! both row-major, their rows contiguous or anywhere ([`Input`], [`Output`]); b has M entries and act is
//! the identity or ReLU. All f32. Weights are packed once, in the order that a variant wants.
//!
//! **One column (N = 1).** Rows of about equal length, eight at a time: each group is `width` products
//! with neighbouring activations, found by one index. Bound by loads, of which a group needs three
//! where CSR needs three per weight; where the weights leave the caches, by memory.
//!
//! **Many columns.** Row by row would load the activations again for each row. But all rows that own
//! a *group column* (the same group of K) read the same `width` rows of X. So a tile of those rows is
//! held in registers, and each row that owns the group is a rank-`width` update of its part of Y: its
//! weights are broadcast past the tile. The work per group does not depend on the density. Y's tile
//! lies in a scratch of its own, contiguous, so that no stride maps its rows onto the same cache sets, and
//! from the start of a cache line on, so that no vector is in two.
//!
//! To add a variant: a file for its instruction set, a line in [`VARIANTS`]; the suite and the bench
//! run it from there.

mod columns;
pub mod gpu;
mod micro_kernel;
mod pack;
mod partition;
mod portable;
pub mod reference;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use super::PackedProduct;
use super::layout::{Input, Output};
use super::registry::{self, Isa};
use crate::device::cpu;
use crate::error::{Error, Result};
use crate::sparse::GroupSparse;

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct GroupLayer<'a> {
    /// `[M, K]`.
    pub weights: &'a GroupSparse,
    /// M entries; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

/// A layer packed for one variant.
pub trait Kernel: Send + Sync + std::fmt::Debug {
    /// Computes `y = act(W x + b)` for `n` columns. The layouts have been checked.
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>);
}

/// How many columns a variant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// N = 1 alone.
    One,
    /// Any N; preferred unless N and M both exceed these, and the second-level cache is smaller.
    Any(Option<Limits>),
}

/// Where a variant is the better one: up to this N or this M, or with such a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// N.
    pub columns: usize,
    /// M.
    pub rows: usize,
    /// Bytes of a core's second-level cache from which it is the better one for any N and M.
    pub cache: usize,
}

impl Columns {
    /// Whether a product of `n` columns and `rows` rows is best given to such a variant.
    pub fn suit(self, rows: usize, n: usize) -> bool {
        match self {
            Self::One => n == 1,
            Self::Any(None) => n != 1,
            Self::Any(Some(limits)) => {
                let small = n <= limits.columns || rows <= limits.rows;
                n != 1 && (small || cpu::caches().l2 >= limits.cache)
            }
        }
    }
}

/// The wide tiles of AVX-512 are the better ones, until the part of a large X above a tile no longer stays in a cache
/// and is read once for each of several blocks (measured: 32x800 to 4096x9216 on AMD, with 1 MiB; 300x784 to
/// 4096x4096 at N = 512 on Intel, with 2 MiB).
pub(super) const WIDE: Limits = Limits { columns: 256, rows: 256, cache: 2 << 20 };

/// How a variant computes: for which N, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// What it takes.
    pub columns: Columns,
    /// Packs a layer; `None` where the processor lacks the instructions.
    pub pack: fn(&GroupLayer<'_>) -> Option<Box<dyn Kernel>>,
}

/// `group_spmm_f32_<instruction set>_n<columns of a tile>`.
pub type Variant = registry::Variant<Design>;

const fn variant(
    name: &'static str,
    isa: Isa,
    columns: Columns,
    pack: fn(&GroupLayer<'_>) -> Option<Box<dyn Kernel>>,
) -> Variant {
    Variant::new(name, isa, Design { columns, pack })
}

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    variant(
        "group_spmm_f32_avx512_n48",
        Isa::Avx512,
        Columns::Any(Some(WIDE)),
        x86_avx512::pack_columns,
    ),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx512_n16", Isa::Avx512, Columns::Any(None), x86_avx512::pack_narrow),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx512_n1", Isa::Avx512, Columns::One, x86_avx512::pack_rows),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx2_n24", Isa::Avx2, Columns::Any(None), x86_avx2::pack_columns),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx2_n16", Isa::Avx2, Columns::Any(None), x86_avx2::pack_narrow),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx2_n1", Isa::Avx2, Columns::One, x86_avx2::pack_rows),
    variant(
        "group_spmm_f32_portable_n8",
        Isa::Portable,
        Columns::Any(None),
        portable::pack_columns,
    ),
    variant("group_spmm_f32_portable_n1", Isa::Portable, Columns::One, portable::pack_rows),
];

/// A layer packed and ready to run.
#[derive(Debug)]
pub struct GroupSpmm {
    shape: [usize; 2],
    variant: &'static Variant,
    kernel: Box<dyn Kernel>,
}

impl GroupSpmm {
    /// Packs a layer for `n` columns: for the variant that `SCALPEL_KERNEL` names, else for the first
    /// one of [`VARIANTS`] that fits.
    ///
    /// # Errors
    /// A bias of another length than M; a forced variant that is unknown, or that this processor or
    /// `n` rules out.
    pub fn new(layer: &GroupLayer<'_>, n: usize) -> Result<Self> {
        if let Some(variant) = registry::forced(VARIANTS, "group_spmm_")? {
            return Self::with(variant, layer);
        }
        let rows = layer.weights.shape()[0];
        let fits = VARIANTS.iter().filter(|variant| variant.design.columns.suit(rows, n));
        registry::first_available(fits, |variant| Self::with(variant, layer))
    }

    /// Packs a layer for one variant.
    ///
    /// # Errors
    /// A bias of another length than M; a processor that lacks the variant's instructions.
    pub fn with(variant: &'static Variant, layer: &GroupLayer<'_>) -> Result<Self> {
        let shape = layer.weights.shape();
        super::bias("group_spmm", layer.bias, shape[0])?;
        let kernel = (variant.design.pack)(layer).ok_or_else(|| variant.unavailable())?;
        Ok(Self { shape, variant, kernel })
    }

    /// The variant that it was packed for.
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// Rows and columns of the weights.
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

impl PackedProduct for GroupSpmm {
    fn name(&self) -> &'static str {
        self.variant.name
    }

    fn run_at(&self, x: Input<'_>, n: usize, y: Output<'_>) -> Result<()> {
        let [rows, inner] = self.shape;
        let name = self.variant.name;
        if self.variant.design.columns == Columns::One && n != 1 {
            return Err(Error::argument(name, "1 column", n.to_string()));
        }
        x.check(name, inner, n)?;
        y.check(name, rows, n)?;
        self.kernel.run(&x, n, y);
        Ok(())
    }
}

/// The variants worth timing for `n` columns: the one that `SCALPEL_KERNEL` names, else all of the best
/// instruction set that this processor has.
///
/// # Errors
/// A forced variant that is unknown, or that this processor or `n` rules out.
pub fn candidates(n: usize) -> Result<Vec<&'static Variant>> {
    let none = GroupSparse::from_dense(ndarray::Array2::zeros((0, 0)).view(), 8)?;
    let first =
        GroupSpmm::new(&GroupLayer { weights: &none, bias: None, relu: false }, n)?.variant();
    if registry::forced(VARIANTS, "group_spmm_")?.is_some() {
        return Ok(vec![first]);
    }
    let fits = |variant: &&Variant| (variant.design.columns == Columns::One) == (n == 1);
    Ok(VARIANTS.iter().filter(fits).filter(|variant| variant.target == first.target).collect())
}

/// The variant of that name.
///
/// # Errors
/// There is none.
pub fn by_name(name: &str) -> Result<&'static Variant> {
    registry::by_name(VARIANTS, name)
}

//! Weights in upright groups times activations: Y = act(W X + b).
//!
//! W is `[M, K]` in groups of `height` rows and one column ([`UprightSparse`]); X is `[K, N]`, Y is `[M, N]`, their
//! rows contiguous or anywhere ([`Input`], [`Output`]); b has M entries and act is the identity or ReLU. All f32.
//! Weights are packed once, in the order that a variant wants.
//!
//! **Many columns.** What `height` rows of Y need of X is the same: the rows of X whose groups their strip stores.
//! So a tile of eight rows of Y (or nine) and up to three vectors of columns stays in registers from its bias to its end,
//! as in a dense product, while the strip's groups pass: of each, the vectors of one row of X are loaded once, and
//! its eight weights, from one stream, are broadcast. Per group that are 3 loads, 8 broadcasts and 24 fused
//! products, whatever the density; Y is written once. (A group of one row and eight columns
//! ([`super::group_spmm`]) loads and stores the sums of its row for every group.)
//!
//! **One column (N = 1).** A group is one vector of sums, which takes the group's weights times one activation.
//!
//! Zeros of a stored group are multiplied; X is read only where a group is stored, so that a NaN reaches the rows
//! whose groups are there, and no others.

mod columns;
mod micro_kernel;
mod pack;
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
use crate::sparse::UprightSparse;

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct UprightLayer<'a> {
    /// `[M, K]`.
    pub weights: &'a UprightSparse,
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

/// Packs a layer; `None` where the processor lacks the instructions.
type Pack = fn(&UprightLayer<'_>) -> Option<Box<dyn Kernel>>;

/// For how many columns a variant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// N = 1 alone.
    One,
    /// Any N. X is read where it lies.
    Any,
    /// Any N. Of an X that is larger than a cache, the part above a tile is copied into a panel, if it is read often
    /// enough.
    Panels,
}

impl Columns {
    /// Whether such a variant is preferred for `n` columns. Copies of a large X pay, if at all, where a second-level
    /// cache holds a large panel: with one of 1 MiB (AMD EPYC, family 25, model 17), reading X where it lies is the
    /// faster way, up to 1.45 times at density .08, N = 512; the two were not compared on a processor with 2 MiB.
    pub fn suit(self, n: usize) -> bool {
        let copies = cpu::caches().l2 >= 2 << 20;
        match self {
            Self::One => n == 1,
            Self::Any => n != 1 && !copies,
            Self::Panels => n != 1 && copies,
        }
    }
}

/// The fewest columns for which variants differ in whether X is copied: two of the widest tiles.
const FEWEST_COPIED: usize = 96;

/// How a variant computes: for which N, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// What it takes.
    pub columns: Columns,
    /// Packs a layer; `None` where the processor lacks the instructions.
    pub pack: Pack,
}

impl Design {
    /// Whether the variant takes one column alone.
    pub fn one_column(&self) -> bool {
        self.columns == Columns::One
    }
}

/// `upright_spmm_f32_<instruction set>`, `_n1` for one column, `_panels` where a large X is copied.
pub type Variant = registry::Variant<Design>;

const fn variant(name: &'static str, isa: Isa, columns: Columns, pack: Pack) -> Variant {
    Variant::new(name, isa, Design { columns, pack })
}

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx512", Isa::Avx512, Columns::Any, x86_avx512::pack_columns),
    #[cfg(target_arch = "x86_64")]
    variant(
        "upright_spmm_f32_avx512_panels",
        Isa::Avx512,
        Columns::Panels,
        x86_avx512::pack_panels,
    ),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx512_n1", Isa::Avx512, Columns::One, x86_avx512::pack_rows),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx2", Isa::Avx2, Columns::Any, x86_avx2::pack_columns),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx2_panels", Isa::Avx2, Columns::Panels, x86_avx2::pack_panels),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx2_n1", Isa::Avx2, Columns::One, x86_avx2::pack_rows),
    variant("upright_spmm_f32_portable", Isa::Portable, Columns::Any, portable::pack_columns),
    variant(
        "upright_spmm_f32_portable_panels",
        Isa::Portable,
        Columns::Panels,
        portable::pack_panels,
    ),
    variant("upright_spmm_f32_portable_n1", Isa::Portable, Columns::One, portable::pack_rows),
];

/// A layer packed and ready to run.
#[derive(Debug)]
pub struct UprightSpmm {
    shape: [usize; 2],
    variant: &'static Variant,
    kernel: Box<dyn Kernel>,
}

impl UprightSpmm {
    /// Packs a layer for `n` columns: for the variant that `SCALPEL_KERNEL` names, else for the first one of
    /// [`VARIANTS`] that fits.
    ///
    /// # Errors
    /// A bias of another length than M; a forced variant that is unknown, or that this processor rules out.
    pub fn new(layer: &UprightLayer<'_>, n: usize) -> Result<Self> {
        if let Some(variant) = registry::forced(VARIANTS, "upright_spmm_")? {
            return Self::with(variant, layer);
        }
        let fits = VARIANTS.iter().filter(|variant| variant.design.columns.suit(n));
        registry::first_available(fits, |variant| Self::with(variant, layer))
    }

    /// Packs a layer for one variant.
    ///
    /// # Errors
    /// A bias of another length than M; a processor that lacks the variant's instructions.
    pub fn with(variant: &'static Variant, layer: &UprightLayer<'_>) -> Result<Self> {
        let shape = layer.weights.shape();
        super::bias("upright_spmm", layer.bias, shape[0])?;
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

impl PackedProduct for UprightSpmm {
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

/// The variants worth timing for `n` columns: the one that `SCALPEL_KERNEL` names, else those of the best
/// instruction set that this processor has, the preferred one first.
///
/// # Errors
/// A forced variant that is unknown, or that this processor rules out.
pub fn candidates(n: usize) -> Result<Vec<&'static Variant>> {
    let none = UprightSparse::from_dense(ndarray::Array2::zeros((0, 0)).view(), 8)?;
    let layer = UprightLayer { weights: &none, bias: None, relu: false };
    let first = UprightSpmm::new(&layer, n)?.variant();
    let forced = registry::forced(VARIANTS, "upright_spmm_")?.is_some();
    let others = VARIANTS.iter().filter(|variant| {
        let differs = variant.name != first.name && !variant.design.one_column();
        variant.target == first.target && differs && n >= FEWEST_COPIED && !forced
    });
    Ok(std::iter::once(first).chain(others).collect())
}

/// The height of the strips in which a dense matrix of so many rows is multiplied the fastest: eight or nine. A strip
/// takes as long as its rows, but of few rows as long as its loads of X.
pub(crate) fn dense_height(rows: usize) -> usize {
    let cost = |height: usize| {
        let rest = rows % height;
        rows - rest + if rest == 0 { 0 } else { rest.max(4) }
    };
    if cost(9) < cost(8) { 9 } else { 8 }
}

/// What there is to say of upright groups on a GPU.
pub(crate) fn no_gpu() -> Error {
    Error::Unavailable {
        what: "a kernel for upright groups on a GPU".into(),
        reason: "there are kernels for CPUs alone".into(),
        remedy: "run the network on the CPU, or by another policy".into(),
    }
}

/// The variant of that name.
///
/// # Errors
/// There is none.
pub fn by_name(name: &str) -> Result<&'static Variant> {
    registry::by_name(VARIANTS, name)
}

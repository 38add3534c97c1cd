//! Weights in upright groups times activations: Y = act(W X + b).
//!
//! W is `[M, K]` in groups of `height` rows and one column ([`UprightSparse`]); X is `[K, N]`, Y is `[M, N]`, their
//! rows contiguous or anywhere ([`layout`](super::layout)); b has M entries and act is the identity or ReLU. All f32.
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
pub mod gpu;
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

use super::registry::Isa;
use super::sparse_product::{
    self, Columns, Design, Kernel, SparseFormat, SparseLayer, SparseProduct,
};
use crate::device::cpu;
use crate::sparse::UprightSparse;

/// Weights in upright groups, bias and activation of one layer.
pub type UprightLayer<'a> = SparseLayer<'a, UprightSparse>;

/// A layer packed and ready to run.
pub type UprightSpmm = SparseProduct<UprightSparse>;

/// `upright_spmm_f32_<instruction set>`, `_n1` for one column, `_panels` where of an X that is larger than a cache, the
/// part above a tile is copied into a panel, if it is read often enough.
pub type Variant = sparse_product::Variant<UprightSparse>;

/// Whether copies of a large X are preferred. They pay, if at all, where a second-level cache holds a large panel: with
/// one of 1 MiB (AMD EPYC, family 25, model 17), reading X where it lies is the faster way, up to 1.45 times at density
/// .08, N = 512; the two were not compared on a processor with 2 MiB.
fn prefers_panels() -> bool {
    cpu::caches().l2 >= 2 << 20
}

/// Any N. X is read where it lies.
const IN_PLACE: Columns = Columns::Many(|_, _| !prefers_panels());

/// Any N, with copies of X.
const PANELS: Columns = Columns::Many(|_, _| prefers_panels());

const fn variant(
    name: &'static str,
    isa: Isa,
    columns: Columns,
    pack: fn(&UprightLayer<'_>) -> Option<Box<dyn Kernel>>,
) -> Variant {
    Variant::new(name, isa, Design { columns, pack })
}

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx512", Isa::Avx512, IN_PLACE, x86_avx512::pack_columns),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx512_panels", Isa::Avx512, PANELS, x86_avx512::pack_panels),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx512_n1", Isa::Avx512, Columns::One, x86_avx512::pack_rows),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx2", Isa::Avx2, IN_PLACE, x86_avx2::pack_columns),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx2_panels", Isa::Avx2, PANELS, x86_avx2::pack_panels),
    #[cfg(target_arch = "x86_64")]
    variant("upright_spmm_f32_avx2_n1", Isa::Avx2, Columns::One, x86_avx2::pack_rows),
    variant("upright_spmm_f32_portable", Isa::Portable, IN_PLACE, portable::pack_columns),
    variant("upright_spmm_f32_portable_panels", Isa::Portable, PANELS, portable::pack_panels),
    variant("upright_spmm_f32_portable_n1", Isa::Portable, Columns::One, portable::pack_rows),
];

impl SparseFormat for UprightSparse {
    const OPERATION: &'static str = "upright_spmm";
    const VARIANTS: &'static [Variant] = VARIANTS;
    /// Two of the widest tiles: of fewer columns, none copies X.
    const FEWEST_TIMED: usize = 96;

    fn shape(&self) -> [usize; 2] {
        self.shape()
    }
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

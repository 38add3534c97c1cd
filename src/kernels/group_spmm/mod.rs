//! Group-sparse weights times activations: Y = act(W X + b).
//!
//! W is `[M, K]` in aligned groups of `width` columns ([`GroupSparse`]); X is `[K, N]`, Y is `[M, N]`,
//! both row-major, their rows contiguous or anywhere ([`layout`](super::layout)); b has M entries and act is
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

use super::registry::Isa;
use super::sparse_product::{
    self, Columns, Design, Kernel, SparseFormat, SparseLayer, SparseProduct,
};
use crate::device::cpu;
use crate::sparse::GroupSparse;

/// Weights in groups of one row, bias and activation of one layer.
pub type GroupLayer<'a> = SparseLayer<'a, GroupSparse>;

/// A layer packed and ready to run.
pub type GroupSpmm = SparseProduct<GroupSparse>;

/// `group_spmm_f32_<instruction set>_n<columns of a tile>`.
pub type Variant = sparse_product::Variant<GroupSparse>;

/// The largest N, or M, of which the wide tiles of AVX-512 are the better ones whatever the caches hold.
pub(super) const WIDE: usize = 256;

/// Where the wide tiles of AVX-512 are the better ones: until the part of a large X above a tile no longer stays in a
/// cache and is read once for each of several blocks (measured: 32x800 to 4096x9216 on AMD, with 1 MiB; 300x784 to
/// 4096x4096 at N = 512 on Intel, with 2 MiB).
fn prefers_wide_tiles(rows: usize, n: usize) -> bool {
    n <= WIDE || rows <= WIDE || cpu::caches().l2 >= 2 << 20
}

const MANY: Columns = Columns::Many(|_, _| true);

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
        Columns::Many(prefers_wide_tiles),
        x86_avx512::pack_columns,
    ),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx512_n16", Isa::Avx512, MANY, x86_avx512::pack_narrow),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx512_n1", Isa::Avx512, Columns::One, x86_avx512::pack_rows),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx2_n24", Isa::Avx2, MANY, x86_avx2::pack_columns),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx2_n16", Isa::Avx2, MANY, x86_avx2::pack_narrow),
    #[cfg(target_arch = "x86_64")]
    variant("group_spmm_f32_avx2_n1", Isa::Avx2, Columns::One, x86_avx2::pack_rows),
    variant("group_spmm_f32_portable_n8", Isa::Portable, MANY, portable::pack_columns),
    variant("group_spmm_f32_portable_n1", Isa::Portable, Columns::One, portable::pack_rows),
];

impl SparseFormat for GroupSparse {
    const OPERATION: &'static str = "group_spmm";
    const VARIANTS: &'static [Variant] = VARIANTS;

    fn shape(&self) -> [usize; 2] {
        self.shape()
    }
}

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
mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use self::rows::{RowsFunction, RowsKernel};
use super::registry::Isa;
use super::sparse_product::{
    self, Columns, Design, Kernel, SparseFormat, SparseLayer, SparseProduct,
};
use crate::sparse::Csr;

/// Weights in compressed rows, bias and activation of one layer.
pub type CsrLayer<'a> = SparseLayer<'a, Csr>;

/// A layer packed and ready to run.
pub type CsrSpmm = SparseProduct<Csr>;

/// `csr_spmm_f32_<instruction set>`.
pub type Variant = sparse_product::Variant<Csr>;

const fn variant(
    name: &'static str,
    isa: Isa,
    pack: fn(&CsrLayer<'_>) -> Option<Box<dyn Kernel>>,
) -> Variant {
    Variant::new(name, isa, Design { columns: Columns::Any, pack })
}

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    variant("csr_spmm_f32_avx512", Isa::Avx512, x86_avx512::pack),
    #[cfg(target_arch = "x86_64")]
    variant("csr_spmm_f32_avx2", Isa::Avx2, x86_avx2::pack),
    variant("csr_spmm_f32_portable", Isa::Portable, portable::pack),
];

impl SparseFormat for Csr {
    const OPERATION: &'static str = "csr_spmm";
    const VARIANTS: &'static [Variant] = VARIANTS;

    fn shape(&self) -> [usize; 2] {
        self.shape()
    }
}

//! A dense layer of which only some nodes are kept: Y = act(W X + b) over kept inputs and outputs.
//!
//! W is `[M, K]` dense, X is `[K, n]`, Y is `[M, n]`, all f32. The weights between kept nodes are
//! gathered once, at packing, into a smaller dense matrix: what node pruning leaves. X and Y may hold all
//! nodes, in which case the kernel reads and writes the kept ones where they lie and never touches the
//! others, or only the kept ones, where the neighbouring layer is compacted too.
//!
//! **One column (n = 1):** eight rows at a time, their weights interleaved in one stream. Bound by the
//! memory or cache that the weights come from.
//!
//! **Many columns:** `group_spmm` with every group stored is a dense kernel at the rate of the best
//! libraries, and finds rows anywhere. Without AVX-512, a product with a large n goes to a library, where
//! there is one ([`DenseLibrary`]).

mod columns;
pub mod gpu;
mod library;
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

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use self::columns::ColumnsKernel;
use self::library::LibraryKernel;
use self::rows::{RowsFunction, RowsKernel};
use super::layout::RowTable;
use super::library_gemm::{self, DenseLibrary, LibraryGemm};
use super::registry::{self, Isa};
use super::{group_spmm, sparse_product};
use crate::error::{Error, Result};
use crate::sparse::GroupSparse;

/// The nodes on one side of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Nodes<'a> {
    /// The kept ones, ascending.
    pub kept: &'a [usize],
    /// Whether the activations hold the kept nodes alone, or all.
    pub compacted: bool,
}

impl Nodes<'_> {
    /// Refuses nodes that are not there or that do not ascend.
    fn check(&self, side: &str, total: usize) -> Result<()> {
        let ascend = self.kept.windows(2).all(|pair| pair[0] < pair[1]);
        match self.kept.last() {
            Some(&last) if last >= total || !ascend => {
                let expected = format!("ascending {side} below {total}");
                Err(Error::argument("masked_dense", expected, format!("{:?}", self.kept)))
            }
            _ => Ok(()),
        }
    }

    /// Rows of the activations, of `total` nodes.
    fn rows(&self, total: usize) -> usize {
        if self.compacted { self.kept.len() } else { total }
    }

    /// Where the kept nodes' rows of `n` start.
    fn table(&self, n: usize) -> RowTable {
        let places = self.kept.iter().enumerate();
        RowTable::new(
            places.map(|(index, &node)| if self.compacted { index } else { node } * n).collect(),
        )
    }
}

/// Weights, masks, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct MaskedLayer<'a> {
    /// `[M, K]`, of all nodes.
    pub weights: ArrayView2<'a, f32>,
    /// The K inputs.
    pub inputs: Nodes<'a>,
    /// The M outputs.
    pub outputs: Nodes<'a>,
    /// M entries; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

impl MaskedLayer<'_> {
    /// Weights `[kept outputs, kept inputs]` and bias of the kept nodes.
    fn gather(&self) -> Result<(Array2<f32>, Vec<f32>)> {
        let (m, k) = self.weights.dim();
        self.inputs.check("inputs", k)?;
        self.outputs.check("outputs", m)?;
        let bias = super::bias("masked_dense", self.bias, m)?;
        let (inputs, outputs) = (self.inputs.kept, self.outputs.kept);
        let weights = Array2::from_shape_fn((outputs.len(), inputs.len()), |(row, column)| {
            self.weights[[outputs[row], inputs[column]]]
        });
        Ok((weights, outputs.iter().map(|&node| bias[node]).collect()))
    }
}

/// What a variant computes with.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// One column, by a function of our own; `None` where the processor lacks the instructions.
    Rows(fn() -> Option<RowsFunction>),
    /// Any columns, by the variant of `group_spmm` of that name.
    Columns(&'static str),
    /// Any columns, by the library that is given at packing.
    Library,
}

/// `masked_dense_f32_<instruction set>_n<columns of a tile>`.
pub type Variant = registry::Variant<Backend>;

/// The variant of `group_spmm` of that name.
fn columns_variant(name: &str) -> Result<&'static group_spmm::Variant> {
    sparse_product::by_name(name)
}

impl Variant {
    /// Whether a product of `n` columns and `rows` kept rows is best given to it.
    pub fn suits(&self, rows: usize, n: usize) -> bool {
        match self.design {
            Backend::Rows(_) => n == 1,
            Backend::Columns(name) => {
                columns_variant(name).is_ok_and(|variant| variant.design.columns.suit(rows, n))
            }
            Backend::Library => n >= LIBRARY_FROM,
        }
    }

    /// Whether it takes one column alone.
    pub fn one_column(&self) -> bool {
        matches!(self.design, Backend::Rows(_))
    }
}

/// n from which a library's product, with gathering and scattering, is faster than ours without AVX-512:
/// the largest layers decide. With it, ours stays ahead of MKL to n = 2048 at least (measured by
/// `cargo bench --bench masked_dense`), so that the library comes after those variants.
const LIBRARY_FROM: usize = 512;

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant::new("masked_dense_f32_avx512_n1", Isa::Avx512, Backend::Rows(x86_avx512::function)),
    #[cfg(target_arch = "x86_64")]
    Variant::new(
        "masked_dense_f32_avx512_n48",
        Isa::Avx512,
        Backend::Columns("group_spmm_f32_avx512_n48"),
    ),
    #[cfg(target_arch = "x86_64")]
    Variant::new(
        "masked_dense_f32_avx512_n16",
        Isa::Avx512,
        Backend::Columns("group_spmm_f32_avx512_n16"),
    ),
    Variant::new(LibraryGemm::NAME, Isa::Portable, Backend::Library),
    #[cfg(target_arch = "x86_64")]
    Variant::new("masked_dense_f32_avx2_n1", Isa::Avx2, Backend::Rows(x86_avx2::function)),
    #[cfg(target_arch = "x86_64")]
    Variant::new(
        "masked_dense_f32_avx2_n24",
        Isa::Avx2,
        Backend::Columns("group_spmm_f32_avx2_n24"),
    ),
    #[cfg(target_arch = "x86_64")]
    Variant::new(
        "masked_dense_f32_avx2_n16",
        Isa::Avx2,
        Backend::Columns("group_spmm_f32_avx2_n16"),
    ),
    Variant::new("masked_dense_f32_portable_n1", Isa::Portable, Backend::Rows(portable::function)),
    Variant::new(
        "masked_dense_f32_portable_n8",
        Isa::Portable,
        Backend::Columns("group_spmm_f32_portable_n8"),
    ),
];

/// The variants worth timing for `n` columns: the one that `SCALPEL_KERNEL` names, else all of the best
/// instruction set that this processor has, and the library's where there is one.
///
/// # Errors
/// A forced variant that is unknown, or that this processor or `n` rules out.
pub fn candidates(n: usize, library: bool) -> Result<Vec<&'static Variant>> {
    if let Some(variant) = registry::forced(VARIANTS, "masked_dense_")? {
        return Ok(vec![variant]);
    }
    let best = sparse_product::candidates::<GroupSparse>(n)?.first().map(|variant| variant.target);
    let fits = |variant: &&Variant| match variant.design {
        Backend::Library => library,
        Backend::Rows(_) => n == 1 && Some(variant.target) == best,
        Backend::Columns(_) => n != 1 && Some(variant.target) == best,
    };
    Ok(VARIANTS.iter().filter(fits).collect())
}

/// The gathered weights of one layer, and where its operands' rows lie.
#[derive(Debug)]
struct Gathered {
    /// `[kept outputs, kept inputs]`.
    weights: Array2<f32>,
    bias: Vec<f32>,
    relu: bool,
    n: usize,
    inputs: RowTable,
    outputs: RowTable,
}

/// A layer packed for a backend.
trait Kernel: Send + Sync + std::fmt::Debug {
    /// Computes the kept rows of y. The lengths have been checked.
    fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()>;
}

/// A layer packed for `n` columns and ready to run.
#[derive(Debug)]
pub struct MaskedDense {
    rows: usize,
    inner: usize,
    n: usize,
    variant: &'static Variant,
    /// The variant, and the library that computes it where there is one.
    label: String,
    kernel: Box<dyn Kernel>,
}

impl MaskedDense {
    /// Packs a layer for `n` columns: for the variant that `SCALPEL_KERNEL` names, else for the first
    /// of [`VARIANTS`] that suits n and that this processor has. `library` takes what it is better at.
    ///
    /// # Errors
    /// Nodes that are not there or do not ascend, a bias of another length than M; a forced variant
    /// that is unknown, or that this processor or `n` rules out.
    pub fn new(
        layer: &MaskedLayer<'_>,
        n: usize,
        library: Option<&Arc<dyn DenseLibrary>>,
    ) -> Result<Self> {
        if let Some(variant) = registry::forced(VARIANTS, "masked_dense_")? {
            return Self::with(variant, layer, n, library);
        }
        let fits = VARIANTS.iter().filter(|variant| variant.suits(layer.outputs.kept.len(), n));
        registry::first_available(fits, |variant| Self::with(variant, layer, n, library))
    }

    /// Packs a layer for one variant and `n` columns.
    ///
    /// # Errors
    /// As [`MaskedDense::new`]; a processor that lacks the variant's instructions, no library for the
    /// variant that wants one.
    pub fn with(
        variant: &'static Variant,
        layer: &MaskedLayer<'_>,
        n: usize,
        library: Option<&Arc<dyn DenseLibrary>>,
    ) -> Result<Self> {
        let (m, k) = layer.weights.dim();
        let (weights, bias) = layer.gather()?;
        if variant.one_column() && n != 1 {
            return Err(Error::argument(variant.name, "1 column", n.to_string()));
        }
        let gathered = Gathered {
            weights,
            bias,
            relu: layer.relu,
            n,
            inputs: layer.inputs.table(n),
            outputs: layer.outputs.table(n),
        };
        let missing = || variant.unavailable();
        let no_library = || Error::Unavailable {
            what: format!("the kernel {}", variant.name),
            reason: "no library was given".into(),
            remedy: format!("choose another with {}, or none", registry::VARIABLE),
        };
        let mut label = variant.name.to_owned();
        let kernel: Box<dyn Kernel> = match variant.design {
            Backend::Rows(function) => {
                let function = function().ok_or_else(missing)?;
                // SAFETY: the processor has what the function was compiled for, as it says itself.
                Box::new(unsafe { RowsKernel::new(gathered, function) })
            }
            Backend::Columns(name) => {
                Box::new(ColumnsKernel::new(gathered, columns_variant(name)?)?)
            }
            Backend::Library => {
                let library = library.ok_or_else(no_library)?;
                label = library_gemm::label(&**library);
                Box::new(LibraryKernel::new(gathered, Arc::clone(library))?)
            }
        };
        let (rows, inner) = (layer.outputs.rows(m), layer.inputs.rows(k));
        Ok(Self { rows, inner, n, variant, label, kernel })
    }

    /// The variant that it was packed for.
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// The variant, and the library that computes it where there is one.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Computes the kept rows of `y = act(W x + b)`: x is `[inputs, n]`, y is `[outputs, n]`, of all
    /// nodes or of the kept ones, as the layer says. Rows of other nodes are neither read nor written.
    ///
    /// # Errors
    /// Slices of other lengths; what a library refuses.
    pub fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        super::check_plain(self.variant.name, [self.rows, self.inner], self.n, x, y)?;
        self.kernel.run(x, y)
    }
}

//! What may run a layer: the kernels and libraries among which the fastest is chosen.

use std::sync::Arc;

use crate::engine::autotune::TuningCandidate;
use crate::engine::layer_weights::LayerWeights;
use crate::engine::libraries::DenseLibraries;
use crate::engine::on_cpu::batch::DenseProduct;
use crate::engine::plan::Product;
use crate::error::Result;
use crate::kernels::SparseVariant;
use crate::kernels::convolution::{self, ConvLibrary, Convolution};
use crate::kernels::library_gemm::{DenseLibrary, label};
use crate::kernels::masked_dense::{self, MaskedDense, Nodes};
use crate::kernels::sparse_product::{self, SparseFormat, SparseLayer, SparseProduct, Variant};
use crate::kernels::{registry, upright_spmm};
use crate::sparse::{Format, Pattern, UprightSparse};

/// What may compute a convolution.
#[derive(Clone, Copy)]
pub(super) enum ConvBackend<'a> {
    Variant(SparseVariant),
    Csr,
    Library(&'a Arc<dyn DenseLibrary>),
    /// A library's own convolution.
    ConvLibrary(&'a Arc<dyn ConvLibrary>),
}

impl ConvBackend<'_> {
    pub fn name(self) -> String {
        match self {
            Self::Variant(variant) => variant.name().to_owned(),
            Self::Csr => "csr".to_owned(),
            Self::Library(library) => label(&**library),
            Self::ConvLibrary(library) => convolution::library::label(&library.name()),
        }
    }

    /// Packs a layer for it.
    pub fn pack(self, layer: &convolution::ConvLayer<'_>) -> Result<Convolution> {
        match self {
            Self::Variant(variant) => Convolution::with(variant, layer),
            Self::Csr => Convolution::new(layer),
            Self::Library(library) => Convolution::with_library(library, layer),
            Self::ConvLibrary(library) => Convolution::with_conv_library(library, layer),
        }
    }
}

/// What may compute a convolution of `columns` columns with weights in that format.
pub(super) fn conv_backends(
    format: Format,
    columns: usize,
    libraries: DenseLibraries<'_>,
) -> Result<Vec<ConvBackend<'_>>> {
    let patterns: &[Pattern] = match format {
        Format::Groups(_) => &[Pattern::Groups],
        Format::Upright(_) => &[Pattern::Upright],
        Format::Dense => &[Pattern::Groups, Pattern::Upright],
        Format::Csr => return Ok(vec![ConvBackend::Csr]),
    };
    let mut backends = Vec::new();
    for &pattern in patterns {
        let variants = SparseVariant::candidates(pattern, columns)?;
        backends.extend(variants.into_iter().map(ConvBackend::Variant));
    }
    if format == Format::Dense {
        backends.extend(libraries.products.iter().map(ConvBackend::Library));
        backends.extend(libraries.convolutions.iter().map(ConvBackend::ConvLibrary));
    }
    retain_forced(&mut backends, forced().as_deref(), |backend| backend.name());
    Ok(backends)
}

/// The kernel that [`registry::VARIABLE`] names.
fn forced() -> Option<String> {
    std::env::var(registry::VARIABLE).ok()
}

/// Of candidates, those of the kernel that is forced, where there are some: other operations than its own may compute
/// the same layer.
fn retain_forced<C>(candidates: &mut Vec<C>, forced: Option<&str>, name: impl Fn(&C) -> String) {
    // A library's name comes after the kernel's.
    let is_forced = |candidate: &C| name(candidate).split(" (").next() == forced;
    if candidates.iter().any(is_forced) {
        candidates.retain(is_forced);
    }
}

/// The ways to run a dense layer whose weights are stored like this.
pub(super) fn dense_candidates<'c>(
    stored: &'c LayerWeights<'_>,
    product: &'c Product<'_>,
    batch: usize,
    libraries: &'c [Arc<dyn DenseLibrary>],
) -> Result<Vec<TuningCandidate<'c, DenseProduct>>> {
    let (bias, relu) = (Some(product.bias), product.relu);
    let mut candidates = match stored {
        LayerWeights::Dense(_) => unpruned_candidates(product, batch, libraries)?,
        LayerWeights::Groups(all) => sparse_candidates(&all[0], batch, bias, relu)?,
        LayerWeights::Upright(all) => sparse_candidates(&all[0], batch, bias, relu)?,
        LayerWeights::Csr(all) => sparse_candidates(&all[0], batch, bias, relu)?,
    };
    retain_forced(&mut candidates, forced().as_deref(), |(name, _)| name.clone());
    Ok(candidates)
}

/// Sparse weights by each variant of their format that is worth timing.
fn sparse_candidates<'c, F: SparseFormat + Sync>(
    weights: &'c F,
    batch: usize,
    bias: Option<&'c [f32]>,
    relu: bool,
) -> Result<Vec<TuningCandidate<'c, DenseProduct>>> {
    let candidate = |variant: &'static Variant<F>| -> TuningCandidate<'c, DenseProduct> {
        let make = move || {
            let layer = SparseLayer { weights, bias, relu };
            Ok(DenseProduct::Sparse(Box::new(SparseProduct::with(variant, &layer)?)))
        };
        (variant.name.to_owned(), Box::new(make))
    };
    Ok(sparse_product::candidates(batch)?.into_iter().map(candidate).collect())
}

/// The ways to run a dense layer of which every weight is stored: kernels for dense weights, libraries, and upright
/// groups, since a strip of which every group is stored is one of a dense product.
fn unpruned_candidates<'c>(
    product: &'c Product<'_>,
    batch: usize,
    libraries: &'c [Arc<dyn DenseLibrary>],
) -> Result<Vec<TuningCandidate<'c, DenseProduct>>> {
    let (matrix, bias, relu) = (product.matrices[0], Some(product.bias), product.relu);
    let mut candidates: Vec<TuningCandidate<'c, DenseProduct>> = Vec::new();
    let variants = masked_dense::candidates(batch, !libraries.is_empty())?.into_iter();
    let ways = variants.flat_map(|variant| match variant.design {
        masked_dense::Backend::Library => {
            libraries.iter().map(|library| (variant, Some(library))).collect()
        }
        _ => vec![(variant, None)],
    });
    for (variant, library) in ways {
        let make = move || {
            let (m, k) = matrix.dim();
            let [inputs, outputs]: [Vec<usize>; 2] = [(0..k).collect(), (0..m).collect()];
            let layer = masked_dense::MaskedLayer {
                weights: matrix,
                inputs: Nodes { kept: &inputs, compacted: true },
                outputs: Nodes { kept: &outputs, compacted: true },
                bias,
                relu,
            };
            Ok(DenseProduct::Masked(MaskedDense::with(variant, &layer, batch, library)?))
        };
        let name = library.map_or(variant.name.to_owned(), |library| label(&**library));
        candidates.push((name, Box::new(make)));
    }
    let upright = sparse_product::candidates::<UprightSparse>(batch)?;
    for variant in upright.into_iter().filter(|_| batch > 1) {
        let make = move || {
            let height = upright_spmm::dense_height(matrix.nrows());
            let weights = &UprightSparse::full(matrix, height)?;
            let layer = SparseLayer { weights, bias, relu };
            Ok(DenseProduct::Sparse(Box::new(SparseProduct::with(variant, &layer)?)))
        };
        candidates.push((variant.name.to_owned(), Box::new(make)));
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_kernel_leaves_none_of_other_operations() {
        let all = [
            "group_spmm_n32",
            "upright_spmm",
            "masked_dense_library (a)",
            "masked_dense_library (b)",
        ];
        let left = |forced| {
            let mut left = all.to_vec();
            retain_forced(&mut left, forced, |name| (*name).to_owned());
            left
        };
        assert_eq!(left(None), all);
        assert_eq!(left(Some("csr_spmm")), all, "it is not one of these");
        assert_eq!(left(Some("upright_spmm")), all[1..2]);
        assert_eq!(left(Some("masked_dense_library")), all[2..]);
    }
}

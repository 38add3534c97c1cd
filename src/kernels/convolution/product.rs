//! The product under a convolution: which kernel it is packed for.

use std::sync::Arc;

use super::{ConvLayer, Weights};
use crate::error::{Error, Result};
use crate::kernels::group_spmm::WIDE;
use crate::kernels::library_gemm::{DenseLibrary, LibraryGemm};
use crate::kernels::sparse_product::{SparseFormat, SparseLayer, SparseProduct, Variant};
use crate::kernels::{PackedProduct, SparseVariant, upright_spmm};
use crate::sparse::{GroupSparse, UprightSparse};

/// Weights in a group, of either pattern, where all of them are stored.
const DENSE_GROUP: usize = 8;

/// What computes the products.
#[derive(Clone, Copy)]
pub(super) enum Backend<'a> {
    /// The preferred variant for the weights.
    Preferred,
    /// A variant for the pattern of the weights, or of dense ones of any.
    Variant(SparseVariant),
    /// A library's dense product.
    Library(&'a Arc<dyn DenseLibrary>),
}

/// What the product of one group of channels has beside its weights.
#[derive(Clone, Copy)]
struct Context<'a> {
    bias: Option<&'a [f32]>,
    relu: bool,
    columns: usize,
}

impl Context<'_> {
    /// Packs sparse weights for a variant, or for the preferred one.
    fn pack<F: SparseFormat>(
        self,
        weights: &F,
        variant: Option<&'static Variant<F>>,
    ) -> Result<Box<dyn PackedProduct>> {
        let layer = SparseLayer { weights, bias: self.bias, relu: self.relu };
        Ok(Box::new(match variant {
            Some(variant) => SparseProduct::with(variant, &layer)?,
            // The columns are pixels of one map, which a core caches however many they are.
            None => SparseProduct::new(&layer, self.columns.min(WIDE))?,
        }))
    }
}

/// Packs the product of one group of channels.
pub(super) fn product(
    layer: &ConvLayer<'_>,
    place: usize,
    bias: Option<&[f32]>,
    backend: Backend<'_>,
    columns: usize,
) -> Result<Box<dyn PackedProduct>> {
    let relu = layer.relu;
    let variant = match (backend, layer.weights) {
        (Backend::Preferred, _) => None,
        (Backend::Variant(variant), _) => Some(variant),
        (Backend::Library(library), Weights::Dense(all)) => {
            return Ok(Box::new(LibraryGemm::new(all[place], bias, relu, Arc::clone(library))?));
        }
        (Backend::Library(library), _) => {
            return Err(Error::argument(
                "convolution",
                "dense weights for a library",
                library.name(),
            ));
        }
    };
    let context = Context { bias, relu, columns };
    match (layer.weights, variant) {
        (Weights::Groups(all), None) => context.pack(&all[place], None),
        (Weights::Groups(all), Some(SparseVariant::Groups(own))) => {
            context.pack(&all[place], Some(own))
        }
        (Weights::Upright(all), None) => context.pack(&all[place], None),
        (Weights::Upright(all), Some(SparseVariant::Upright(own))) => {
            context.pack(&all[place], Some(own))
        }
        (Weights::Dense(all), None) => {
            context.pack(&GroupSparse::full(all[place], DENSE_GROUP)?, None)
        }
        (Weights::Dense(all), Some(SparseVariant::Groups(own))) => {
            context.pack(&GroupSparse::full(all[place], DENSE_GROUP)?, Some(own))
        }
        (Weights::Dense(all), Some(SparseVariant::Upright(own))) => {
            let height = upright_spmm::dense_height(all[place].nrows());
            context.pack(&UprightSparse::full(all[place], height)?, Some(own))
        }
        (Weights::Csr(all), None) => context.pack(&all[place], None),
        (_, Some(variant)) => {
            let expected = "a variant for the pattern of the weights";
            Err(Error::argument("convolution", expected, variant.name()))
        }
    }
}

//! The product under a convolution: which kernel it is packed for.

use std::sync::Arc;

use super::{ConvLayer, Weights};
use crate::error::{Error, Result};
use crate::kernels::csr_spmm::{self, CsrSpmm};
use crate::kernels::group_spmm::{self, GroupSpmm, WIDE};
use crate::kernels::library_gemm::{DenseLibrary, LibraryGemm};
use crate::kernels::upright_spmm::{self, UprightLayer, UprightSpmm};
use crate::kernels::{PackedProduct, SparseVariant};
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
    fn groups(
        self,
        weights: &GroupSparse,
        variant: Option<&'static group_spmm::Variant>,
    ) -> Result<Box<dyn PackedProduct>> {
        let layer = group_spmm::GroupLayer { weights, bias: self.bias, relu: self.relu };
        Ok(Box::new(match variant {
            Some(variant) => GroupSpmm::with(variant, &layer)?,
            // The columns are pixels of one map, which a core caches however many they are.
            None => GroupSpmm::new(&layer, self.columns.min(WIDE.columns))?,
        }))
    }

    fn upright(
        self,
        weights: &UprightSparse,
        variant: Option<&'static upright_spmm::Variant>,
    ) -> Result<Box<dyn PackedProduct>> {
        let layer = UprightLayer { weights, bias: self.bias, relu: self.relu };
        Ok(Box::new(match variant {
            Some(variant) => UprightSpmm::with(variant, &layer)?,
            None => UprightSpmm::new(&layer, self.columns)?,
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
        (Weights::Groups(all), None) => context.groups(&all[place], None),
        (Weights::Groups(all), Some(SparseVariant::Groups(own))) => {
            context.groups(&all[place], Some(own))
        }
        (Weights::Upright(all), None) => context.upright(&all[place], None),
        (Weights::Upright(all), Some(SparseVariant::Upright(own))) => {
            context.upright(&all[place], Some(own))
        }
        (Weights::Dense(all), None) => {
            context.groups(&GroupSparse::full(all[place], DENSE_GROUP)?, None)
        }
        (Weights::Dense(all), Some(SparseVariant::Groups(own))) => {
            context.groups(&GroupSparse::full(all[place], DENSE_GROUP)?, Some(own))
        }
        (Weights::Dense(all), Some(SparseVariant::Upright(own))) => {
            let height = upright_spmm::dense_height(all[place].nrows());
            context.upright(&UprightSparse::full(all[place], height)?, Some(own))
        }
        (Weights::Csr(all), None) => {
            let layer = csr_spmm::CsrLayer { weights: &all[place], bias, relu };
            Ok(Box::new(CsrSpmm::new(&layer)?))
        }
        (_, Some(variant)) => {
            let expected = "a variant for the pattern of the weights";
            Err(Error::argument("convolution", expected, variant.name()))
        }
    }
}

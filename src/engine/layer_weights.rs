//! The weights of a step in a storage format, with their size.

use ndarray::ArrayView2;

use super::plan::{Product, Step};
use super::profile::Description;
use crate::error::Result;
use crate::kernels::convolution::{self, Geometry};
use crate::sparse::{Csr, Format, GroupSparse, UprightSparse};

/// The matrices of a step, stored.
pub(super) enum LayerWeights<'a> {
    Dense(Vec<ArrayView2<'a, f32>>),
    Groups(Vec<GroupSparse>),
    Upright(Vec<UprightSparse>),
    Csr(Vec<Csr>),
}

impl<'a> LayerWeights<'a> {
    pub fn new(matrices: &[ArrayView2<'a, f32>], format: Format) -> Result<Self> {
        let matrices = matrices.iter().copied();
        Ok(match format {
            Format::Dense => Self::Dense(matrices.collect()),
            Format::Groups(width) => Self::Groups(
                matrices.map(|m| GroupSparse::from_dense(m, width)).collect::<Result<_>>()?,
            ),
            Format::Upright(height) => Self::Upright(
                matrices.map(|m| UprightSparse::from_dense(m, height)).collect::<Result<_>>()?,
            ),
            Format::Csr => Self::Csr(matrices.map(Csr::from_dense).collect::<Result<_>>()?),
        })
    }

    /// Gives the layer of a convolution with these weights to `take`.
    pub fn with_convolution<R>(
        &self,
        geometry: Geometry,
        product: &Product<'_>,
        take: impl FnOnce(&convolution::ConvLayer<'_>) -> R,
    ) -> R {
        let (bias, relu) = (Some(product.bias), product.relu);
        match self {
            Self::Dense(all) => {
                let views: Vec<_> = all.iter().map(|matrix| matrix.view()).collect();
                let weights = convolution::Weights::Dense(&views);
                take(&convolution::ConvLayer { geometry, weights, bias, relu })
            }
            Self::Groups(all) => {
                let weights = convolution::Weights::Groups(all);
                take(&convolution::ConvLayer { geometry, weights, bias, relu })
            }
            Self::Upright(all) => {
                let weights = convolution::Weights::Upright(all);
                take(&convolution::ConvLayer { geometry, weights, bias, relu })
            }
            Self::Csr(all) => {
                let weights = convolution::Weights::Csr(all);
                take(&convolution::ConvLayer { geometry, weights, bias, relu })
            }
        }
    }

    /// Bytes, with indices.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(all) => all.iter().map(|matrix| 4 * matrix.len()).sum(),
            Self::Groups(all) => all.iter().map(|matrix| matrix.bytes().total()).sum(),
            Self::Upright(all) => all.iter().map(|matrix| matrix.bytes().total()).sum(),
            Self::Csr(all) => all.iter().map(|matrix| matrix.bytes().total()).sum(),
        }
    }
}

/// What there is to know of a product before it is measured.
pub(super) fn describe(
    step: &Step<'_>,
    product: &Product<'_>,
    stored: &LayerWeights<'_>,
    kernel: String,
) -> Description {
    let shapes: Vec<String> =
        product.matrices.iter().map(|m| format!("{}x{}", m.nrows(), m.ncols())).collect();
    let even = shapes.windows(2).all(|pair| pair[0] == pair[1]);
    let shape = match shapes.as_slice() {
        [one] => one.clone(),
        [first, ..] if even => format!("{} of {first}", shapes.len()),
        _ => shapes.join(", "),
    };
    Description {
        layer: step.name.to_owned(),
        shape,
        density: Some(density(product)),
        kernel,
        bytes: stored.bytes() + 4 * product.bias.len(),
    }
}

/// What tells a product's sparsity apart from another's in the key of a choice: the share of its weights
/// that is not 0, and the share that each format stores.
pub(super) fn sparsity<'s, 'w: 's>(
    product: &Product<'_>,
    stored: impl IntoIterator<Item = &'s LayerWeights<'w>>,
) -> String {
    let all: usize = product.matrices.iter().map(|m| m.len()).sum();
    let share = |stored: &LayerWeights<'_>| {
        let bytes = stored.bytes() as f64 / (4 * all.max(1)) as f64;
        format!("{bytes:.2}")
    };
    let shares: Vec<String> = stored.into_iter().map(share).collect();
    format!("density {:.2}, bytes {}", density(product), shares.join(" "))
}

/// The share of a product's weights that is not 0.
pub(super) fn density(product: &Product<'_>) -> f64 {
    let kept = |m: &ArrayView2<'_, f32>| m.iter().filter(|&&weight| weight != 0.0).count();
    let all: usize = product.matrices.iter().map(|m| m.len()).sum();
    product.matrices.iter().map(kept).sum::<usize>() as f64 / all.max(1) as f64
}

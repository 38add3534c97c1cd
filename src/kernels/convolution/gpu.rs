//! Convolution on GPUs: a product on the taps of a padded map, read where they lie.
//!
//! The map is the image with its zeros around it; whoever makes the image writes it there
//! ([`Map::padded`]). Row k of X starts at its tap's place in the map, and the columns are the pixels of
//! the output, `stride` apart from each other, so that neither im2col nor phases are needed.

use ndarray::ArrayView2;

use super::Geometry;
use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::kernels::gpu::{Lines, Operand, Operands, Packed};
use crate::kernels::planes::Map;
use crate::kernels::{csr_spmm, group_spmm, masked_dense};
use crate::sparse::{Csr, GroupSparse};

/// The weights of a convolution's groups of channels, each `[M, C * side * side]`.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// What SIMD-aware pruning leaves.
    Groups(&'a [GroupSparse]),
    /// Dense ones, or what node pruning leaves.
    Dense(&'a [ArrayView2<'a, f32>]),
    /// What traditional pruning leaves; through wgpu alone.
    Csr(&'a [Csr]),
}

impl Weights<'_> {
    fn shapes(&self) -> Vec<[usize; 2]> {
        match self {
            Self::Groups(groups) => groups.iter().map(GroupSparse::shape).collect(),
            Self::Dense(groups) => groups.iter().map(|group| group.dim().into()).collect(),
            Self::Csr(groups) => groups.iter().map(Csr::shape).collect(),
        }
    }
}

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Sizes.
    pub geometry: Geometry,
    /// Per group of channels; a group's inputs follow those of the group before it, as do its outputs.
    pub weights: Weights<'a>,
    /// An entry for each output channel, of all groups; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

/// The map that a convolution reads: its image with `padding` zeros on every side.
pub fn input_map(geometry: &Geometry) -> Map {
    let Geometry { channels, height, width, padding, .. } = *geometry;
    Map { start: 0, ..Map::padded([channels, height, width], padding) }
}

/// Packs a layer for `images` images, from [`input_map`] to where `y` says, for the variants that suit
/// each group's product.
///
/// # Errors
/// Sizes that contradict each other; what the product's kernel refuses.
pub fn pack(gpu: &dyn Gpu, layer: &Layer<'_>, images: usize, y: &Map) -> Result<Packed> {
    let products = products(layer, images, y)?;
    let mut packed = Vec::new();
    for (index, (operands, bias)) in products.iter().enumerate() {
        let (bias, relu) = (*bias, layer.relu);
        packed.push(match layer.weights {
            Weights::Groups(groups) => {
                let layer = group_spmm::Layer { weights: &groups[index], bias, relu };
                group_spmm::gpu::pack(gpu, &layer, operands)?
            }
            Weights::Dense(groups) => {
                let product = masked_dense::gpu::Product { weights: groups[index], bias, relu };
                masked_dense::gpu::pack(gpu, &product, operands)?
            }
            Weights::Csr(groups) => {
                let layer = csr_spmm::Layer { weights: &groups[index], bias, relu };
                csr_spmm::gpu::pack(gpu, &layer, operands)?
            }
        });
    }
    Ok(Packed::joined("convolution", packed))
}

/// The operands of a group's product, and its bias.
type Part<'a> = (Operands, Option<&'a [f32]>);

/// Each group's part.
fn products<'a>(layer: &Layer<'a>, images: usize, y: &Map) -> Result<Vec<Part<'a>>> {
    let Geometry { channels, side, stride, .. } = layer.geometry;
    let [height, width] = layer.geometry.output()?;
    let map = input_map(&layer.geometry);
    let square = side * side;
    let shapes = layer.weights.shapes();
    let outputs: usize = shapes.iter().map(|shape| shape[0]).sum();
    if let Some(bias) = layer.bias.filter(|bias| bias.len() != outputs) {
        let expected = format!("a bias of {outputs} entries");
        return Err(Error::argument("convolution", expected, bias.len().to_string()));
    }
    let inputs: usize = shapes.iter().map(|shape| shape[1] / square).sum();
    if inputs != channels || shapes.iter().any(|shape| shape[1] % square != 0) {
        let expected = format!("weights with {square} columns for each of {channels} channels");
        return Err(Error::argument("convolution", expected, format!("{shapes:?}")));
    }
    let count = |value: usize| {
        u32::try_from(value).map_err(|_| {
            Error::argument("convolution", "maps of fewer than 2^32 floats", value.to_string())
        })
    };
    count(map.floats([channels, layer.geometry.height, layer.geometry.width], images))?;
    count(y.floats([outputs, height, width], images))?;
    let columns = count(height * width)?;
    let mut products = Vec::new();
    let (mut first_input, mut first_output) = (0, 0);
    for [rows, inner] in shapes {
        let tap = |k: usize| {
            let (channel, tap) = (first_input + k / square, k % square);
            (channel * map.plane + tap / side * map.pitch + tap % side) as u32
        };
        let x = Operand {
            rows: (0..inner).map(tap).collect(),
            lines: Lines {
                width: width as u32,
                down: (stride * map.pitch) as u32,
                right: stride as u32,
            },
            image: map.image as u32,
        };
        let row = |row: usize| (y.start + (first_output + row) * y.plane) as u32;
        let to = Operand {
            rows: (0..rows).map(row).collect(),
            lines: Lines { width: width as u32, down: y.pitch as u32, right: y.step as u32 },
            image: y.image as u32,
        };
        let bias = layer.bias.map(|bias| &bias[first_output..first_output + rows]);
        products.push((Operands { x, y: to, columns, images: count(images)? }, bias));
        first_input += inner / square;
        first_output += rows;
    }
    Ok(products)
}

//! Convolution on GPUs: a product on the taps of a padded map, read where they lie.
//!
//! The map is the image with its zeros around it; whoever makes the image writes it there
//! ([`ImageLayout::padded`]). Row k of X starts at its tap's place in the map, and the columns are the pixels of
//! the output, `stride` apart from each other, so that neither im2col nor phases are needed.

use super::{ChannelGroup, ConvLayer, Geometry, Weights};
use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::kernels::gpu::{Operand, Operands, Packed};
use crate::kernels::layout::{ColumnLayout, ImageLayout};
use crate::kernels::{csr_spmm, group_spmm, masked_dense, upright_spmm};

/// The map that a convolution reads: its image with `padding` zeros on every side.
pub fn input_map(geometry: &Geometry) -> ImageLayout {
    let Geometry { channels, height, width, padding, .. } = *geometry;
    ImageLayout { offset: 0, ..ImageLayout::padded([channels, height, width], padding) }
}

/// Packs a layer for `images` images, from [`input_map`] to where `y` says, for the variants that suit
/// each group's product.
///
/// # Errors
/// Sizes that contradict each other; what the product's kernel refuses.
pub fn pack(
    gpu: &dyn Gpu,
    layer: &ConvLayer<'_>,
    images: usize,
    y: &ImageLayout,
) -> Result<Packed> {
    let products = products(layer, images, y)?;
    let mut packed = Vec::new();
    for (index, (operands, bias)) in products.iter().enumerate() {
        let (bias, relu) = (*bias, layer.relu);
        packed.push(match layer.weights {
            Weights::Groups(groups) => {
                let layer = group_spmm::GroupLayer { weights: &groups[index], bias, relu };
                group_spmm::gpu::pack(gpu, &layer, operands)?
            }
            Weights::Upright(groups) => {
                let layer = upright_spmm::UprightLayer { weights: &groups[index], bias, relu };
                upright_spmm::gpu::pack(gpu, &layer, operands)?
            }
            Weights::Dense(groups) => {
                let product = masked_dense::gpu::Product { weights: groups[index], bias, relu };
                masked_dense::gpu::pack(gpu, &product, operands)?
            }
            Weights::Csr(groups) => {
                let layer = csr_spmm::CsrLayer { weights: &groups[index], bias, relu };
                csr_spmm::gpu::pack(gpu, &layer, operands)?
            }
        });
    }
    Ok(Packed::joined("convolution", packed))
}

/// The operands of a group's product, and its bias.
type Operation<'a> = (Operands, Option<&'a [f32]>);

/// Each group's product.
fn products<'a>(
    layer: &ConvLayer<'a>,
    images: usize,
    y: &ImageLayout,
) -> Result<Vec<Operation<'a>>> {
    let Geometry { channels, side, stride, .. } = layer.geometry;
    let [height, width] = layer.geometry.output()?;
    let map = input_map(&layer.geometry);
    let square = side * side;
    let parts = layer.channel_groups()?;
    let outputs: usize = parts.iter().map(|part| part.shape[0]).sum();
    let count = |value: usize| {
        u32::try_from(value).map_err(|_| {
            Error::argument("convolution", "maps of fewer than 2^32 floats", value.to_string())
        })
    };
    count(map.floats([channels, layer.geometry.height, layer.geometry.width], images))?;
    count(y.floats([outputs, height, width], images))?;
    let (columns, images) = (count(height * width)?, count(images)?);
    let product = |part: &ChannelGroup<'a>| {
        let tap = |k: usize| {
            let (channel, tap) = (part.first_input + k / square, k % square);
            (channel * map.channel_stride + tap / side * map.row_stride + tap % side) as u32
        };
        let x = Operand {
            rows: (0..part.shape[1]).map(tap).collect(),
            columns: ColumnLayout {
                stride,
                ..ColumnLayout::lines(width, width, stride * map.row_stride)
            },
            image: map.image_stride as u32,
        };
        let row = |row: usize| (y.offset + (part.first_output + row) * y.channel_stride) as u32;
        let to = Operand {
            rows: (0..part.shape[0]).map(row).collect(),
            columns: ColumnLayout {
                stride: y.pixel_stride,
                ..ColumnLayout::lines(width, width, y.row_stride)
            },
            image: y.image_stride as u32,
        };
        (Operands { x, y: to, columns, images }, part.bias)
    };
    Ok(parts.iter().map(product).collect())
}

//! The operation on GPUs: packing, tile sizes and grids of cuda/upright_spmm.cu and shaders/upright_spmm.wgsl, whose
//! first comment has the mathematics and the storage.

use std::ops::Range;

use super::UprightLayer;
use crate::device::gpu::{Gpu, Language, Limits, Source};
use crate::error::{Error, Result};
use crate::kernels::gpu::{
    self, Argument, Operands, Packed, Stage, check_block, check_language, dispatch, panels,
    warps_for_a_row,
};

const WARP: u32 = 32;

/// Buffers of a launch.
const BUFFERS: u32 = 7;

/// How a variant computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// One column, a strip for up to eight warps.
    Vector,
    /// A strip for the teams of a block, its sums in registers.
    Strips {
        /// Threads of a team; four columns each.
        lanes: u32,
    },
}

impl Design {
    /// Threads of a block. The sums of all teams take 16 KiB of shared memory at most, which every device has.
    fn threads(self, height: u32) -> u32 {
        match self {
            Self::Vector => 256,
            Self::Strips { .. } => (1024 / height).min(256),
        }
    }

    fn entry(self) -> &'static str {
        match self {
            Self::Vector => "upright_spmm_n1",
            Self::Strips { .. } => "upright_spmm_strips",
        }
    }

    fn shared_bytes(self, height: u32) -> u32 {
        match self {
            Self::Vector => 4 * self.threads(height),
            Self::Strips { .. } => 16 * self.threads(height) * height,
        }
    }

    /// Whether it is the better one of a language for a product of so many strips. From paper, not from measurements:
    /// a wide tile loads a strip's weights for more columns at once, but must leave enough blocks to fill the device.
    fn suits(self, strips: usize, operands: &Operands, limits: &Limits) -> bool {
        let (n, images) = (operands.columns, operands.images);
        match self {
            Self::Vector => n == 1 && images == 1,
            Self::Strips { lanes: NARROWEST } => true,
            Self::Strips { lanes } => {
                let blocks = strips as u32 * n.div_ceil(4 * lanes) * images;
                n >= 4 * lanes && blocks >= 2 * limits.multiprocessors
            }
        }
    }
}

/// Lanes of the narrowest tile.
const NARROWEST: u32 = 4;

/// `upright_spmm_f32_<language>_<design><columns of a tile>`.
pub type Variant = gpu::Variant<Design>;

const STRIPS_128: Design = Design::Strips { lanes: 32 };
const STRIPS_32: Design = Design::Strips { lanes: 8 };
const STRIPS_16: Design = Design::Strips { lanes: NARROWEST };

/// Every variant, the preferred ones of a language first.
pub const VARIANTS: &[Variant] = &[
    Variant::new("upright_spmm_f32_cuda_n1", Language::Cuda, Design::Vector),
    Variant::new("upright_spmm_f32_cuda_strips128", Language::Cuda, STRIPS_128),
    Variant::new("upright_spmm_f32_cuda_strips32", Language::Cuda, STRIPS_32),
    Variant::new("upright_spmm_f32_cuda_strips16", Language::Cuda, STRIPS_16),
    Variant::new("upright_spmm_f32_wgsl_n1", Language::Wgsl, Design::Vector),
    Variant::new("upright_spmm_f32_wgsl_strips128", Language::Wgsl, STRIPS_128),
    Variant::new("upright_spmm_f32_wgsl_strips32", Language::Wgsl, STRIPS_32),
    Variant::new("upright_spmm_f32_wgsl_strips16", Language::Wgsl, STRIPS_16),
];

/// Packs a layer for a GPU: for the variant that `SCALPEL_KERNEL` names, else for the first of [`VARIANTS`] that suits
/// the operands and that the device bears.
///
/// # Errors
/// A group height other than 2, 4, 8 and 16; a bias or operands of other sizes than the weights; a forced variant that
/// is unknown or that the device does not bear; no memory.
pub fn pack(device: &dyn Gpu, layer: &UprightLayer<'_>, operands: &Operands) -> Result<Packed> {
    let (limits, height) = (device.limits(), layer.weights.height().max(1));
    let strips = layer.weights.shape()[0].div_ceil(height);
    let suits = |design: &Design| design.suits(strips, operands, &limits);
    dispatch(device, "upright_spmm_", VARIANTS, suits, |variant| {
        pack_with(device, variant, layer, operands)
    })
}

/// Packs a layer for one variant.
///
/// # Errors
/// As [`pack`]; a variant for one column and others to compute.
pub fn pack_with(
    gpu: &dyn Gpu,
    variant: &'static Variant,
    layer: &UprightLayer<'_>,
    operands: &Operands,
) -> Result<Packed> {
    let (name, weights) = (variant.name, layer.weights);
    let height = weights.height();
    if ![2, 4, 8, 16].contains(&height) {
        let expected = "a group height of 2, 4, 8 or 16 on a GPU";
        return Err(Error::argument(name, expected, height.to_string()));
    }
    check_language(name, variant.target, gpu)?;
    let [rows, inner] = weights.shape();
    operands.check(name, [rows, inner])?;
    let is_vector = operands.columns == 1 && operands.images == 1;
    if variant.design == Design::Vector && !is_vector {
        return Err(Error::argument(name, "one column", operands.columns.to_string()));
    }
    let bias = crate::kernels::bias(name, layer.bias, rows)?;
    let packing = Packing { gpu, variant, layer, operands, bias };
    let bytes = |strip| 4 * height * packing.stored(strip);
    let panels = panels(name, rows.div_ceil(height), bytes, gpu)?;
    let stages = panels.into_iter().map(|strips| packing.stage(strips));
    Packed::of_product(name, stages.collect::<Result<_>>()?, operands)
}

struct Packing<'a> {
    gpu: &'a dyn Gpu,
    variant: &'static Variant,
    layer: &'a UprightLayer<'a>,
    operands: &'a Operands,
    bias: Vec<f32>,
}

impl Packing<'_> {
    /// A strip's groups.
    fn stored(&self, strip: usize) -> usize {
        let weights = self.layer.weights;
        match weights.strip_ptr().get(strip..strip + 2) {
            Some(pointers) => (pointers[1] - pointers[0]) as usize,
            None => weights.shape()[1],
        }
    }

    /// Adds a strip's groups: where each one's row of X starts, and its weights, with zeros below the last row. Rows
    /// that are stored dense are a strip that has every column.
    fn push_strip(&self, strip: usize, x_rows: &mut Vec<u32>, values: &mut Vec<f32>) {
        let weights = self.layer.weights;
        let mut push = |column: usize, of_group: &mut dyn Iterator<Item = f32>| {
            x_rows.push(self.operands.x.rows[column]);
            values.extend(of_group);
            values.resize(x_rows.len() * weights.height(), 0.0);
        };
        if strip < weights.strips() {
            weights
                .strip(strip)
                .for_each(|(column, group)| push(column, &mut group.iter().copied()));
            return;
        }
        let inner = weights.shape()[1];
        for column in 0..inner {
            push(column, &mut weights.tail()[column..].iter().step_by(inner).copied());
        }
    }

    /// The launch for some of the strips.
    fn stage(&self, strips: Range<usize>) -> Result<Stage> {
        let (gpu, operands, design) = (self.gpu, self.operands, self.variant.design);
        let ([rows, inner], height) = (self.layer.weights.shape(), self.layer.weights.height());
        let count = strips.len();
        let own = strips.start * height..rows.min(strips.end * height);
        let (mut values, mut x_rows, mut strip_ptr) = (Vec::new(), Vec::new(), vec![0_u32]);
        for strip in strips {
            self.push_strip(strip, &mut x_rows, &mut values);
            strip_ptr.push(x_rows.len() as u32);
        }
        let split = warps_for_a_row(values.len() / count.max(1), count, &gpu.limits());
        let source = Source {
            stem: "upright_spmm",
            cuda: Some(include_str!("../../../cuda/upright_spmm.cu")),
            wgsl: Some(include_str!("../../../shaders/upright_spmm.wgsl")),
            entry: design.entry(),
            constants: &self.constants(split),
            threads: design.threads(height as u32),
        };
        check_block(&source, design.shared_bytes(height as u32), BUFFERS, gpu)?;
        let blocks = count as u32;
        let grid = match design {
            Design::Vector => [blocks.div_ceil(source.threads / WARP / split), 1, 1],
            Design::Strips { lanes } => {
                [operands.columns.div_ceil(4 * lanes), blocks, operands.images]
            }
        };
        let arguments = vec![
            Argument::own(gpu, &values)?,
            Argument::own(gpu, &x_rows)?,
            Argument::own(gpu, &strip_ptr)?,
            Argument::own(gpu, &self.bias[own.clone()])?,
            Argument::own(gpu, &operands.y.rows[own.clone()])?,
            Argument::X,
            Argument::Y,
        ];
        let mut parameters = vec![own.len() as u32, inner as u32];
        parameters.extend(operands.parameters(self.layer.relu));
        Ok(Stage { program: gpu.program(&source)?, grid, arguments, parameters })
    }

    /// What the program is compiled with.
    fn constants(&self, split: u32) -> Vec<(&'static str, u32)> {
        let is_cuda = self.variant.target == Language::Cuda;
        let mut constants = vec![("HEIGHT", self.layer.weights.height() as u32)];
        match self.variant.design {
            Design::Vector => {
                constants.extend(is_cuda.then_some(("N1", 1)));
                constants.push(("SPLIT", split));
            }
            Design::Strips { lanes } => {
                let vector = self.operands.x.is_vectors(self.operands.columns);
                constants.extend(is_cuda.then_some(("VECTOR", u32::from(vector))));
                constants.push(("LANES", lanes));
            }
        }
        constants
    }
}

//! The operation on GPUs: packing, tile sizes and grids of cuda/group_spmm.cu and
//! shaders/group_spmm.wgsl, whose first comment has the mathematics and the storage.

use super::GroupLayer;
use crate::device::gpu::{Gpu, Language, Limits, Source};
use crate::error::{Error, Result};
use crate::kernels::gpu::{
    self, Argument, Operands, Packed, Stage, check_block, check_language, dispatch, panels,
    warps_for_a_row,
};

const WARP: u32 = 32;

/// One of the ladder's designs with its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// One column, a row for up to eight warps.
    Vector,
    /// By rows, X staged.
    Rows {
        /// Threads of a team; four columns each.
        lanes: u32,
        /// Teams that share a row; they lie in one warp.
        split: u32,
        /// Threads of a block.
        threads: u32,
    },
    /// By groups of columns.
    Columns {
        /// Rows of a block.
        rows: u32,
        /// Threads of a team; four columns each.
        lanes: u32,
        /// Teams of a block.
        teams: u32,
    },
}

/// Bytes of X that `Rows` stages at once.
const STAGED: u32 = 32 << 10;

impl Design {
    fn threads(self) -> u32 {
        match self {
            Self::Vector => 256,
            Self::Rows { threads, .. } => threads,
            Self::Columns { lanes, teams, .. } => lanes * teams,
        }
    }

    fn shared_bytes(self) -> u32 {
        match self {
            Self::Vector => 4 * self.threads(),
            Self::Rows { .. } => STAGED,
            Self::Columns { rows, lanes, teams } => 16 * rows * lanes * teams,
        }
    }

    fn buffers(self) -> u32 {
        match self {
            Self::Vector => 7,
            Self::Rows { .. } => 8,
            Self::Columns { .. } => 10,
        }
    }

    /// Whether it is the better one of a language for a product of `rows` rows. From paper, not from
    /// measurements: `Columns` reads X from memory once for each block of rows and wastes what its tile
    /// has beyond n; wide tiles must leave enough blocks to fill the device.
    fn suits(self, rows: usize, operands: &Operands, limits: &Limits) -> bool {
        let n = operands.columns;
        match self {
            Self::Vector => operands.is_vector(),
            Self::Columns { lanes, .. } if n < 4 * lanes => false,
            Self::Columns { rows: block, lanes, .. } => {
                let tiles = n.div_ceil(4 * lanes) * operands.images;
                let blocks = (rows as u32).div_ceil(block) * tiles;
                lanes == NARROWEST || blocks >= 2 * limits.multiprocessors
            }
            Self::Rows { .. } => true,
        }
    }
}

/// Lanes of the narrowest tile of `Columns`.
const NARROWEST: u32 = 8;

/// `group_spmm_f32_<language>_<design><columns of a tile>`.
pub type Variant = gpu::Variant<Design>;

const COLUMNS_128: Design = Design::Columns { rows: 32, lanes: 32, teams: 2 };
const COLUMNS_32: Design = Design::Columns { rows: 32, lanes: NARROWEST, teams: 8 };
const ROWS_16: Design = Design::Rows { lanes: 4, split: 4, threads: 512 };
const ROWS_128: Design = Design::Rows { lanes: 32, split: 1, threads: 512 };
// Not every device bears 512 threads.
const ROWS_16_OF_256: Design = Design::Rows { lanes: 4, split: 4, threads: 256 };
const ROWS_128_OF_256: Design = Design::Rows { lanes: 32, split: 1, threads: 256 };

/// Every variant, the preferred ones of a language first.
pub const VARIANTS: &[Variant] = &[
    Variant::new("group_spmm_f32_cuda_n1", Language::Cuda, Design::Vector),
    Variant::new("group_spmm_f32_cuda_columns128", Language::Cuda, COLUMNS_128),
    Variant::new("group_spmm_f32_cuda_columns32", Language::Cuda, COLUMNS_32),
    Variant::new("group_spmm_f32_cuda_rows16", Language::Cuda, ROWS_16),
    Variant::new("group_spmm_f32_cuda_rows128", Language::Cuda, ROWS_128),
    Variant::new("group_spmm_f32_wgsl_n1", Language::Wgsl, Design::Vector),
    Variant::new("group_spmm_f32_wgsl_columns128", Language::Wgsl, COLUMNS_128),
    Variant::new("group_spmm_f32_wgsl_columns32", Language::Wgsl, COLUMNS_32),
    Variant::new("group_spmm_f32_wgsl_rows16", Language::Wgsl, ROWS_16_OF_256),
    Variant::new("group_spmm_f32_wgsl_rows128", Language::Wgsl, ROWS_128_OF_256),
];

/// Packs a layer for a GPU: for the variant that `SCALPEL_KERNEL` names, else for the first of
/// [`VARIANTS`] that suits the operands and that the device bears.
///
/// # Errors
/// A group width other than 2, 4, 8 and 16; a bias or operands of other sizes than the weights; a forced
/// variant that is unknown or that the device does not bear; no memory.
pub fn pack(device: &dyn Gpu, layer: &GroupLayer<'_>, operands: &Operands) -> Result<Packed> {
    let (rows, limits) = (layer.weights.shape()[0], device.limits());
    let suits = |design: &Design| design.suits(rows, operands, &limits);
    dispatch(device, "group_spmm_", VARIANTS, suits, |variant| {
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
    layer: &GroupLayer<'_>,
    operands: &Operands,
) -> Result<Packed> {
    let width = layer.weights.width();
    if ![2, 4, 8, 16].contains(&width) {
        let expected = "a group width of 2, 4, 8 or 16 on a GPU";
        return Err(Error::argument(variant.name, expected, width.to_string()));
    }
    check_language(variant.name, variant.target, gpu)?;
    operands.check(variant.name, layer.weights.shape())?;
    if variant.design == Design::Vector && !operands.is_vector() {
        let expected = "one column, its rows side by side";
        return Err(Error::argument(variant.name, expected, "another operand"));
    }
    let bias = crate::kernels::bias(variant.name, layer.bias, layer.weights.shape()[0])?;
    let packing = Packing { gpu, variant, layer, operands, bias };
    let stages = match variant.design {
        Design::Columns { rows, .. } => packing.by_columns(rows as usize)?,
        _ => packing.by_rows()?,
    };
    Packed::of_product(variant.name, stages, operands)
}

/// The groups of a row, the partial one at the end with zeros after its end.
fn groups_of(layer: &GroupLayer<'_>, row: usize) -> Vec<(u32, Vec<f32>)> {
    let weights = layer.weights;
    let (width, [_, inner]) = (weights.width(), weights.shape());
    let places = weights.row_ptr()[row] as usize..weights.row_ptr()[row + 1] as usize;
    let mut groups: Vec<(u32, Vec<f32>)> = places
        .map(|place| {
            let values = &weights.values()[place * width..(place + 1) * width];
            (weights.groups()[place], values.to_vec())
        })
        .collect();
    let tail = inner % width;
    if tail > 0 {
        let mut values = weights.tail()[row * tail..(row + 1) * tail].to_vec();
        values.resize(width, 0.0);
        groups.push(((inner / width) as u32, values));
    }
    groups
}

struct Packing<'a> {
    gpu: &'a dyn Gpu,
    variant: &'static Variant,
    layer: &'a GroupLayer<'a>,
    operands: &'a Operands,
    bias: Vec<f32>,
}

impl Packing<'_> {
    fn stored(&self, row: usize) -> usize {
        let weights = self.layer.weights;
        let partial = usize::from(!weights.shape()[1].is_multiple_of(weights.width()));
        (weights.row_ptr()[row + 1] - weights.row_ptr()[row]) as usize + partial
    }

    /// Long rows first, so that the warps of a block have equal work and the last block little.
    fn by_rows(&self) -> Result<Vec<Stage>> {
        let weights = self.layer.weights;
        let (width, [rows, _]) = (weights.width(), weights.shape());
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(self.stored(row)));
        let bytes = |place: usize| 4 * width * self.stored(order[place]);
        let panels = panels(self.variant.name, rows, bytes, self.gpu)?;
        let mut stages = Vec::new();
        for panel in panels {
            let order = &order[panel];
            let (mut values, mut groups, mut row_ptr) = (Vec::new(), Vec::new(), vec![0_u32]);
            for &row in order {
                for (group, weights) in groups_of(self.layer, row) {
                    groups.push(group);
                    values.extend(weights);
                }
                row_ptr.push(groups.len() as u32);
            }
            let mean = groups.len() * width / order.len().max(1);
            let split = warps_for_a_row(mean, order.len(), &self.gpu.limits());
            let mut arguments = vec![
                Argument::own(self.gpu, &values)?,
                Argument::own(self.gpu, &groups)?,
                Argument::own(self.gpu, &row_ptr)?,
                self.biases(order)?,
            ];
            if self.variant.design != Design::Vector {
                arguments.push(Argument::own(self.gpu, &self.operands.x.rows)?);
            }
            arguments.extend([self.y_rows(order)?, Argument::X, Argument::Y]);
            stages.push(self.stage(arguments, order.len(), split)?);
        }
        Ok(stages)
    }

    fn by_columns(&self, block: usize) -> Result<Vec<Stage>> {
        let weights = self.layer.weights;
        let (width, [rows, _]) = (weights.width(), weights.shape());
        let blocks: Vec<Vec<usize>> = (0..rows.div_ceil(block))
            .map(|index| (index * block..rows.min((index + 1) * block)).collect())
            .collect();
        let bytes = |index: usize| {
            4 * width * blocks[index].iter().map(|&row| self.stored(row)).sum::<usize>()
        };
        let panels = panels(self.variant.name, blocks.len(), bytes, self.gpu)?;
        let mut stages = Vec::new();
        for panel in panels {
            let blocks = &blocks[panel];
            let (mut values, mut owners, mut groups) =
                (Vec::<f32>::new(), Vec::<u32>::new(), Vec::new());
            let (mut entry_ptr, mut block_ptr) = (vec![0_u32], vec![0_u32]);
            for rows in blocks {
                let mut entries: Vec<(u32, u32, Vec<f32>)> = Vec::new();
                for (place, &row) in (0..).zip(rows) {
                    let own = groups_of(self.layer, row).into_iter();
                    entries.extend(own.map(|(group, values)| (group, place, values)));
                }
                entries.sort_by_key(|(group, place, _)| (*group, *place));
                for alike in entries.chunk_by(|a, b| a.0 == b.0) {
                    groups.push(alike[0].0);
                    for (_, place, weights) in alike {
                        owners.push(*place);
                        values.extend(weights);
                    }
                    entry_ptr.push(owners.len() as u32);
                }
                block_ptr.push(groups.len() as u32);
            }
            let order: Vec<usize> = blocks.iter().flatten().copied().collect();
            let arguments = vec![
                Argument::own(self.gpu, &values)?,
                Argument::own(self.gpu, &owners)?,
                Argument::own(self.gpu, &entry_ptr)?,
                Argument::own(self.gpu, &groups)?,
                Argument::own(self.gpu, &block_ptr)?,
                self.biases(&order)?,
                Argument::own(self.gpu, &self.operands.x.rows)?,
                self.y_rows(&order)?,
                Argument::X,
                Argument::Y,
            ];
            stages.push(self.stage(arguments, order.len(), 1)?);
        }
        Ok(stages)
    }

    fn biases(&self, order: &[usize]) -> Result<Argument> {
        Argument::own(self.gpu, &order.iter().map(|&row| self.bias[row]).collect::<Vec<f32>>())
    }

    fn y_rows(&self, order: &[usize]) -> Result<Argument> {
        Argument::own(
            self.gpu,
            &order.iter().map(|&row| self.operands.y.rows[row]).collect::<Vec<u32>>(),
        )
    }

    fn stage(&self, arguments: Vec<Argument>, rows: usize, split: u32) -> Result<Stage> {
        let design = self.variant.design;
        let threads = design.threads();
        let mut constants = vec![("WIDTH", self.layer.weights.width() as u32)];
        let vector = u32::from(self.operands.x.is_vectors(self.operands.columns));
        let cuda = self.variant.target == Language::Cuda;
        let (entry, tile, block) = match design {
            Design::Vector => {
                constants.extend(cuda.then_some(("N1", 1)));
                constants.push(("SPLIT", split));
                ("group_spmm_n1", 1, threads / WARP / split)
            }
            Design::Rows { lanes, split, .. } => {
                constants.extend(cuda.then_some(("VECTOR", vector)));
                constants.extend([("LANES", lanes), ("SPLIT", split)]);
                constants.push(("CHUNK", STAGED / (16 * lanes)));
                ("group_spmm_rows", 4 * lanes, threads / lanes / split)
            }
            Design::Columns { rows, lanes, .. } => {
                constants.extend(cuda.then_some(("VECTOR", vector)));
                constants.extend([("BLOCK_ROWS", rows), ("LANES", lanes)]);
                ("group_spmm_columns", 4 * lanes, rows)
            }
        };
        let source = Source {
            stem: "group_spmm",
            cuda: Some(include_str!("../../../cuda/group_spmm.cu")),
            wgsl: Some(include_str!("../../../shaders/group_spmm.wgsl")),
            entry,
            constants: &constants,
            threads,
        };
        check_block(&source, design.shared_bytes(), design.buffers(), self.gpu)?;
        let rows = rows as u32;
        let blocks = rows.div_ceil(block);
        let grid = match design {
            Design::Vector => [blocks, 1, 1],
            _ => [self.operands.columns.div_ceil(tile), blocks, self.operands.images],
        };
        let mut parameters = vec![rows, self.layer.weights.shape()[1] as u32];
        parameters.extend(self.operands.parameters(self.layer.relu));
        Ok(Stage { program: self.gpu.program(&source)?, grid, arguments, parameters })
    }
}

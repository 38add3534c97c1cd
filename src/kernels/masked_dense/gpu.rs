//! The operation on GPUs: packing, tile sizes and grids of cuda/masked_dense.cu and
//! shaders/masked_dense.wgsl, whose first comment has the mathematics and the storage.

use ndarray::ArrayView2;

use super::MaskedLayer;
use crate::device::gpu::{Gpu, Language, Limits, Program, Source};
use crate::error::{Error, Result};
use crate::kernels::gpu::{
    self, Argument, Operand, Operands, Packed, Stage, check_block, check_language, dispatch,
    panels, warps_for_a_row,
};
use crate::kernels::layout::ColumnLayout;

/// A tile of the product and who computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows of a block.
    pub m: u32,
    /// Columns of a block.
    pub n: u32,
    /// How deep the tiles in shared memory are.
    pub k: u32,
    /// Rows and columns of a thread, multiples of four.
    pub thread: [u32; 2],
}

/// How a variant computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// One column, a row for up to eight warps.
    Vector,
    /// Tiles in registers.
    Tiles(Tile),
    /// The same tiles by tensor cores; `thread` means nothing.
    Tensor(Tile),
}

impl Design {
    fn threads(self) -> u32 {
        match self {
            Self::Vector => 256,
            Self::Tiles(tile) => tile.m / tile.thread[0] * (tile.n / tile.thread[1]),
            Self::Tensor(_) => 128,
        }
    }

    /// What pads the rows of shared tiles in CUDA.
    fn padding(self) -> u32 {
        if matches!(self, Self::Tensor(_)) { 8 } else { 4 }
    }

    fn shared_bytes(self) -> u32 {
        match self {
            Self::Vector => 4 * self.threads(),
            Self::Tiles(tile) | Self::Tensor(tile) => {
                8 * tile.k * (tile.m + tile.n + 2 * self.padding())
            }
        }
    }
}

/// `masked_dense_<type>_<language>_<design>`.
pub type Variant = gpu::Variant<Design>;

const LARGE: Tile = Tile { m: 128, n: 128, k: 8, thread: [8, 8] };
const MIDDLE: Tile = Tile { m: 64, n: 64, k: 16, thread: [4, 4] };
const NARROW: Tile = Tile { m: 64, n: 16, k: 16, thread: [4, 4] };
const TENSOR: Tile = Tile { m: 64, n: 64, k: 16, thread: [4, 4] };

/// Every variant. Those on tensor cores round to TF32, so they are taken only by name.
pub const VARIANTS: &[Variant] = &[
    Variant::new("masked_dense_f32_cuda_n1", Language::Cuda, Design::Vector),
    Variant::new("masked_dense_f32_cuda_t64x16", Language::Cuda, Design::Tiles(NARROW)),
    Variant::new("masked_dense_f32_cuda_t128x128", Language::Cuda, Design::Tiles(LARGE)),
    Variant::new("masked_dense_f32_cuda_t64x64", Language::Cuda, Design::Tiles(MIDDLE)),
    Variant::new("masked_dense_tf32_cuda_t64x64", Language::Cuda, Design::Tensor(TENSOR)),
    Variant::new("masked_dense_f32_wgsl_n1", Language::Wgsl, Design::Vector),
    Variant::new("masked_dense_f32_wgsl_t64x16", Language::Wgsl, Design::Tiles(NARROW)),
    Variant::new("masked_dense_f32_wgsl_t128x128", Language::Wgsl, Design::Tiles(LARGE)),
    Variant::new("masked_dense_f32_wgsl_t64x64", Language::Wgsl, Design::Tiles(MIDDLE)),
];

/// Blocks of each multiprocessor that a product should have, else it takes a smaller tile, else K is
/// split.
const WAVES: u32 = 2;

impl Design {
    /// Whether it is the better one for operands of so many rows.
    fn suits(self, rows: usize, operands: &Operands, limits: &Limits) -> bool {
        match self {
            Self::Vector => operands.is_vector(),
            Self::Tensor(_) => false,
            Self::Tiles(NARROW) => operands.columns <= 16,
            Self::Tiles(MIDDLE) => true,
            Self::Tiles(tile) => blocks(tile, rows, operands) >= WAVES * limits.multiprocessors,
        }
    }
}

fn blocks(tile: Tile, rows: usize, operands: &Operands) -> u32 {
    (rows as u32).div_ceil(tile.m) * operands.columns.div_ceil(tile.n) * operands.images
}

/// A product Y = act(W X + b) with dense weights `[M, K]`, gathered already.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// `[M, K]`.
    pub weights: ArrayView2<'a, f32>,
    /// M entries; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

/// Packs the kept part of a layer for `n` columns: for the variant that `SCALPEL_KERNEL` names, else
/// for the one that suits it.
///
/// # Errors
/// Nodes that are not there or do not ascend, a bias of another length than M; what [`pack`] refuses.
pub fn pack_layer(
    gpu: &dyn Gpu,
    variant: Option<&'static Variant>,
    layer: &MaskedLayer<'_>,
    n: usize,
) -> Result<Packed> {
    let (m, k) = layer.weights.dim();
    let (weights, bias) = layer.gather()?;
    // Refuses sizes that 32 bits do not count, of all nodes.
    let whole = Operands::plain([m, k], n)?;
    let rows = |table: crate::kernels::layout::RowTable| {
        table.starts().iter().map(|&start| start as u32).collect()
    };
    let columns = ColumnLayout::contiguous(n);
    let operand = |rows: Vec<u32>| Operand { rows, columns, image: 0 };
    let operands = Operands {
        x: operand(rows(layer.inputs.table(n))),
        y: operand(rows(layer.outputs.table(n))),
        ..whole
    };
    let product = Product { weights: weights.view(), bias: Some(&bias), relu: layer.relu };
    match variant {
        Some(variant) => pack_with(gpu, variant, &product, &operands),
        None => pack(gpu, &product, &operands),
    }
}

/// Packs a product: for the variant that `SCALPEL_KERNEL` names, else for the one that suits it.
///
/// # Errors
/// A bias or operands of other sizes than the weights; a forced variant that is unknown or that the
/// device does not bear; no memory.
pub fn pack(device: &dyn Gpu, product: &Product<'_>, operands: &Operands) -> Result<Packed> {
    let (rows, limits) = (product.weights.nrows(), device.limits());
    let suits = |design: &Design| design.suits(rows, operands, &limits);
    dispatch(device, "masked_dense_", VARIANTS, suits, |variant| {
        pack_with(device, variant, product, operands)
    })
}

/// Packs a product for one variant.
///
/// # Errors
/// As [`pack`]; a variant for one column and others to compute.
pub fn pack_with(
    gpu: &dyn Gpu,
    variant: &'static Variant,
    product: &Product<'_>,
    operands: &Operands,
) -> Result<Packed> {
    check_language(variant.name, variant.target, gpu)?;
    let (m, k) = product.weights.dim();
    operands.check(variant.name, [m, k])?;
    let one_column = operands.columns == 1 && operands.images == 1;
    if variant.design == Design::Vector && !one_column {
        return Err(Error::argument(variant.name, "one column", operands.columns.to_string()));
    }
    let bias = crate::kernels::bias(variant.name, product.bias, m)?;
    let packing = Packing { gpu, variant, inner: k, relu: product.relu, operands };
    // A vector of weights after K is read where K is no multiple of 4.
    let stride = k.next_multiple_of(4);
    let mut stages = Vec::new();
    for panel in panels(variant.name, m, |_| 4 * stride, gpu)? {
        let mut weights = vec![0.0_f32; panel.len() * stride];
        for (row, to) in panel.clone().zip(weights.chunks_mut(stride.max(1))) {
            to.iter_mut().zip(product.weights.row(row)).for_each(|(to, &weight)| *to = weight);
        }
        let weights = Argument::own(gpu, &weights)?;
        let bias = Argument::own(gpu, &bias[panel.clone()])?;
        let y_rows = Argument::own(gpu, &operands.y.rows[panel.clone()])?;
        stages.extend(packing.stages(panel.len(), [weights, bias, y_rows])?);
    }
    Packed::of_product(variant.name, stages, operands)
}

struct Packing<'a> {
    gpu: &'a dyn Gpu,
    variant: &'static Variant,
    inner: usize,
    relu: bool,
    operands: &'a Operands,
}

impl Packing<'_> {
    /// The launches for a panel of rows.
    fn stages(&self, rows: usize, [weights, bias, y_rows]: [Argument; 3]) -> Result<Vec<Stage>> {
        let Operands { x, columns, images, .. } = self.operands;
        let design = self.variant.design;
        let splits = match design {
            Design::Vector => 1,
            Design::Tiles(tile) | Design::Tensor(tile) => self.splits(tile, rows),
        };
        let parts = 4 * rows * *columns as usize * splits as usize;
        let to = if splits > 1 { Argument::Own(self.gpu.allocate(parts)?) } else { Argument::Y };
        let x_rows = Argument::own(self.gpu, &x.rows)?;
        let arguments =
            vec![weights, bias.clone(), x_rows, y_rows.clone(), Argument::X, to.clone()];
        let vector = u32::from(x.is_vectors(*columns));
        let (constants, entry, grid, depth) = match design {
            Design::Vector => {
                let split = warps_for_a_row(self.inner, rows, &self.gpu.limits());
                let mut constants = vec![("SPLIT", split)];
                if self.variant.target == Language::Cuda {
                    constants.push(("GATHER", u32::from(!self.operands.is_vector())));
                }
                let blocks = (rows as u32).div_ceil(design.threads() / 32 / split);
                (constants, "masked_dense_n1", [blocks, 1, 1], 0)
            }
            Design::Tiles(tile) | Design::Tensor(tile) => {
                let mut constants =
                    vec![("TILE_M", tile.m), ("TILE_N", tile.n), ("TILE_K", tile.k)];
                if self.variant.target == Language::Cuda {
                    constants.extend([("VECTOR", vector), ("PADDING", design.padding())]);
                }
                let entry = match design {
                    Design::Tensor(_) => {
                        constants.push(("TENSOR", 1));
                        "masked_dense_tf32"
                    }
                    _ => {
                        let [thread_m, thread_n] = tile.thread;
                        constants.extend([("THREAD_M", thread_m), ("THREAD_N", thread_n)]);
                        "masked_dense_tile"
                    }
                };
                let layers = if splits > 1 { splits } else { *images };
                let depth = (self.inner as u32).div_ceil(splits).max(1).next_multiple_of(tile.k);
                let grid = [columns.div_ceil(tile.n), (rows as u32).div_ceil(tile.m), layers];
                (constants, entry, grid, depth)
            }
        };
        let stride = self.inner.next_multiple_of(4) as u32;
        let mut parameters = vec![rows as u32, self.inner as u32, stride, splits, depth, 0];
        parameters.extend(self.operands.parameters(self.relu));
        let program = self.program(entry, &constants, design.threads(), design.shared_bytes())?;
        let mut stages = vec![Stage { program, grid, arguments, parameters: parameters.clone() }];
        if splits > 1 {
            let program = self.program("masked_dense_sum", &[("SUM", 1)], 64, 0)?;
            let grid = [columns.div_ceil(64), rows as u32, 1];
            let arguments = vec![to, bias, y_rows, Argument::Y];
            stages.push(Stage { program, grid, arguments, parameters });
        }
        Ok(stages)
    }

    fn program(
        &self,
        entry: &'static str,
        constants: &[(&'static str, u32)],
        threads: u32,
        shared_bytes: u32,
    ) -> Result<Program> {
        let source = Source {
            stem: "masked_dense",
            cuda: Some(include_str!("../../../cuda/masked_dense.cu")),
            wgsl: Some(include_str!("../../../shaders/masked_dense.wgsl")),
            entry,
            constants,
            threads,
        };
        check_block(&source, shared_bytes, 6, self.gpu)?;
        self.gpu.program(&source)
    }

    /// Parts of K, where there are too few blocks to fill the device and K is long enough.
    fn splits(&self, tile: Tile, rows: usize) -> u32 {
        if self.operands.images != 1 {
            return 1;
        }
        let blocks = blocks(tile, rows, self.operands).max(1);
        let wanted = (WAVES * self.gpu.limits().multiprocessors).div_ceil(blocks);
        let deep = self.inner as u32 / (8 * tile.k);
        wanted.min(deep).clamp(1, 32)
    }
}

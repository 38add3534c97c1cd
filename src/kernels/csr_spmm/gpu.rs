//! The operation on GPUs: cuda/csr_spmm.cu and shaders/csr_spmm.wgsl. On NVIDIA's GPUs cuSPARSE has plain
//! products too, and is what measurements compare with.

use super::CsrLayer;
use crate::device::gpu::{Gpu, Language, Source};
use crate::error::{Error, Result};
use crate::kernels::gpu::{
    self, Argument, Operands, Packed, Stage, check_language, dispatch, panels,
};

/// Threads of a block.
const THREADS: u32 = 256;

/// How a variant computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// One column, a row for 32 threads.
    Vector,
    /// A thread for each result.
    Tile,
}

/// `csr_spmm_f32_<language>_<design>`.
pub type Variant = gpu::Variant<Design>;

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    Variant::new("csr_spmm_f32_cuda_n1", Language::Cuda, Design::Vector),
    Variant::new("csr_spmm_f32_cuda_tile", Language::Cuda, Design::Tile),
    Variant::new("csr_spmm_f32_wgsl_n1", Language::Wgsl, Design::Vector),
    Variant::new("csr_spmm_f32_wgsl_tile", Language::Wgsl, Design::Tile),
];

/// Packs a layer for the variant that `SCALPEL_KERNEL` names, else for the one that suits the operands.
///
/// # Errors
/// A bias or operands of other sizes than the weights; a forced variant that is unknown; no
/// memory.
pub fn pack(device: &dyn Gpu, layer: &CsrLayer<'_>, operands: &Operands) -> Result<Packed> {
    let one_column = operands.columns == 1 && operands.images == 1;
    let suits = |design: &Design| *design == Design::Tile || one_column;
    dispatch(device, "csr_spmm_", VARIANTS, suits, |variant| {
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
    layer: &CsrLayer<'_>,
    operands: &Operands,
) -> Result<Packed> {
    let name = variant.name;
    if variant.design == Design::Vector && (operands.columns != 1 || operands.images != 1) {
        return Err(Error::argument(name, "one column", operands.columns.to_string()));
    }
    let (entry, constants): (_, &[_]) = match variant.design {
        Design::Vector => ("csr_spmm_n1", &[("VECTOR", 1)]),
        Design::Tile => ("csr_spmm_tile", &[("TILE", 1)]),
    };
    check_language(name, variant.target, gpu)?;
    let weights = layer.weights;
    let [rows, inner] = weights.shape();
    operands.check(name, [rows, inner])?;
    let bias = crate::kernels::bias(name, layer.bias, rows)?;
    let source = Source {
        stem: "csr_spmm",
        cuda: Some(include_str!("../../../cuda/csr_spmm.cu")),
        wgsl: Some(include_str!("../../../shaders/csr_spmm.wgsl")),
        entry,
        constants,
        threads: THREADS,
    };
    let program = gpu.program(&source)?;
    let pointers = weights.row_ptr();
    let bytes = |row: usize| 4 * (pointers[row + 1] - pointers[row]) as usize;
    let mut stages = Vec::new();
    for panel in panels(name, rows, bytes, gpu)? {
        let first = pointers[panel.start];
        let stored = first as usize..pointers[panel.end] as usize;
        let own: Vec<u32> =
            pointers[panel.start..=panel.end].iter().map(|&pointer| pointer - first).collect();
        let arguments = vec![
            Argument::own(gpu, &weights.values()[stored.clone()])?,
            Argument::own(gpu, &weights.columns()[stored])?,
            Argument::own(gpu, &own)?,
            Argument::own(gpu, &bias[panel.clone()])?,
            Argument::own(gpu, &operands.x.rows)?,
            Argument::own(gpu, &operands.y.rows[panel.clone()])?,
            Argument::X,
            Argument::Y,
        ];
        let rows = panel.len() as u32;
        let blocks = rows.div_ceil(THREADS / 32);
        let grid = match variant.design {
            Design::Vector => [blocks, 1, 1],
            Design::Tile => [operands.columns.div_ceil(32), blocks, operands.images],
        };
        let mut parameters = vec![rows, inner as u32];
        parameters.extend(operands.parameters(layer.relu));
        stages.push(Stage { program: program.clone(), grid, arguments, parameters });
    }
    Packed::of_product(name, stages, operands)
}

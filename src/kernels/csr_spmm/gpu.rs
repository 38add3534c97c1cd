//! The operation through wgpu: shaders/csr_spmm.wgsl. On NVIDIA's GPUs cuSPARSE has it.

use super::Layer;
use crate::device::gpu::{self, Gpu, Language, Source};
use crate::error::Result;
use crate::kernels::gpu::{Argument, Operands, Packed, Stage, check_language, panels};

/// Threads of a block.
const THREADS: u32 = 256;

/// Packs a layer for a GPU that is driven through wgpu.
///
/// # Errors
/// Another GPU; a bias or operands of other sizes than the weights; no memory.
pub fn pack(gpu: &dyn Gpu, layer: &Layer<'_>, operands: &Operands) -> Result<Packed> {
    let (name, entry) = match operands.columns * operands.images {
        1 => ("csr_spmm_f32_wgsl_n1", "csr_spmm_n1"),
        _ => ("csr_spmm_f32_wgsl_tile", "csr_spmm_tile"),
    };
    check_language(name, Language::Wgsl, gpu)?;
    let weights = layer.weights;
    let [rows, inner] = weights.shape();
    operands.check(name, [rows, inner])?;
    let bias = crate::kernels::bias(name, layer.bias, rows)?;
    let source = Source {
        stem: "csr_spmm",
        cuda: None,
        wgsl: Some(include_str!("../../../shaders/csr_spmm.wgsl")),
        entry,
        constants: &[],
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
            Argument::Own(gpu::upload(gpu, &weights.values()[stored.clone()])?),
            Argument::Own(gpu::upload(gpu, &weights.columns()[stored])?),
            Argument::Own(gpu::upload(gpu, &own)?),
            Argument::Own(gpu::upload(gpu, &bias[panel.clone()])?),
            Argument::Own(gpu::upload(gpu, &operands.x.rows)?),
            Argument::Own(gpu::upload(gpu, &operands.y.rows[panel.clone()])?),
            Argument::X,
            Argument::Y,
        ];
        let rows = panel.len() as u32;
        let blocks = rows.div_ceil(THREADS / 32);
        let grid = match entry {
            "csr_spmm_n1" => [blocks, 1, 1],
            _ => [operands.columns.div_ceil(32), blocks, operands.images],
        };
        let mut parameters = vec![rows, inner as u32];
        parameters.extend(operands.parameters(layer.relu));
        stages.push(Stage { program: program.clone(), grid, arguments, parameters });
    }
    Packed::of_product(name, stages, operands)
}

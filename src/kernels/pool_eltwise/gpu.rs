//! The operations on GPUs: programs and grids of cuda/pool_eltwise.cu and shaders/pool_eltwise.wgsl.

use super::Op;
use crate::device::gpu::{self, Gpu, Language, Source};
use crate::error::{Error, Result};
use crate::kernels::gpu::{Argument, Packed, Stage};
use crate::kernels::layout::ImageLayout;

/// Every operation's one variant in CUDA and in WGSL.
pub const VARIANTS: [[&str; 2]; 6] = [
    ["pool_eltwise_f32_cuda_max", "pool_eltwise_f32_wgsl_max"],
    ["pool_eltwise_f32_cuda_average", "pool_eltwise_f32_wgsl_average"],
    ["pool_eltwise_f32_cuda_norm", "pool_eltwise_f32_wgsl_norm"],
    ["pool_eltwise_f32_cuda_affine", "pool_eltwise_f32_wgsl_affine"],
    ["pool_eltwise_f32_cuda_copy", "pool_eltwise_f32_wgsl_copy"],
    ["pool_eltwise_f32_cuda_max_affine", "pool_eltwise_f32_wgsl_max_affine"],
];

/// The five numbers of a layout, as a kernel takes them.
fn words(layout: &ImageLayout) -> [u32; 5] {
    let ImageLayout { offset, image_stride, channel_stride, row_stride, pixel_stride } = *layout;
    [offset, image_stride, channel_stride, row_stride, pixel_stride].map(|word| word as u32)
}

/// Threads of a block.
const THREADS: u32 = 256;

/// The variant of an operation, and its program.
fn program(op: &Op<'_>, language: Language) -> (&'static str, Source<'static>) {
    let (place, entry, constants): (_, _, &[(&'static str, u32)]) = match op {
        Op::Max(_) => (0, "pool_eltwise_pool", &[("POOL", 1), ("AVERAGE", 0)]),
        Op::Average(_) => (1, "pool_eltwise_pool", &[("POOL", 1), ("AVERAGE", 1)]),
        Op::Norm { .. } => (2, "pool_eltwise_norm", &[("NORM", 1)]),
        Op::Affine { .. } => (3, "pool_eltwise_affine", &[("AFFINE", 1)]),
        Op::Copy { .. } => (4, "pool_eltwise_copy", &[("COPY", 1)]),
        Op::MaxAffine { .. } => (5, "pool_eltwise_max_affine", &[("MAX_AFFINE", 1)]),
    };
    let name = match language {
        Language::Cuda => VARIANTS[place][0],
        Language::Wgsl => VARIANTS[place][1],
    };
    let source = Source {
        stem: "pool_eltwise",
        cuda: Some(include_str!("../../../cuda/pool_eltwise.cu")),
        wgsl: Some(include_str!("../../../shaders/pool_eltwise.wgsl")),
        entry,
        constants,
        threads: THREADS,
    };
    (name, source)
}

/// Packs an operation on `images` of the shape `input`, from where `x` says to where `y` says.
///
/// # Errors
/// Windows that do not fit, a scale or shift of another length, more than 32-bit offsets reach.
pub fn pack(
    gpu: &dyn Gpu,
    op: &Op<'_>,
    input: [usize; 3],
    images: usize,
    [x, y]: [&ImageLayout; 2],
) -> Result<Packed> {
    op.check(input)?;
    let [channels, height, width] = input;
    let [rows, columns] = op.output([height, width]);
    let floats = [x.floats(input, images), y.floats([channels, rows, columns], images)];
    if floats.iter().any(|&count| u32::try_from(count).is_err()) {
        let expected = "planes of fewer than 2^32 floats";
        return Err(Error::argument("pool_eltwise", expected, format!("{floats:?}")));
    }
    let (name, source) = program(op, gpu.language());
    let (mut arguments, mut relu, mut alpha_beta) = (Vec::new(), false, [0.0_f32; 2]);
    match *op {
        Op::Affine { scale, shift, relu: own } => {
            relu = own;
            arguments.push(Argument::Own(gpu::upload(gpu, scale)?));
            arguments.push(Argument::Own(gpu::upload(gpu, shift)?));
        }
        Op::MaxAffine { scale, shift, .. } => {
            arguments.push(Argument::Own(gpu::upload(gpu, scale)?));
            arguments.push(Argument::Own(gpu::upload(gpu, shift)?));
        }
        Op::Norm { alpha, beta, .. } => alpha_beta = [alpha, beta],
        Op::Copy { relu: own } => relu = own,
        Op::Max(_) | Op::Average(_) => {}
    }
    arguments.extend([Argument::X, Argument::Y]);
    let window = op.window();
    let sizes =
        [channels, rows, columns, height, width, window.size, window.stride, window.padding];
    let mut parameters: Vec<u32> = sizes.iter().map(|&size| size as u32).collect();
    parameters.push(u32::from(relu));
    parameters.extend(alpha_beta.map(f32::to_bits));
    parameters.extend(words(x).into_iter().chain(words(y)));
    let pixels = (channels * rows * columns) as u32;
    // A grid's side is limited, so that large planes fold their blocks into two.
    let blocks = pixels.div_ceil(THREADS);
    let along = blocks.min(gpu.limits().grid);
    let grid = [along, blocks.div_ceil(along.max(1)), images as u32];
    let stage = Stage { program: gpu.program(&source)?, grid, arguments, parameters };
    Ok(Packed::new(name, vec![stage], floats))
}

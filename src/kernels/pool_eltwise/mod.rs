//! What lies between the products of a network: pooling, response normalisation, batch normalisation with
//! fixed statistics, and copies into another layout. With them, a whole network stays on its device. Here
//! is what all devices share, and the host side of GPUs; [`cpu`] is the CPU's.

pub mod cpu;
mod lanes;
mod reductions;
pub mod reference;
#[cfg(test)]
mod tests;
mod windows;

use super::gpu::{Argument, Packed, Stage};
use super::layout::ImageLayout;
use crate::device::gpu::{self, Gpu, Language, Source};
use crate::error::{Error, Result};

/// A square window that moves over a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub size: usize,
    /// Step between two windows, in pixels.
    pub stride: usize,
    /// Border on each side; at most half the size.
    pub padding: usize,
}

/// What becomes of the pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op<'a> {
    /// The maximum of each window; the border never wins.
    Max(Window),
    /// The mean of each window, border counted in.
    Average(Window),
    /// The maximum of scale x + shift over each window: batch normalisation with fixed statistics, folded
    /// into the pooling after it. The border never wins.
    MaxAffine {
        /// The window.
        window: Window,
        /// An entry a channel.
        scale: &'a [f32],
        /// An entry a channel.
        shift: &'a [f32],
    },
    /// x / (1 + alpha m)^beta, m the mean of x^2 over a window of `size` x `size` of the same channel,
    /// border counted in.
    Norm {
        /// Height and width of the window; odd.
        size: usize,
        /// Weight of the mean square.
        alpha: f32,
        /// Exponent.
        beta: f32,
    },
    /// scale x + shift, of each channel.
    Affine {
        /// An entry a channel.
        scale: &'a [f32],
        /// An entry a channel.
        shift: &'a [f32],
        /// Whether negative results become 0.
        relu: bool,
    },
    /// The pixels, elsewhere.
    Copy {
        /// Whether negative ones become 0.
        relu: bool,
    },
}

impl Op<'_> {
    fn window(&self) -> Window {
        match *self {
            Self::Max(window) | Self::Average(window) | Self::MaxAffine { window, .. } => window,
            Self::Norm { size, .. } => Window { size, stride: 1, padding: size / 2 },
            Self::Affine { .. } | Self::Copy { .. } => Window { size: 1, stride: 1, padding: 0 },
        }
    }

    /// Height and width of the results on planes of these; 0 where no window fits.
    pub fn output(&self, input: [usize; 2]) -> [usize; 2] {
        let Window { size, stride, padding } = self.window();
        input.map(|length| {
            (length + 2 * padding).checked_sub(size).map_or(0, |room| room / stride.max(1) + 1)
        })
    }

    fn check(&self, [channels, height, width]: [usize; 3]) -> Result<()> {
        let window = self.window();
        let odd = !matches!(self, Self::Norm { size, .. } if size % 2 == 0);
        let pads = 2 * window.padding <= window.size && window.stride > 0 && window.size > 0;
        let fits = self.output([height, width]).iter().all(|&length| length > 0);
        if !(pads && fits && odd) {
            let expected = "windows that fit, padded by at most half their size, and a stride";
            return Err(Error::argument("pool_eltwise", expected, format!("{window:?}")));
        }
        if let Self::Affine { scale, shift, .. } | Self::MaxAffine { scale, shift, .. } = self
            && [scale.len(), shift.len()] != [channels; 2]
        {
            let found = format!("{} and {}", scale.len(), shift.len());
            let expected = format!("a scale and a shift for {channels} channels");
            return Err(Error::argument("pool_eltwise", expected, found));
        }
        Ok(())
    }
}

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
    let (place, entry, constants): (_, _, &[(&'static str, u32)]) = match op {
        Op::Max(_) => (0, "pool_eltwise_pool", &[("POOL", 1), ("AVERAGE", 0)]),
        Op::Average(_) => (1, "pool_eltwise_pool", &[("POOL", 1), ("AVERAGE", 1)]),
        Op::Norm { .. } => (2, "pool_eltwise_norm", &[("NORM", 1)]),
        Op::Affine { .. } => (3, "pool_eltwise_affine", &[("AFFINE", 1)]),
        Op::Copy { .. } => (4, "pool_eltwise_copy", &[("COPY", 1)]),
        Op::MaxAffine { .. } => (5, "pool_eltwise_max_affine", &[("MAX_AFFINE", 1)]),
    };
    let name = match gpu.language() {
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

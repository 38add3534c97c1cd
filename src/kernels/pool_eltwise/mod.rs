//! What lies between the products of a network: pooling, response normalisation, batch normalisation with
//! fixed statistics, and copies into another layout. With them, a whole network stays on its device.

pub mod gpu;
mod lanes;
mod micro_kernel;
mod portable;
mod reductions;
pub mod reference;
mod small_windows;
#[cfg(test)]
mod tests;
mod windows;
#[cfg(target_arch = "x86_64")]
mod x86_avx2;
#[cfg(target_arch = "x86_64")]
mod x86_avx512;

use std::ops::Range;

use self::reductions::{AffineMaximum, Mean, Normalised};
use self::windows::Windows;
use super::layout::ImageLayout;
use super::parallel::{parallel_for, task_count};
use super::registry::{self, Isa};
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

/// Pixels that a thread reads in a microsecond.
const PER_MICROSECOND: usize = 7_000;

/// Computes some channels; y starts with the first of them.
///
/// # Safety
/// The processor has what the function was compiled for.
type ChannelsFunction = unsafe fn(&PoolEltwise, x: &[f32], channels: Range<usize>, y: &mut [f32]);

/// How a variant computes all operations.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// The function; `None` where the processor lacks the instructions.
    function: fn() -> Option<ChannelsFunction>,
}

/// `pool_eltwise_f32_<instruction set>`.
pub type Variant = registry::Variant<Design>;

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant::new("pool_eltwise_f32_avx512", Isa::Avx512, Design { function: x86_avx512::function }),
    #[cfg(target_arch = "x86_64")]
    Variant::new("pool_eltwise_f32_avx2", Isa::Avx2, Design { function: x86_avx2::function }),
    Variant::new(
        "pool_eltwise_f32_portable",
        Isa::Portable,
        Design { function: portable::function },
    ),
];

/// What is done to the pixels, with the values it needs.
#[derive(Clone, Debug)]
enum Work {
    Maximum(Windows),
    /// With one for each channel.
    AffineMaximum(Windows, Vec<AffineMaximum>),
    Mean(Windows, Mean),
    Normalise(Windows, Normalised),
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
        relu: bool,
    },
    Copy {
        relu: bool,
    },
}

/// An operation on planes of one shape, ready to run.
#[derive(Debug)]
pub struct PoolEltwise {
    work: Work,
    input: [usize; 3],
    output: [usize; 2],
    maps: [ImageLayout; 2],
    variant: &'static Variant,
    function: ChannelsFunction,
}

impl PoolEltwise {
    /// Prepares an operation on one image of the shape `input` at a time, from where `x` says to where `y`
    /// says, for the variant that `SCALPEL_KERNEL` names, else for the first of [`VARIANTS`] that this
    /// processor has.
    ///
    /// # Errors
    /// Windows that do not fit, a scale or shift of another length; pixels of x that are no neighbours,
    /// planes of y that overlap; a forced variant that is unknown or not for this processor.
    pub fn new(op: &Op<'_>, input: [usize; 3], maps: [ImageLayout; 2]) -> Result<Self> {
        // A name of a GPU's variant, which starts the same way, is none of ours.
        match registry::forced(VARIANTS, "pool_eltwise_f32_") {
            Ok(Some(variant)) => Self::with(variant, op, input, maps),
            _ => {
                registry::first_available(VARIANTS, |variant| Self::with(variant, op, input, maps))
            }
        }
    }

    /// As [`PoolEltwise::new`], for one variant.
    ///
    /// # Errors
    /// As [`PoolEltwise::new`].
    pub fn with(
        variant: &'static Variant,
        op: &Op<'_>,
        input: [usize; 3],
        maps: [ImageLayout; 2],
    ) -> Result<Self> {
        op.check(input)?;
        let [channels, height, width] = input;
        let output = op.output([height, width]);
        let [x, y] = maps;
        let extent = ImageLayout { offset: 0, ..y }.floats([1, output[0], output[1]], 1);
        if x.pixel_stride != 1
            || (channels > 1 && extent > y.channel_stride)
            || y.channel_stride == 0
        {
            let expected = "pixels of x side by side, and planes of y apart from each other";
            return Err(Error::argument(variant.name, expected, format!("{maps:?}")));
        }
        let windows = || Windows::new(op.window(), [height, width], output, &maps);
        let area = op.window().size.pow(2) as f32;
        let work = match *op {
            Op::Max(_) => Work::Maximum(windows()),
            Op::Average(_) => Work::Mean(windows(), Mean { share: 1.0 / area }),
            Op::MaxAffine { scale, shift, .. } => {
                let each = scale.iter().zip(shift);
                let each = each.map(|(&scale, &shift)| AffineMaximum::new(scale, shift));
                Work::AffineMaximum(windows(), each.collect())
            }
            Op::Norm { alpha, beta, .. } => {
                Work::Normalise(windows(), Normalised { share: alpha / area, beta })
            }
            Op::Affine { scale, shift, relu } => {
                Work::Affine { scale: scale.to_vec(), shift: shift.to_vec(), relu }
            }
            Op::Copy { relu } => Work::Copy { relu },
        };
        let function = (variant.design.function)().ok_or_else(|| variant.unavailable())?;
        Ok(Self { work, input, output, maps, variant, function })
    }

    /// The variant that it was prepared for.
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// Computes one image. What lies between the pixels of y stays as it is.
    ///
    /// # Errors
    /// Slices that are too short for the maps.
    pub fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let [channels, ..] = self.input;
        let [rows, columns] = self.output;
        let [from, to] = &self.maps;
        let needed = [from.floats(self.input, 1), to.floats([channels, rows, columns], 1)];
        Error::check_room(self.variant.name, "x", needed[0], x.len())?;
        Error::check_room(self.variant.name, "y", needed[1], y.len())?;
        if channels * rows * columns == 0 {
            return Ok(());
        }
        let y = &mut y[to.offset..];
        // SAFETY (of both calls): `with` has found what the function needs.
        let run = |channels: Range<usize>, y: &mut [f32]| unsafe {
            (self.function)(self, x, channels, y);
        };
        let parts = task_count(self.reads(), PER_MICROSECOND);
        if parts == 1 || channels == 1 {
            run(0..channels, y);
        } else {
            let share = channels.div_ceil(parts);
            let starts = (0..channels).step_by(share);
            parallel_for(
                starts.zip(y.chunks_mut(share * to.channel_stride)).collect(),
                |(start, y)| {
                    run(start..channels.min(start + share), y);
                },
            );
        }
        Ok(())
    }

    /// Pixels that are read, each as often as a row of windows reads it.
    fn reads(&self) -> usize {
        let times = match &self.work {
            Work::Maximum(windows) | Work::AffineMaximum(windows, _) | Work::Mean(windows, _) => {
                windows.size()
            }
            Work::Normalise(windows, _) => 4 * windows.size(),
            Work::Affine { .. } | Work::Copy { .. } => 1,
        };
        self.input[0] * self.output[0] * self.input[2] * times
    }
}

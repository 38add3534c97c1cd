//! The operations on a CPU, one image at a time, compiled for each instruction set.

use std::cell::Cell;
use std::ops::Range;

use super::Op;
use super::lanes::Lanes;
use super::reductions::{AffineMaximum, Maximum, Mean, Normalised, Reduction};
use super::windows::{RowScratch, Windows};
#[cfg(target_arch = "x86_64")]
use crate::device::cpu::{Avx2, Avx512};
use crate::error::{Error, Result};
use crate::kernels::activate;
use crate::kernels::layout::ImageLayout;
use crate::kernels::parallel::{parallel_for, task_count};
use crate::kernels::registry::{self, Isa};
use crate::kernels::simd::Portable;

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
    Variant::new("pool_eltwise_f32_avx512", Isa::Avx512, Design { function: avx512 }),
    #[cfg(target_arch = "x86_64")]
    Variant::new("pool_eltwise_f32_avx2", Isa::Avx2, Design { function: avx2 }),
    Variant::new("pool_eltwise_f32_portable", Isa::Portable, Design { function: portable }),
];

fn portable() -> Option<ChannelsFunction> {
    Some(|kernel, x, channels, y| kernel.channels(Portable, x, channels, y))
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> Option<ChannelsFunction> {
    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn channels(kernel: &PoolEltwise, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
        // SAFETY: the processor has them, as this function asks of whoever calls it.
        kernel.channels(unsafe { Avx2::promised() }, x, channels, y);
    }
    Avx2::new().map(|_| channels as ChannelsFunction)
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> Option<ChannelsFunction> {
    /// # Safety
    /// The processor has AVX-512F.
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn channels(kernel: &PoolEltwise, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
        // SAFETY: the processor has AVX-512F, as this function asks of whoever calls it, and so AVX2.
        kernel.channels(unsafe { Avx2::promised() }, x, channels, y);
    }
    Avx512::new().map(|_| channels as ChannelsFunction)
}

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

    #[inline(always)]
    fn channels(&self, lanes: impl Lanes, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
        match &self.work {
            Work::Maximum(windows) => {
                self.reduce(lanes, windows, |_| Maximum, x, channels, y);
            }
            Work::AffineMaximum(windows, each) => {
                self.reduce(lanes, windows, |channel| each[channel], x, channels, y);
            }
            &Work::Mean(ref windows, mean) => {
                self.reduce(lanes, windows, |_| mean, x, channels, y);
            }
            &Work::Normalise(ref windows, normalised) => {
                self.reduce(lanes, windows, |_| normalised, x, channels, y);
            }
            Work::Affine { scale, shift, relu } => {
                for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].channel_stride)) {
                    let (scale, shift) = (scale[channel], shift[channel]);
                    self.each(self.plane(x, channel), y, |x| activate(scale * x + shift, *relu));
                }
            }
            &Work::Copy { relu } => {
                for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].channel_stride)) {
                    self.each(self.plane(x, channel), y, |x| activate(x, relu));
                }
            }
        }
    }

    /// The pixels of x from a channel's first on.
    fn plane<'a>(&self, x: &'a [f32], channel: usize) -> &'a [f32] {
        &x[self.maps[0].offset + channel * self.maps[0].channel_stride..]
    }

    /// Reduces the windows of some channels, each by what `reduction` says.
    #[inline(always)]
    fn reduce<L: Lanes, R: Reduction<L>>(
        &self,
        lanes: L,
        windows: &Windows,
        reduction: impl Fn(usize) -> R,
        x: &[f32],
        channels: Range<usize>,
        y: &mut [f32],
    ) {
        let mut lines = ROW_SCRATCH.take();
        windows.clear(&mut lines, R::BORDER);
        for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].channel_stride)) {
            let reduction = (lanes, reduction(channel));
            windows.reduce(reduction, self.plane(x, channel), y, &mut lines);
        }
        ROW_SCRATCH.set(lines);
    }

    /// Makes each pixel of y from that of x.
    #[inline(always)]
    fn each(&self, x: &[f32], y: &mut [f32], value: impl Fn(f32) -> f32) {
        let [from, to] = &self.maps;
        let [rows, columns] = self.output;
        for row in 0..rows {
            let x = &x[row * from.row_stride..][..columns];
            let y = &mut y[row * to.row_stride..];
            if to.pixel_stride == 1 {
                y[..columns].iter_mut().zip(x).for_each(|(y, &x)| *y = value(x));
            } else {
                y.iter_mut().step_by(to.pixel_stride).zip(x).for_each(|(y, &x)| *y = value(x));
            }
        }
    }
}

thread_local! {
    /// Kept from call to call.
    static ROW_SCRATCH: Cell<RowScratch> = const { Cell::new(RowScratch::new()) };
}

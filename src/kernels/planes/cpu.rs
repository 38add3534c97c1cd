//! The operations on a CPU, one image at a time: one loop over rows, compiled for each instruction set.
//!
//! A window is reduced first down its columns, into one line with the border's values on both sides, and
//! then along that line, so that both steps are of whole rows and vectorise by themselves. A scale below
//! 0 under a maximum is a maximum of negated pixels.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::{Map, Op, Window};
use crate::error::{Error, Result};
use crate::kernels::{activate, unavailable};

/// Pixels read from which two threads are faster than one: some 70 us of work.
const WORTH_A_THREAD: usize = 1_000_000;

/// Computes some channels; y starts with the first of them.
///
/// # Safety
/// The processor has what the function was compiled for.
type ChannelsFunction = unsafe fn(&Planes, x: &[f32], channels: Range<usize>, y: &mut [f32]);

/// One instruction set's implementation of all operations.
#[derive(Debug)]
pub struct Variant {
    /// `planes_f32_<instruction set>`.
    pub name: &'static str,
    /// What the processor must have, for the message where it has it not.
    pub needs: &'static str,
    function: fn() -> Option<ChannelsFunction>,
}

/// Every variant, the preferred ones first.
pub const VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant { name: "planes_f32_avx512", needs: "avx512f", function: avx512 },
    #[cfg(target_arch = "x86_64")]
    Variant { name: "planes_f32_avx2", needs: "avx2+fma", function: avx2 },
    Variant {
        name: "planes_f32_portable",
        needs: "nothing",
        function: || Some(|planes, x, channels, y| planes.channels(x, channels, y)),
    },
];

#[cfg(target_arch = "x86_64")]
fn avx2() -> Option<ChannelsFunction> {
    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn channels(planes: &Planes, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
        planes.channels(x, channels, y);
    }
    crate::device::cpu::Avx2::new().map(|_| channels as ChannelsFunction)
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> Option<ChannelsFunction> {
    /// # Safety
    /// The processor has AVX-512F.
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn channels(planes: &Planes, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
        planes.channels(x, channels, y);
    }
    crate::device::cpu::Avx512::new().map(|_| channels as ChannelsFunction)
}

/// What is done to a row, with the values it needs.
#[derive(Clone, Debug)]
enum Work {
    Max(Window),
    Average(Window),
    /// Per channel: the sign that pixels are taken with, and the scale and shift of their maximum.
    MaxAffine(Window, Vec<[f32; 3]>),
    Norm { size: usize, alpha: f32, beta: f32 },
    Affine { scale: Vec<f32>, shift: Vec<f32>, relu: bool },
    Copy { relu: bool },
}

/// An operation on planes of one shape, ready to run.
#[derive(Debug)]
pub struct Planes {
    work: Work,
    input: [usize; 3],
    output: [usize; 2],
    maps: [Map; 2],
    variant: &'static Variant,
    function: ChannelsFunction,
}

impl Planes {
    /// Prepares an operation on one image of the shape `input` at a time, from where `x` says to where `y`
    /// says, for the variant that `SCALPEL_KERNEL` names, else for the first of [`VARIANTS`] that this
    /// processor has.
    ///
    /// # Errors
    /// Windows that do not fit, a scale or shift of another length; pixels of x that are no neighbours,
    /// planes of y that overlap; a forced variant that is unknown or not for this processor.
    pub fn new(op: &Op<'_>, input: [usize; 3], maps: [Map; 2]) -> Result<Self> {
        // A name of a GPU's variant, which starts the same way, is none of ours.
        let forced = crate::kernels::forced("planes_f32_")
            .filter(|name| VARIANTS.iter().any(|variant| variant.name == *name));
        let all = VARIANTS.iter();
        let fits = all.filter(|variant| forced.as_ref().is_none_or(|name| variant.name == *name));
        crate::kernels::first_available(fits, |variant| Self::with(variant, op, input, maps))
    }

    /// As [`Planes::new`], for one variant.
    ///
    /// # Errors
    /// As [`Planes::new`].
    pub fn with(
        variant: &'static Variant,
        op: &Op<'_>,
        input: [usize; 3],
        maps: [Map; 2],
    ) -> Result<Self> {
        op.check(input)?;
        let [channels, height, width] = input;
        let output = op.output([height, width]);
        let [x, y] = maps;
        let extent = Map { start: 0, ..y }.floats([1, output[0], output[1]], 1);
        if x.step != 1 || (channels > 1 && extent > y.plane) || y.plane == 0 {
            let expected = "pixels of x side by side, and planes of y apart from each other";
            return Err(Error::argument(variant.name, expected, format!("{maps:?}")));
        }
        let work = match *op {
            Op::Max(window) => Work::Max(window),
            Op::Average(window) => Work::Average(window),
            Op::MaxAffine { window, scale, shift } => {
                let signed = |(&scale, &shift): (&f32, &f32)| {
                    let sign = if scale < 0.0 { -1.0 } else { 1.0 };
                    [sign, sign * scale, shift]
                };
                Work::MaxAffine(window, scale.iter().zip(shift).map(signed).collect())
            }
            Op::Norm { size, alpha, beta } => Work::Norm { size, alpha, beta },
            Op::Affine { scale, shift, relu } => {
                Work::Affine { scale: scale.to_vec(), shift: shift.to_vec(), relu }
            }
            Op::Copy { relu } => Work::Copy { relu },
        };
        let function =
            (variant.function)().ok_or_else(|| unavailable(variant.name, variant.needs))?;
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
        if x.len() < needed[0] || y.len() < needed[1] {
            let expected = format!("{} floats of x and {} of y", needed[0], needed[1]);
            let found = format!("{} and {}", x.len(), y.len());
            return Err(Error::argument(self.variant.name, expected, found));
        }
        if channels * rows * columns == 0 {
            return Ok(());
        }
        let y = &mut y[to.start..];
        // SAFETY (of both calls): `with` has found what the function needs.
        let run = |channels: Range<usize>, y: &mut [f32]| unsafe {
            (self.function)(self, x, channels, y);
        };
        let threads = rayon::current_num_threads();
        if threads == 1 || channels == 1 || self.reads() < WORTH_A_THREAD {
            run(0..channels, y);
        } else {
            let share = channels.div_ceil(threads);
            let parts = y.par_chunks_mut(share * to.plane).enumerate();
            parts.filter(|(index, _)| index * share < channels).for_each(|(index, y)| {
                run(index * share..channels.min((index + 1) * share), y);
            });
        }
        Ok(())
    }

    /// Pixels that are read, each as often as a row of windows reads it.
    fn reads(&self) -> usize {
        let size = match self.work {
            Work::Max(window) | Work::Average(window) | Work::MaxAffine(window, _) => window.size,
            Work::Norm { size, .. } => 4 * size,
            Work::Affine { .. } | Work::Copy { .. } => 1,
        };
        self.input[0] * self.output[0] * self.input[2] * size
    }

    #[inline(always)]
    fn channels(&self, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
        let mut lines = LINES.take();
        for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].plane)) {
            let x = &x[self.maps[0].start + channel * self.maps[0].plane..];
            let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
            match &self.work {
                Work::Max(window) => {
                    let border = f32::NEG_INFINITY;
                    self.windows(window, x, y, &mut lines, border, |x| x, larger, |v| v);
                }
                Work::MaxAffine(window, signed) => {
                    let [sign, scale, shift] = signed[channel];
                    let (first, last) = (|x: f32| sign * x, |v: f32| scale * v + shift);
                    let border = f32::NEG_INFINITY;
                    self.windows(window, x, y, &mut lines, border, first, larger, last);
                }
                Work::Average(window) => {
                    let share = 1.0 / (window.size * window.size) as f32;
                    let last = |sum: f32| share * sum;
                    self.windows(window, x, y, &mut lines, 0.0, |x| x, |a, b| a + b, last);
                }
                &Work::Norm { size, alpha, beta } => {
                    let window = Window { size, stride: 1, padding: size / 2 };
                    let share = alpha / (size * size) as f32;
                    let (first, add) = (|x: f32| x * x, |a: f32, b: f32| a + b);
                    if beta == 0.75 {
                        let scale = |sum: f32| {
                            let root = (1.0 + share * sum).sqrt();
                            1.0 / (root * root.sqrt())
                        };
                        self.windows(&window, x, y, &mut lines, 0.0, first, add, scale);
                    } else {
                        let scale = |sum: f32| (1.0 + share * sum).powf(-beta);
                        self.windows(&window, x, y, &mut lines, 0.0, first, add, scale);
                    }
                    self.each(x, y, |scale, x| x * scale);
                }
                Work::Affine { scale, shift, relu } => {
                    let (scale, shift) = (scale[channel], shift[channel]);
                    self.each(x, y, |_, x| activate(scale * x + shift, *relu));
                }
                &Work::Copy { relu } => self.each(x, y, |_, x| activate(x, relu)),
            }
        }
        LINES.set(lines);
    }

    /// Combines each pixel of x with what y holds at its place.
    #[inline(always)]
    fn each(&self, x: &[f32], y: &mut [f32], value: impl Fn(f32, f32) -> f32) {
        let [from, to] = &self.maps;
        let [rows, columns] = self.output;
        for row in 0..rows {
            let x = &x[row * from.pitch..][..columns];
            let y = &mut y[row * to.pitch..];
            if to.step == 1 {
                y[..columns].iter_mut().zip(x).for_each(|(y, &x)| *y = value(*y, x));
            } else {
                y.iter_mut().step_by(to.step).zip(x).for_each(|(y, &x)| *y = value(*y, x));
            }
        }
    }

    /// Reduces each window of a plane: `first` makes of a pixel what is reduced, `join` joins two of them,
    /// and `last` makes of the whole window's what is written. Beyond the plane lies `border`.
    #[expect(clippy::too_many_arguments, reason = "three closures that must be inlined")]
    #[inline(always)]
    fn windows(
        &self,
        window: &Window,
        x: &[f32],
        y: &mut [f32],
        lines: &mut Lines,
        border: f32,
        first: impl Fn(f32) -> f32,
        join: impl Fn(f32, f32) -> f32,
        last: impl Fn(f32) -> f32,
    ) {
        let &Window { size, stride, padding } = window;
        let ([_, height, width], [rows, columns], [from, to]) =
            (self.input, self.output, &self.maps);
        let Lines { reduced, results } = lines;
        reduced.clear();
        // Pairs are read up to one behind the last window.
        let reach = (columns * stride + size).max(width + 2 * padding) + 2;
        reduced.resize(reach, border);
        results.clear();
        results.resize(columns, 0.0);
        for row in 0..rows {
            let top = row * stride;
            let inside = top.saturating_sub(padding)..(top + size - padding).min(height);
            let middle = &mut reduced[padding..padding + width];
            let mut pixels = inside.map(|row| &x[row * from.pitch..][..width]);
            match pixels.next() {
                None => middle.fill(border),
                Some(pixels) => {
                    middle.iter_mut().zip(pixels).for_each(|(sum, &x)| *sum = first(x));
                }
            }
            for pixels in pixels {
                middle.iter_mut().zip(pixels).for_each(|(sum, &x)| *sum = join(*sum, first(x)));
            }
            let (pairs, _) = reduced.as_chunks::<2>();
            match (stride, size) {
                (2, 2) => {
                    results.iter_mut().zip(pairs).for_each(|(y, &[a, b])| *y = join(a, b));
                }
                (2, 3) => {
                    let next = &pairs[1..];
                    for ((y, &[a, b]), &[c, _]) in results.iter_mut().zip(pairs).zip(next) {
                        *y = join(join(a, b), c);
                    }
                }
                (1, _) => {
                    results.copy_from_slice(&reduced[..columns]);
                    for place in 1..size {
                        let shifted = &reduced[place..place + columns];
                        results.iter_mut().zip(shifted).for_each(|(y, &x)| *y = join(*y, x));
                    }
                }
                _ => {
                    for (y, start) in results.iter_mut().zip((0..).step_by(stride)) {
                        let (head, tail) = (reduced[start], &reduced[start + 1..start + size]);
                        *y = tail.iter().fold(head, |sum, &x| join(sum, x));
                    }
                }
            }
            let y = &mut y[row * to.pitch..];
            if to.step == 1 {
                y[..columns].iter_mut().zip(&*results).for_each(|(y, &sum)| *y = last(sum));
            } else {
                let y = y.iter_mut().step_by(to.step);
                y.zip(&*results).for_each(|(y, &sum)| *y = last(sum));
            }
        }
    }
}

/// A row of windows reduced down their columns, and its results.
#[derive(Debug, Default)]
struct Lines {
    reduced: Vec<f32>,
    results: Vec<f32>,
}

thread_local! {
    /// Kept from call to call.
    static LINES: Cell<Lines> = const { Cell::new(Lines { reduced: Vec::new(), results: Vec::new() }) };
}

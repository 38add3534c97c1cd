//! The operations on a CPU, one image at a time: one loop over rows, compiled for each instruction set.
//!
//! A window is reduced first down its columns, into one line with the border's values on both sides, and
//! then along that line, so that both steps are of whole rows and vectorise by themselves. A scale below
//! 0 under a maximum is a maximum of negated pixels.

use std::cell::Cell;
use std::ops::Range;

use super::{Map, Op, Window};
use crate::error::{Error, Result};
use crate::kernels::sharing::{parts, share_out};
use crate::kernels::{activate, unavailable};

/// Pixels that a thread reads in a microsecond.
const PER_MICROSECOND: usize = 5_000;

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
    Norm {
        size: usize,
        alpha: f32,
        beta: f32,
    },
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
        let parts = parts(self.reads(), PER_MICROSECOND);
        if parts == 1 || channels == 1 {
            run(0..channels, y);
        } else {
            let share = channels.div_ceil(parts);
            let starts = (0..channels).step_by(share);
            share_out(starts.zip(y.chunks_mut(share * to.plane)).collect(), |(start, y)| {
                run(start..channels.min(start + share), y);
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
            let larger = |a: f32, b: f32| {
                // The maximum as an instruction: b where either is no number.
                let larger = if a > b { a } else { b };
                if a.is_nan() { a } else { larger }
            };
            match &self.work {
                Work::Max(window) => {
                    let border = f32::NEG_INFINITY;
                    self.windows::<false>(
                        window,
                        x,
                        y,
                        &mut lines,
                        border,
                        |x| x,
                        larger,
                        |v, _| v,
                    );
                }
                Work::MaxAffine(window, signed) => {
                    let [sign, scale, shift] = signed[channel];
                    let (first, last) = (|x: f32| sign * x, |v: f32, _| scale * v + shift);
                    let border = f32::NEG_INFINITY;
                    self.windows::<false>(window, x, y, &mut lines, border, first, larger, last);
                }
                Work::Average(window) => {
                    let share = 1.0 / (window.size * window.size) as f32;
                    let (add, last) = (|a: f32, b: f32| a + b, |sum: f32, _| share * sum);
                    self.windows::<false>(window, x, y, &mut lines, 0.0, |x| x, add, last);
                }
                &Work::Norm { size, alpha, beta } => {
                    let window = Window { size, stride: 1, padding: size / 2 };
                    let share = alpha / (size * size) as f32;
                    let (first, add) = (|x: f32| x * x, |a: f32, b: f32| a + b);
                    if beta == 0.75 {
                        let last = |sum: f32, x: f32| {
                            let root = (1.0 + share * sum).sqrt();
                            x / (root * root.sqrt())
                        };
                        self.windows::<true>(&window, x, y, &mut lines, 0.0, first, add, last);
                    } else {
                        let last = |sum: f32, x: f32| x / (1.0 + share * sum).powf(beta);
                        self.windows::<true>(&window, x, y, &mut lines, 0.0, first, add, last);
                    }
                }
                Work::Affine { scale, shift, relu } => {
                    let (scale, shift) = (scale[channel], shift[channel]);
                    self.each(x, y, |x| activate(scale * x + shift, *relu));
                }
                &Work::Copy { relu } => self.each(x, y, |x| activate(x, relu)),
            }
        }
        LINES.set(lines);
    }

    /// Makes each pixel of y from that of x.
    #[inline(always)]
    fn each(&self, x: &[f32], y: &mut [f32], value: impl Fn(f32) -> f32) {
        let [from, to] = &self.maps;
        let [rows, columns] = self.output;
        for row in 0..rows {
            let x = &x[row * from.pitch..][..columns];
            let y = &mut y[row * to.pitch..];
            if to.step == 1 {
                y[..columns].iter_mut().zip(x).for_each(|(y, &x)| *y = value(x));
            } else {
                y.iter_mut().step_by(to.step).zip(x).for_each(|(y, &x)| *y = value(x));
            }
        }
    }

    /// Reduces each window of a plane: `first` makes of a pixel what is reduced, `join` joins two of them,
    /// and `last` makes of the whole window's what is written; it is given the window's own pixel too if
    /// `OWN`, where there is one for each window. Beyond the plane lies `border`.
    ///
    /// No loop writes where it reads: what is then a conditional store would stall every load behind it. And
    /// all rows are reduced down their columns before the first is along: a load that straddles two stores
    /// has to wait until they are through.
    #[expect(clippy::too_many_arguments, reason = "three closures that must be inlined")]
    #[inline(always)]
    fn windows<const OWN: bool>(
        &self,
        window: &Window,
        x: &[f32],
        y: &mut [f32],
        lines: &mut Lines,
        border: f32,
        first: impl Fn(f32) -> f32,
        join: impl Fn(f32, f32) -> f32,
        last: impl Fn(f32, f32) -> f32,
    ) {
        let &Window { size, stride, padding } = window;
        let ([_, height, width], [rows, columns], [from, to]) =
            (self.input, self.output, &self.maps);
        let Lines { reduced, other, results } = lines;
        // Pairs are read up to one behind the last window.
        let reach = (columns * stride + size).max(width + 2 * padding) + 2;
        reduced.clear();
        reduced.resize(rows * reach, border);
        other.resize(width, border);
        results.resize(columns, 0.0);
        for (row, line) in reduced.chunks_exact_mut(reach).enumerate() {
            let top = row * stride;
            let inside = top.saturating_sub(padding)..(top + size - padding).min(height);
            let pixels = |row: usize| &x[row * from.pitch..][..width];
            let middle = &mut line[padding..padding + width];
            let start = inside.start;
            match inside.len() {
                0 => middle.fill(border),
                1 => middle.iter_mut().zip(pixels(start)).for_each(|(y, &a)| *y = first(a)),
                2 => {
                    let both = pixels(start).iter().zip(pixels(start + 1));
                    let both = middle.iter_mut().zip(both);
                    both.for_each(|(y, (&a, &b))| *y = join(first(a), first(b)));
                }
                _ => {
                    let three = pixels(start).iter().zip(pixels(start + 1));
                    let three = middle.iter_mut().zip(three.zip(pixels(start + 2)));
                    three.for_each(|(y, ((&a, &b), &c))| {
                        *y = join(join(first(a), first(b)), first(c));
                    });
                }
            }
            for row in inside.skip(3) {
                other[..width].copy_from_slice(middle);
                let sums = middle.iter_mut().zip(other.iter().zip(pixels(row)));
                sums.for_each(|(y, (&sum, &x))| *y = join(sum, first(x)));
            }
        }
        for (row, reduced) in reduced.chunks_exact(reach).enumerate() {
            let y = &mut y[row * to.pitch..];
            // Pixels that lie apart are written by a pass of their own.
            let out = if to.step == 1 { &mut y[..columns] } else { &mut results[..] };
            let (pairs, _) = reduced.as_chunks::<2>();
            match (stride, size) {
                (2, 2) => {
                    out.iter_mut().zip(pairs).for_each(|(y, &[a, b])| *y = last(join(a, b), 0.0));
                }
                (2, 3) => {
                    let next = &pairs[1..];
                    for ((y, &[a, b]), &[c, _]) in out.iter_mut().zip(pairs).zip(next) {
                        *y = last(join(join(a, b), c), 0.0);
                    }
                }
                (1, 3) => {
                    let [a, b, c] = [0, 1, 2].map(|shift| &reduced[shift..shift + columns]);
                    let own = if OWN { &x[row * from.pitch..][..columns] } else { a };
                    let sums = a.iter().zip(b).zip(c).zip(own);
                    for (y, (((&a, &b), &c), &own)) in out.iter_mut().zip(sums) {
                        *y = last(join(join(a, b), c), own);
                    }
                }
                _ => {
                    for (column, y) in out.iter_mut().enumerate() {
                        let start = column * stride;
                        let (head, tail) = (reduced[start], &reduced[start + 1..start + size]);
                        let own = if OWN { x[row * from.pitch + column] } else { 0.0 };
                        *y = last(tail.iter().fold(head, |sum, &x| join(sum, x)), own);
                    }
                }
            }
            if to.step != 1 {
                y.iter_mut().step_by(to.step).zip(&*results).for_each(|(y, &sum)| *y = sum);
            }
        }
    }
}

/// The rows of a plane's windows reduced down their columns, one in the making, and the results of a row.
#[derive(Debug, Default)]
struct Lines {
    reduced: Vec<f32>,
    other: Vec<f32>,
    results: Vec<f32>,
}

thread_local! {
    /// Kept from call to call.
    static LINES: Cell<Lines> = const {
        Cell::new(Lines { reduced: Vec::new(), other: Vec::new(), results: Vec::new() })
    };
}

//! Windows of two or three pixels a side that move by one or two, as nearly all do: a vector of them at a time, in
//! registers from their first row to the result.
//!
//! The pixels of some columns are reduced down first, as vectors that lie side by side, from a multiple of their length
//! on, so that no load straddles two cache lines where rows are aligned. Of these, every second value, or a vector that
//! begins a column earlier or later, is one pixel of each window along its row.

use super::Window;
use super::lanes::Lanes;
use super::reductions::Reduction;
use super::windows::Windows;

/// Vectors of pixels that a vector of windows reaches over: one before its first pixel without padding, two from there
/// on, and one after them.
const PARTS: usize = 4;

/// A vector of columns.
#[derive(Clone, Copy)]
struct Part<L: Lanes> {
    /// The first one, which may lie before the plane.
    at: isize,
    lanes: Inside<L>,
}

/// Which lanes of a vector are columns of the plane.
#[derive(Clone, Copy)]
enum Inside<L: Lanes> {
    All,
    Some(L::Mask),
    None,
}

impl<L: Lanes> Part<L> {
    #[inline(always)]
    fn new(lanes: L, at: isize, width: usize) -> Self {
        let before = at.min(0).unsigned_abs();
        let end = width.saturating_add_signed(-at).min(L::LANES);
        let inside = if before >= end {
            Inside::None
        } else if end - before == L::LANES {
            Inside::All
        } else {
            Inside::Some(lanes.without(lanes.first(end), lanes.first(before)))
        };
        Self { at, lanes: inside }
    }
}

impl Windows {
    /// Whether these are small windows whose results lie side by side.
    pub(super) fn are_small(&self) -> bool {
        let Window { size, stride, padding } = self.window;
        let small = matches!([size, stride], [2, 2] | [3, 2] | [3, 1]) && padding <= 1;
        small && self.to[1] == 1
    }

    /// Reduces small windows of a plane whose first pixel is that of x, and of y its first result.
    ///
    /// # Safety
    /// x has the plane, and y its results.
    #[inline(always)]
    pub(super) unsafe fn reduce_small<L: Lanes, R: Reduction<L>>(
        &self,
        lanes: L,
        reduction: R,
        x: *const f32,
        y: *mut f32,
    ) {
        // SAFETY: as this function asks.
        unsafe {
            if R::FINITE_IS_FASTER && self.is_finite(lanes, x) {
                self.by_size::<L, R, true>(lanes, reduction, x, y);
            } else {
                self.by_size::<L, R, false>(lanes, reduction, x, y);
            }
        }
    }

    /// # Safety
    /// As for [`Windows::reduce_small`]; with `FINITE`, the plane is finite.
    #[inline(always)]
    unsafe fn by_size<L: Lanes, R: Reduction<L>, const FINITE: bool>(
        &self,
        lanes: L,
        reduction: R,
        x: *const f32,
        y: *mut f32,
    ) {
        let Window { size, stride, padding } = self.window;
        // SAFETY: as this function asks.
        unsafe {
            match [size, stride, padding] {
                [2, 2, 0] => self.small::<L, R, 2, 2, 0, FINITE>(lanes, reduction, x, y),
                [2, 2, _] => self.small::<L, R, 2, 2, 1, FINITE>(lanes, reduction, x, y),
                [3, 2, 0] => self.small::<L, R, 3, 2, 0, FINITE>(lanes, reduction, x, y),
                [3, 2, _] => self.small::<L, R, 3, 2, 1, FINITE>(lanes, reduction, x, y),
                [_, _, 0] => self.small::<L, R, 3, 1, 0, FINITE>(lanes, reduction, x, y),
                _ => self.small::<L, R, 3, 1, 1, FINITE>(lanes, reduction, x, y),
            }
        }
    }

    /// Whether no pixel of a plane is NaN or infinite.
    ///
    /// # Safety
    /// x has the plane.
    #[inline(always)]
    unsafe fn is_finite<L: Lanes>(&self, lanes: L, x: *const f32) -> bool {
        let [height, width] = self.input;
        let zero = lanes.splat(0.0);
        // Of several rows, as an addition waits for the one before it.
        let mut sums = [zero; 4];
        for first in (0..height).step_by(sums.len()) {
            let mut start = 0;
            while start < width {
                let some = lanes.first(width - start);
                for (row, sum) in sums.iter_mut().enumerate() {
                    // The last row again, where there are no more.
                    let row = (first + row).min(height - 1);
                    let from = x.wrapping_add(row * self.pitch + start);
                    // SAFETY: the plane has these pixels, as this function asks.
                    let pixels = unsafe { lanes.load_masked(zero, some, from) };
                    // 0 times what is not finite is NaN.
                    *sum = lanes.multiply_add(pixels, zero, *sum);
                }
                start += L::LANES;
            }
        }
        let [a, b, c, d] = sums;
        let sum = lanes.add(lanes.add(a, b), lanes.add(c, d));
        !lanes.sum(sum).is_nan()
    }

    /// # Safety
    /// As for [`Windows::reduce_small`]; with `FINITE`, the plane is finite.
    #[inline(always)]
    unsafe fn small<
        L: Lanes,
        R: Reduction<L>,
        const SIZE: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const FINITE: bool,
    >(
        &self,
        lanes: L,
        reduction: R,
        x: *const f32,
        y: *mut f32,
    ) {
        let ([height, width], [rows, columns]) = (self.input, self.output);
        let mut start = 0;
        while start < columns {
            let left = columns - start;
            let before = (start * STRIDE) as isize - L::LANES as isize;
            let mut parts = [Part::new(lanes, before, width); PARTS];
            for (place, part) in parts.iter_mut().enumerate() {
                *part = Part::new(lanes, before + (place * L::LANES) as isize, width);
            }
            let kept = lanes.first(left);
            for row in 0..rows {
                let top = row * STRIDE;
                let begin = top.saturating_sub(PADDING);
                let count = (top + SIZE - PADDING).min(height) - begin;
                let from = x.wrapping_add(begin * self.pitch);
                // SAFETY: the plane has these rows, and their columns in the lanes that a part takes; results are
                // written where they go.
                unsafe {
                    // A number of rows that the compiler knows, in most rows.
                    let pixels = (from, self.pitch);
                    let reduced = if count == SIZE {
                        across::<L, R, SIZE, STRIDE, PADDING, FINITE>(
                            lanes, reduction, pixels, SIZE, &parts,
                        )
                    } else {
                        across::<L, R, SIZE, STRIDE, PADDING, FINITE>(
                            lanes, reduction, pixels, count, &parts,
                        )
                    };
                    let own = if R::OWN {
                        let own = x.wrapping_add(row * self.pitch + start);
                        lanes.load_masked(lanes.splat(0.0), kept, own)
                    } else {
                        lanes.splat(0.0)
                    };
                    let results = reduction.last(lanes, reduced, own);
                    let to = y.wrapping_add(row * self.to[0] + start);
                    match left < L::LANES {
                        true => lanes.store_masked(results, kept, to),
                        false => lanes.store(results, to),
                    }
                }
            }
            start += L::LANES;
        }
    }
}

/// A vector of windows, reduced, over so many rows of pixels, of which the first and the pitch are given.
///
/// # Safety
/// The rows have the lanes that the parts take.
#[inline(always)]
unsafe fn across<
    L: Lanes,
    R: Reduction<L>,
    const SIZE: usize,
    const STRIDE: usize,
    const PADDING: usize,
    const FINITE: bool,
>(
    lanes: L,
    reduction: R,
    pixels: (*const f32, usize),
    rows: usize,
    parts: &[Part<L>; PARTS],
) -> L::Vector {
    let [before, low, high, after] = *parts;
    // SAFETY: as this function asks.
    unsafe {
        let low = down::<L, R, FINITE>(lanes, reduction, pixels, rows, low);
        let high = down::<L, R, FINITE>(lanes, reduction, pixels, rows, high);
        // Of each window, the pixel that is its first without padding, and the one after it.
        let (first, second) = match STRIDE {
            1 => (low, lanes.shifted::<1>(low, high)),
            _ => (lanes.evens(low, high), lanes.odds(low, high)),
        };
        let mut reduced = first;
        if SIZE > PADDING + 1 {
            reduced = join::<L, R, FINITE>(lanes, reduction, reduced, second);
        }
        if PADDING == 1 {
            let before = down::<L, R, FINITE>(lanes, reduction, pixels, rows, before);
            // The pixels before the first: of every second one, those are the second ones.
            let last = if STRIDE == 1 { low } else { second };
            let earlier = lanes.preceded(before, last);
            reduced = join::<L, R, FINITE>(lanes, reduction, earlier, reduced);
        } else if SIZE == 3 {
            let third = match STRIDE {
                1 => lanes.shifted::<2>(low, high),
                _ => {
                    let after = down::<L, R, FINITE>(lanes, reduction, pixels, rows, after);
                    lanes.shifted::<1>(first, after)
                }
            };
            reduced = join::<L, R, FINITE>(lanes, reduction, reduced, third);
        }
        reduced
    }
}

#[inline(always)]
fn join<L: Lanes, R: Reduction<L>, const FINITE: bool>(
    lanes: L,
    reduction: R,
    a: L::Vector,
    b: L::Vector,
) -> L::Vector {
    if FINITE { reduction.join_finite(lanes, a, b) } else { reduction.join(lanes, a, b) }
}

/// A vector of columns, reduced over so many rows; the border's value where they are none of the plane's.
///
/// # Safety
/// The rows have the lanes that the part takes.
#[inline(always)]
unsafe fn down<L: Lanes, R: Reduction<L>, const FINITE: bool>(
    lanes: L,
    reduction: R,
    (first, pitch): (*const f32, usize),
    rows: usize,
    part: Part<L>,
) -> L::Vector {
    let border = lanes.splat(R::BORDER);
    let first = first.wrapping_offset(part.at);
    match part.lanes {
        Inside::None => border,
        Inside::All => {
            // SAFETY: as this function asks.
            let mut reduced = unsafe { reduction.first(lanes, lanes.load(first)) };
            for row in 1..rows {
                // SAFETY: as before.
                let pixels = unsafe { lanes.load(first.wrapping_add(row * pitch)) };
                let pixels = reduction.first(lanes, pixels);
                reduced = join::<L, R, FINITE>(lanes, reduction, reduced, pixels);
            }
            reduced
        }
        Inside::Some(mask) => {
            let zero = lanes.splat(0.0);
            // SAFETY: as before.
            let pixels = unsafe { lanes.load_masked(zero, mask, first) };
            let mut reduced = reduction.first(lanes, pixels);
            for row in 1..rows {
                // SAFETY: as before.
                let pixels =
                    unsafe { lanes.load_masked(zero, mask, first.wrapping_add(row * pitch)) };
                let pixels = reduction.first(lanes, pixels);
                reduced = join::<L, R, FINITE>(lanes, reduction, reduced, pixels);
            }
            lanes.select(mask, reduced, border)
        }
    }
}

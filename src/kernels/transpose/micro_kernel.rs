//! The loops over squares, written once for every instruction set.

use std::ops::Range;

use crate::kernels::simd::Simd;

/// Vectors of which as many as each has lanes are a square that registers transpose.
pub(super) trait Square: Simd {
    /// Writes the transpose of a square of [`Simd::LANES`] rows that start `pitches[0]` floats apart, its rows
    /// `pitches[1]` apart.
    ///
    /// # Safety
    /// The square can be read, and its transpose be written.
    unsafe fn transpose(self, from: *const f32, to: *mut f32, pitches: [usize; 2]);
}

/// Writes the columns `range` of x, `[rows, columns]`, as rows of y: the squares that fit by vectors, what is left float
/// by float.
///
/// # Safety
/// x has as many floats as its shape, and y as many as the range's columns.
#[inline(always)]
pub(super) unsafe fn columns<S: Square>(
    simd: S,
    x: &[f32],
    [rows, columns]: [usize; 2],
    range: Range<usize>,
    y: &mut [f32],
) {
    debug_assert!(x.len() == rows * columns && y.len() == range.len() * rows);
    let squares = rows / S::LANES * S::LANES;
    for column in range.clone().step_by(S::LANES) {
        let to = (column - range.start) * rows;
        let width = S::LANES.min(range.end - column);
        let vectors = if width == S::LANES { squares } else { 0 };
        for row in (0..vectors).step_by(S::LANES) {
            // SAFETY: the square ends with the columns of the range and with x's rows, at the latest.
            unsafe {
                let from = x.as_ptr().add(row * columns + column);
                simd.transpose(from, y.as_mut_ptr().add(to + row), [columns, rows]);
            }
        }
        for place in 0..width {
            for row in vectors..rows {
                y[to + place * rows + row] = x[row * columns + column + place];
            }
        }
    }
}

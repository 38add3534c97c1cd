//! The portable variant: squares of eight by arrays, which compilers turn into vectors of any kind.

use super::ColumnsFunction;
use super::micro_kernel::{Square, columns};
use crate::kernels::simd::{Portable, Simd};

impl Square for Portable {
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, to: *mut f32, pitches: [usize; 2]) {
        // SAFETY: the square can be read and its transpose be written, as this function asks.
        unsafe {
            let mut square = [[0.0; Self::LANES]; Self::LANES];
            for (row, line) in square.iter_mut().enumerate() {
                *line = self.load(from.add(row * pitches[0]));
            }
            for column in 0..Self::LANES {
                self.store(square.map(|line| line[column]), to.add(column * pitches[1]));
            }
        }
    }
}

pub(super) fn function() -> Option<ColumnsFunction> {
    // SAFETY: compiled for every processor; the lengths are as `ColumnsFunction` asks.
    Some(|x, shape, range, y| unsafe { columns(Portable, x, shape, range, y) })
}

//! AVX2: squares of eight.
//!
//! A vector is loaded in halves, four floats of a row and four of the row four further down, so that all exchanges of
//! the second half, which would cross the halves of registers, are done by the loads: two exchanges for each vector
//! are left.

use std::arch::x86_64::*;
use std::ops::Range;

use super::ColumnsFunction;
use super::micro_kernel::{Square, columns};
use crate::device::cpu::Avx2;

impl Square for Avx2 {
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, to: *mut f32, pitches: [usize; 2]) {
        // SAFETY: `self` is the proof of the instructions; the square can be read and its transpose be written, as this
        // function asks.
        unsafe {
            for half in 0..2 {
                let from = from.add(4 * half);
                let [a, b, c, d] = [
                    halves(from, pitches[0]),
                    halves(from.add(pitches[0]), pitches[0]),
                    halves(from.add(2 * pitches[0]), pitches[0]),
                    halves(from.add(3 * pitches[0]), pitches[0]),
                ];
                let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                let lines = [
                    _mm256_shuffle_ps::<0x44>(ab, cd),
                    _mm256_shuffle_ps::<0xEE>(ab, cd),
                    _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
                ];
                for (column, line) in lines.into_iter().enumerate() {
                    _mm256_storeu_ps(to.add((4 * half + column) * pitches[1]), line);
                }
            }
        }
    }
}

/// Four floats of a row and of the one four further down.
///
/// # Safety
/// They can be read; the processor has AVX.
#[inline(always)]
unsafe fn halves(from: *const f32, pitch: usize) -> __m256 {
    // SAFETY: as this function asks.
    unsafe {
        let low = _mm256_castps128_ps256(_mm_loadu_ps(from));
        _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add(4 * pitch)))
    }
}

pub(super) fn function() -> Option<ColumnsFunction> {
    Avx2::new().map(|_| run as ColumnsFunction)
}

/// # Safety
/// As [`ColumnsFunction`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn run(x: &[f32], shape: [usize; 2], range: Range<usize>, y: &mut [f32]) {
    // SAFETY: as this function asks.
    unsafe { columns(Avx2::promised(), x, shape, range, y) };
}

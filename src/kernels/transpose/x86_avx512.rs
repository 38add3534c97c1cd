//! AVX-512: squares of sixteen, whose vectors are loaded in quarters as AVX2's are in halves.

use std::arch::x86_64::*;
use std::ops::Range;

use super::ColumnsFunction;
use super::micro_kernel::{Square, columns};
use crate::device::cpu::Avx512;

impl Square for Avx512 {
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, to: *mut f32, pitches: [usize; 2]) {
        // SAFETY: `self` is the proof of the instructions; the square can be read and its transpose be written, as this
        // function asks.
        unsafe {
            for quarter in 0..4 {
                let from = from.add(4 * quarter);
                let [a, b, c, d] = [
                    quarters(from, pitches[0]),
                    quarters(from.add(pitches[0]), pitches[0]),
                    quarters(from.add(2 * pitches[0]), pitches[0]),
                    quarters(from.add(3 * pitches[0]), pitches[0]),
                ];
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                let lines = [
                    _mm512_shuffle_ps::<0x44>(ab, cd),
                    _mm512_shuffle_ps::<0xEE>(ab, cd),
                    _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm512_shuffle_ps::<0xEE>(ab_high, cd_high),
                ];
                for (column, line) in lines.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((4 * quarter + column) * pitches[1]), line);
                }
            }
        }
    }
}

/// Four floats of a row and of those four, eight and twelve further down.
///
/// # Safety
/// They can be read; the processor has AVX-512F.
#[inline(always)]
unsafe fn quarters(from: *const f32, pitch: usize) -> __m512 {
    // SAFETY: as this function asks.
    unsafe {
        let first = _mm512_castps128_ps512(_mm_loadu_ps(from));
        let two = _mm512_insertf32x4::<1>(first, _mm_loadu_ps(from.add(4 * pitch)));
        let three = _mm512_insertf32x4::<2>(two, _mm_loadu_ps(from.add(8 * pitch)));
        _mm512_insertf32x4::<3>(three, _mm_loadu_ps(from.add(12 * pitch)))
    }
}

pub(super) fn function() -> Option<ColumnsFunction> {
    Avx512::new().map(|_| run as ColumnsFunction)
}

/// # Safety
/// As [`ColumnsFunction`] asks; the processor has AVX-512F.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn run(x: &[f32], shape: [usize; 2], range: Range<usize>, y: &mut [f32]) {
    // SAFETY: as this function asks.
    unsafe { columns(Avx512::promised(), x, shape, range, y) };
}

//! What pooling and the like do with vectors of values, beyond [`Simd`].

use crate::kernels::simd::{Portable, Simd};

/// Values of the longest vector.
pub(super) const MOST_LANES: usize = 16;

/// Vectors that pooling and the like compute with.
pub(super) trait Lanes: Simd {
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn divide(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn root(self, a: Self::Vector) -> Self::Vector;
    /// The larger ones; NaN where either is.
    fn larger(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Every second value of `low` and then of `high`, from the first on.
    fn evens(self, low: Self::Vector, high: Self::Vector) -> Self::Vector;
    /// As [`Lanes::evens`], from the second on.
    fn odds(self, low: Self::Vector, high: Self::Vector) -> Self::Vector;
    /// The values of `low` from `BY`, 1 or 2, on, and then as many of `high`.
    fn shifted<const BY: i32>(self, low: Self::Vector, high: Self::Vector) -> Self::Vector;
    /// The last value of `before`, and then all but the last of `values`.
    fn preceded(self, before: Self::Vector, values: Self::Vector) -> Self::Vector;
    /// The lanes of a mask, and `other` in the others.
    fn select(self, mask: Self::Mask, values: Self::Vector, other: Self::Vector) -> Self::Vector;
}

/// Eight values, as they lie in memory.
type Chunk = [f32; 8];

impl Lanes for Portable {
    #[inline(always)]
    fn add(self, a: Chunk, b: Chunk) -> Chunk {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn multiply(self, a: Chunk, b: Chunk) -> Chunk {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn divide(self, a: Chunk, b: Chunk) -> Chunk {
        std::array::from_fn(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    fn root(self, a: Chunk) -> Chunk {
        a.map(f32::sqrt)
    }

    #[inline(always)]
    fn larger(self, a: Chunk, b: Chunk) -> Chunk {
        std::array::from_fn(|lane| {
            let (a, b) = (a[lane], b[lane]);
            // The maximum as an instruction: b where either is NaN.
            let larger = if a > b { a } else { b };
            if a.is_nan() { a } else { larger }
        })
    }

    #[inline(always)]
    fn evens(self, low: Chunk, high: Chunk) -> Chunk {
        let [a, _, b, _, c, _, d, _] = low;
        let [e, _, f, _, g, _, h, _] = high;
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn odds(self, low: Chunk, high: Chunk) -> Chunk {
        let [_, a, _, b, _, c, _, d] = low;
        let [_, e, _, f, _, g, _, h] = high;
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn shifted<const BY: i32>(self, low: Chunk, high: Chunk) -> Chunk {
        std::array::from_fn(|lane| {
            let place = lane + BY as usize;
            if place < 8 { low[place] } else { high[place - 8] }
        })
    }

    #[inline(always)]
    fn preceded(self, before: Chunk, values: Chunk) -> Chunk {
        std::array::from_fn(|lane| if lane == 0 { before[7] } else { values[lane - 1] })
    }

    #[inline(always)]
    fn select(self, mask: [bool; 8], values: Chunk, other: Chunk) -> Chunk {
        std::array::from_fn(|lane| if mask[lane] { values[lane] } else { other[lane] })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;
    use crate::device::cpu::{Avx2, Avx512};

    // SAFETY, of every instruction: `self` is the proof that the processor has it.
    impl Lanes for Avx2 {
        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn multiply(self, a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        fn divide(self, a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }

        #[inline(always)]
        fn root(self, a: __m256) -> __m256 {
            unsafe { _mm256_sqrt_ps(a) }
        }

        #[inline(always)]
        fn larger(self, a: __m256, b: __m256) -> __m256 {
            // The instruction gives its second operand where either is NaN. The two ways round, one of them has
            // kept the NaN, whose exponent of ones outlives the other's bits.
            unsafe { _mm256_or_ps(_mm256_max_ps(a, b), _mm256_max_ps(b, a)) }
        }

        #[inline(always)]
        fn evens(self, low: __m256, high: __m256) -> __m256 {
            unsafe {
                // A shuffle works on halves: of each half of the first, then of each of the second.
                let shuffled = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(shuffled))
            }
        }

        #[inline(always)]
        fn odds(self, low: __m256, high: __m256) -> __m256 {
            unsafe {
                let shuffled = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(shuffled))
            }
        }

        #[inline(always)]
        fn shifted<const BY: i32>(self, low: __m256, high: __m256) -> __m256 {
            unsafe {
                let (low, high) = (_mm256_castps_si256(low), _mm256_castps_si256(high));
                // The upper half of the first and the lower half of the second: what follows each half of the first.
                let next = _mm256_permute2x128_si256::<0x21>(low, high);
                _mm256_castsi256_ps(match BY {
                    1 => _mm256_alignr_epi8::<4>(next, low),
                    _ => _mm256_alignr_epi8::<8>(next, low),
                })
            }
        }

        #[inline(always)]
        fn preceded(self, before: __m256, values: __m256) -> __m256 {
            unsafe {
                let (before, values) = (_mm256_castps_si256(before), _mm256_castps_si256(values));
                // What precedes each half of the second.
                let earlier = _mm256_permute2x128_si256::<0x21>(before, values);
                _mm256_castsi256_ps(_mm256_alignr_epi8::<12>(values, earlier))
            }
        }

        #[inline(always)]
        fn select(self, mask: __m256i, values: __m256, other: __m256) -> __m256 {
            unsafe { _mm256_blendv_ps(other, values, _mm256_castsi256_ps(mask)) }
        }
    }

    // SAFETY, of every instruction: as above.
    impl Lanes for Avx512 {
        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn multiply(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        fn divide(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }

        #[inline(always)]
        fn root(self, a: __m512) -> __m512 {
            unsafe { _mm512_sqrt_ps(a) }
        }

        #[inline(always)]
        fn larger(self, a: __m512, b: __m512) -> __m512 {
            // As with AVX2.
            unsafe {
                let (one, other) = (_mm512_max_ps(a, b), _mm512_max_ps(b, a));
                let either = _mm512_or_si512(_mm512_castps_si512(one), _mm512_castps_si512(other));
                _mm512_castsi512_ps(either)
            }
        }

        #[inline(always)]
        fn evens(self, low: __m512, high: __m512) -> __m512 {
            unsafe { _mm512_permutex2var_ps(low, every_second(0), high) }
        }

        #[inline(always)]
        fn odds(self, low: __m512, high: __m512) -> __m512 {
            unsafe { _mm512_permutex2var_ps(low, every_second(1), high) }
        }

        #[inline(always)]
        fn shifted<const BY: i32>(self, low: __m512, high: __m512) -> __m512 {
            unsafe {
                let (low, high) = (_mm512_castps_si512(low), _mm512_castps_si512(high));
                _mm512_castsi512_ps(_mm512_alignr_epi32::<BY>(high, low))
            }
        }

        #[inline(always)]
        fn preceded(self, before: __m512, values: __m512) -> __m512 {
            unsafe {
                let (before, values) = (_mm512_castps_si512(before), _mm512_castps_si512(values));
                _mm512_castsi512_ps(_mm512_alignr_epi32::<15>(values, before))
            }
        }

        #[inline(always)]
        fn select(self, mask: __mmask16, values: __m512, other: __m512) -> __m512 {
            unsafe { _mm512_mask_blend_ps(mask, other, values) }
        }
    }

    /// Every second place of two vectors.
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[inline(always)]
    unsafe fn every_second(first: i32) -> __m512i {
        // SAFETY: as this function asks.
        unsafe {
            let twice =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_add_epi32(twice, _mm512_set1_epi32(first))
        }
    }
}

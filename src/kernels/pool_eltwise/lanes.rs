//! What pooling and the like do with eight values at once, beyond [`Simd`].

use crate::kernels::simd::{Portable, Simd};

/// Values side by side.
pub(super) const LANES: usize = 8;

/// As they lie in memory.
pub(super) type Chunk = [f32; LANES];

/// Something that computes with [`LANES`] values at once.
pub(super) trait Lanes: Simd {
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn divide(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn root(self, a: Self::Vector) -> Self::Vector;
    /// The larger ones; NaN where either is.
    fn larger(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Every second value of `low` and then of `high`, from the first on.
    fn evens(self, low: Self::Vector, high: Self::Vector) -> Self::Vector;
}

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
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::Lanes;
    use crate::device::cpu::Avx2;

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
    }
}

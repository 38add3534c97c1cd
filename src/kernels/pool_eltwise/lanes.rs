//! Eight values side by side, by the instructions of a processor or by plain loops.

/// Values side by side.
pub(super) const LANES: usize = 8;

/// As they lie in memory.
pub(super) type Chunk = [f32; LANES];

/// Something that computes with [`LANES`] values at once. Nothing of it may be called through a closure: only
/// what is inlined into a function that was compiled for the instructions becomes them.
pub(super) trait Lanes: Copy {
    /// The values.
    type Values: Copy;

    fn splat(self, value: f32) -> Self::Values;
    fn load(self, from: &Chunk) -> Self::Values;
    fn store(self, values: Self::Values, to: &mut Chunk);
    fn add(self, a: Self::Values, b: Self::Values) -> Self::Values;
    fn multiply(self, a: Self::Values, b: Self::Values) -> Self::Values;
    fn divide(self, a: Self::Values, b: Self::Values) -> Self::Values;
    fn root(self, a: Self::Values) -> Self::Values;
    /// The larger ones; NaN where either is.
    fn larger(self, a: Self::Values, b: Self::Values) -> Self::Values;
    /// Every second value of `low` and then of `high`, from the first on.
    fn evens(self, low: Self::Values, high: Self::Values) -> Self::Values;
}

/// Plain loops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl Lanes for Portable {
    type Values = Chunk;

    #[inline(always)]
    fn splat(self, value: f32) -> Chunk {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &Chunk) -> Chunk {
        *from
    }

    #[inline(always)]
    fn store(self, values: Chunk, to: &mut Chunk) {
        *to = values;
    }

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

    use super::{Chunk, Lanes};
    use crate::device::cpu::Avx2;

    // SAFETY, of every call of an instruction: `self` is the proof that the processor has it.
    impl Lanes for Avx2 {
        type Values = __m256;

        #[inline(always)]
        fn splat(self, value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        fn load(self, from: &Chunk) -> __m256 {
            unsafe { _mm256_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, values: __m256, to: &mut Chunk) {
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
        }

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

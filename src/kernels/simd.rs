//! Vectors of f32, by a processor's instructions or by plain loops: what micro-kernels are written over, once
//! for every instruction set. A further one (NEON) is one more implementation of [`Simd`].
//!
//! A method becomes the instruction it stands for only where it is inlined into a function that was compiled for
//! it (`#[target_feature]`). So micro-kernels are `#[inline(always)]`, and call nothing of this through a
//! closure, which would be compiled by itself.

/// A proof that this processor has an instruction set, and what it does with vectors.
pub(super) trait Simd: Copy {
    /// [`Self::LANES`] floats in registers.
    type Vector: Copy;
    /// A choice of lanes.
    type Mask: Copy;
    /// Floats of a vector.
    const LANES: usize;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::Vector;

    /// a b + c, rounded once where the processor can.
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `values`, or `bound` where they are below it. NaN stays.
    fn at_least(self, bound: Self::Vector, values: Self::Vector) -> Self::Vector;

    /// The sum of all lanes.
    fn sum(self, values: Self::Vector) -> f32;

    /// The lanes below `count`.
    fn first(self, count: usize) -> Self::Mask;

    /// The lanes of `all` that are not in `some`.
    fn without(self, all: Self::Mask, some: Self::Mask) -> Self::Mask;

    /// # Safety
    /// [`Self::LANES`] floats can be read.
    unsafe fn load(self, from: *const f32) -> Self::Vector;

    /// The lanes of a mask; the others keep `values`, which is 0 in the mask's.
    ///
    /// # Safety
    /// The mask's floats can be read.
    unsafe fn load_masked(
        self,
        values: Self::Vector,
        mask: Self::Mask,
        from: *const f32,
    ) -> Self::Vector;

    /// # Safety
    /// [`Self::LANES`] floats can be written.
    unsafe fn store(self, values: Self::Vector, to: *mut f32);

    /// # Safety
    /// The mask's floats can be written.
    unsafe fn store_masked(self, values: Self::Vector, mask: Self::Mask, to: *mut f32);

    /// Asks for a cache line, which need not exist.
    fn prefetch(self, from: *const f32);
}

/// Asks for a cache line, which need not exist, where the processor can be asked without further instructions.
pub(super) fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, which reads nothing that could fail.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Copies so many floats, each below `bound` becoming it: whole vectors, and a masked one for the rest (masked
/// stores are slow on some processors).
///
/// # Safety
/// As many can be read and written, and the two do not overlap.
#[inline(always)]
pub(super) unsafe fn copy_at_least<S: Simd>(
    simd: S,
    bound: S::Vector,
    from: *const f32,
    to: *mut f32,
    length: usize,
) {
    let whole = length / S::LANES * S::LANES;
    let mut done = 0;
    // SAFETY: whole vectors, and a mask for the rest, keep within the length.
    unsafe {
        while done < whole {
            simd.store(simd.at_least(bound, simd.load(from.add(done))), to.add(done));
            done += S::LANES;
        }
        if whole < length {
            let mask = simd.first(length - whole);
            let values = simd.load_masked(simd.splat(0.0), mask, from.add(whole));
            simd.store_masked(simd.at_least(bound, values), mask, to.add(whole));
        }
    }
}

/// Plain loops over eight floats, which compilers turn into vectors of any kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl Simd for Portable {
    type Vector = [f32; 8];
    type Mask = [bool; 8];
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    fn multiply_add(self, a: [f32; 8], b: [f32; 8], mut c: [f32; 8]) -> [f32; 8] {
        // Two roundings: a fused product would be a call on processors without the instruction.
        for lane in 0..8 {
            c[lane] += a[lane] * b[lane];
        }
        c
    }

    #[inline(always)]
    fn at_least(self, bound: [f32; 8], mut values: [f32; 8]) -> [f32; 8] {
        for lane in 0..8 {
            values[lane] = if values[lane] < bound[lane] { bound[lane] } else { values[lane] };
        }
        values
    }

    #[inline(always)]
    fn sum(self, v: [f32; 8]) -> f32 {
        ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]))
    }

    #[inline(always)]
    fn first(self, count: usize) -> [bool; 8] {
        let mut mask = [false; 8];
        for (lane, taken) in mask.iter_mut().enumerate() {
            *taken = lane < count;
        }
        mask
    }

    #[inline(always)]
    fn without(self, mut all: [bool; 8], some: [bool; 8]) -> [bool; 8] {
        for lane in 0..8 {
            all[lane] &= !some[lane];
        }
        all
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 8] {
        // SAFETY: eight floats can be read, as this function asks.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_masked(
        self,
        mut values: [f32; 8],
        mask: [bool; 8],
        from: *const f32,
    ) -> [f32; 8] {
        for lane in 0..8 {
            if mask[lane] {
                // SAFETY: the mask's floats can be read, as this function asks.
                values[lane] = unsafe { *from.wrapping_add(lane) };
            }
        }
        values
    }

    #[inline(always)]
    unsafe fn store(self, values: [f32; 8], to: *mut f32) {
        // SAFETY: eight floats can be written, as this function asks.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(values) };
    }

    #[inline(always)]
    unsafe fn store_masked(self, values: [f32; 8], mask: [bool; 8], to: *mut f32) {
        for lane in 0..8 {
            if mask[lane] {
                // SAFETY: the mask's floats can be written, as this function asks.
                unsafe { *to.wrapping_add(lane) = values[lane] };
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;
    use crate::device::cpu::{Avx2, Avx512};

    // SAFETY, of every instruction in this module: `self` is the proof that the processor has it. What is read
    // and written through pointers, each `unsafe fn` asks of whoever calls it, as the trait says.

    impl Simd for Avx2 {
        type Vector = __m256;
        type Mask = __m256i;
        const LANES: usize = 8;

        #[inline(always)]
        fn splat(self, value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        fn multiply_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn at_least(self, bound: __m256, values: __m256) -> __m256 {
            // Where one is NaN, the instruction gives its second operand.
            unsafe { _mm256_max_ps(bound, values) }
        }

        #[inline(always)]
        fn sum(self, values: __m256) -> f32 {
            let mut v = [0.0_f32; 8];
            unsafe { _mm256_storeu_ps(v.as_mut_ptr(), values) };
            ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]))
        }

        #[inline(always)]
        fn first(self, count: usize) -> __m256i {
            unsafe {
                let count = _mm256_set1_epi32(count.min(8) as i32);
                _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
            }
        }

        #[inline(always)]
        fn without(self, all: __m256i, some: __m256i) -> __m256i {
            unsafe { _mm256_andnot_si256(some, all) }
        }

        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_masked(self, values: __m256, mask: __m256i, from: *const f32) -> __m256 {
            unsafe { _mm256_or_ps(values, _mm256_maskload_ps(from, mask)) }
        }

        #[inline(always)]
        unsafe fn store(self, values: __m256, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, values) }
        }

        #[inline(always)]
        unsafe fn store_masked(self, values: __m256, mask: __m256i, to: *mut f32) {
            unsafe { _mm256_maskstore_ps(to, mask, values) }
        }

        #[inline(always)]
        fn prefetch(self, from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    impl Simd for Avx512 {
        type Vector = __m512;
        type Mask = __mmask16;
        const LANES: usize = 16;

        #[inline(always)]
        fn splat(self, value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        fn multiply_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn at_least(self, bound: __m512, values: __m512) -> __m512 {
            // Where one is NaN, the instruction gives its second operand.
            unsafe { _mm512_max_ps(bound, values) }
        }

        #[inline(always)]
        fn sum(self, values: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(values) }
        }

        #[inline(always)]
        fn first(self, count: usize) -> __mmask16 {
            ((1_u32 << count.min(16)) - 1) as __mmask16
        }

        #[inline(always)]
        fn without(self, all: __mmask16, some: __mmask16) -> __mmask16 {
            all & !some
        }

        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_masked(self, values: __m512, mask: __mmask16, from: *const f32) -> __m512 {
            unsafe { _mm512_mask_loadu_ps(values, mask, from) }
        }

        #[inline(always)]
        unsafe fn store(self, values: __m512, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, values) }
        }

        #[inline(always)]
        unsafe fn store_masked(self, values: __m512, mask: __mmask16, to: *mut f32) {
            unsafe { _mm512_mask_storeu_ps(to, mask, values) }
        }

        #[inline(always)]
        fn prefetch(self, from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on 40 floats, by masks of every length; in a function that was compiled for them.
    #[inline(always)]
    fn check<S: Simd>(simd: S) {
        let from: Vec<f32> = (0..40).map(|place| place as f32 - 20.0).collect();
        for length in 0..=40 {
            let mut to = vec![f32::NAN; 41];
            // SAFETY: both have as many floats.
            unsafe {
                copy_at_least(simd, simd.splat(-3.0), from.as_ptr(), to.as_mut_ptr(), length)
            };
            let expected: Vec<f32> = from[..length].iter().map(|value| value.max(-3.0)).collect();
            assert_eq!(to[..length], expected);
            assert!(to[length..].iter().all(|value| value.is_nan()), "{length}");
        }
        let mut values = vec![0.0; S::LANES];
        for some in 0..=S::LANES {
            let (own, other) = (simd.first(some), from[20..].as_ptr());
            let rest = simd.without(simd.first(S::LANES), own);
            // SAFETY: both have as many floats.
            unsafe {
                let loaded = simd.load_masked(simd.splat(0.0), own, from.as_ptr());
                simd.store(simd.load_masked(loaded, rest, other), values.as_mut_ptr());
            }
            let expected = |lane: usize| from[if lane < some { lane } else { 20 + lane }];
            assert!((0..S::LANES).all(|lane| values[lane] == expected(lane)), "{some}: {values:?}");
        }
        // SAFETY: `from` has as many floats.
        let loaded = unsafe { simd.load(from.as_ptr()) };
        let product = simd.multiply_add(loaded, simd.splat(2.0), simd.splat(1.0));
        let sum: f32 = from[..S::LANES].iter().map(|value| 2.0 * value + 1.0).sum();
        assert_eq!(simd.sum(product), sum);
        let nan = simd.at_least(simd.splat(0.0), simd.splat(f32::NAN));
        assert!(simd.sum(nan).is_nan());
        simd.prefetch(std::ptr::null());
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        check(Portable);
        #[cfg(target_arch = "x86_64")]
        {
            use crate::device::cpu::{Avx2, Avx512};
            #[target_feature(enable = "avx2,fma")]
            fn avx2(proof: Avx2) {
                check(proof);
            }
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512(proof: Avx512) {
                check(proof);
            }
            match Avx2::new() {
                // SAFETY: the proof that the processor has the instructions.
                Some(proof) => unsafe { avx2(proof) },
                None => crate::test_support::skip("avx2+fma", "this processor lacks it"),
            }
            match Avx512::new() {
                // SAFETY: the proof that the processor has the instructions.
                Some(proof) => unsafe { avx512(proof) },
                None => crate::test_support::skip("avx512f", "this processor lacks it"),
            }
        }
    }
}

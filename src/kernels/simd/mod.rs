//! Vectors of f32, by a processor's instructions or by plain loops: what micro-kernels are written over, once
//! for every instruction set. A further one (NEON) is one more implementation of [`Simd`].
//!
//! A method becomes the instruction it stands for only where it is inlined into a function that was compiled for
//! it (`#[target_feature]`). So micro-kernels are `#[inline(always)]`, and call nothing of this through a
//! closure, which would be compiled by itself.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use self::portable::Portable;

/// A proof that this processor has an instruction set, and what it does with vectors.
pub(super) trait Simd: Copy {
    /// [`Self::LANES`] floats in registers.
    type Vector: Copy;
    /// A choice of lanes.
    type Mask: Copy;
    /// Floats of a vector.
    const LANES: usize;
    /// Vectors that fit into registers at once.
    const REGISTERS: usize;

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

/// Floats between the weights that are multiplied and those that are prefetched, in kernels that read a stream of weights:
/// half a page, since a processor foresees no further than a page's end. With many columns, weights from memory take as long
/// to arrive as to be multiplied, and weights from a cache lose nothing by it.
pub(super) const WEIGHTS_AHEAD: usize = 512;

/// Asks for a cache line, which need not exist, where the processor can be asked without further instructions.
#[inline(always)]
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

//! AVX2 with FMA, and AVX-512.

use std::arch::x86_64::*;

use super::Simd;
use crate::device::cpu::{Avx2, Avx512};

// SAFETY, of every instruction in this module: `self` is the proof that the processor has it. What is read
// and written through pointers, each `unsafe fn` asks of whoever calls it, as the trait says.

impl Simd for Avx2 {
    type Vector = __m256;
    type Mask = __m256i;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

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
    const REGISTERS: usize = 32;

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

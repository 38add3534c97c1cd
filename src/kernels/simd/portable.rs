//! Plain loops.

use super::Simd;

/// Plain loops over eight floats, which compilers turn into vectors of any kind.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Portable;

impl Simd for Portable {
    type Vector = [f32; 8];
    type Mask = [bool; 8];
    const LANES: usize = 8;
    /// Sixteen of four lanes, as the least of processors with vectors have; a vector takes two.
    const REGISTERS: usize = 8;

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

//! AVX-512: vectors of sixteen values for small windows, of eight for others and for single pixels, whose rows are short.

use std::ops::Range;

use super::{ChannelsFunction, PoolEltwise};
use crate::device::cpu::{Avx2, Avx512};

pub(super) fn function() -> Option<ChannelsFunction> {
    Avx512::new().map(|_| channels as ChannelsFunction)
}

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn channels(kernel: &PoolEltwise, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
    // SAFETY: the processor has AVX-512F, as this function asks, and so AVX2.
    unsafe {
        if kernel.has_small_windows() {
            kernel.channels(Avx512::promised(), x, channels, y);
        } else {
            kernel.channels(Avx2::promised(), x, channels, y);
        }
    }
}

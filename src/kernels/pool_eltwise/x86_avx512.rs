//! AVX-512: vectors of eight values, as rows of planes are short, in twice as many registers.

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
    kernel.channels(unsafe { Avx2::promised() }, x, channels, y);
}

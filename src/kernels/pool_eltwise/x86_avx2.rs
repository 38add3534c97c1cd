//! AVX2 and FMA: eight values at once.

use std::ops::Range;

use super::{ChannelsFunction, PoolEltwise};
use crate::device::cpu::Avx2;

pub(super) fn function() -> Option<ChannelsFunction> {
    Avx2::new().map(|_| channels as ChannelsFunction)
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn channels(kernel: &PoolEltwise, x: &[f32], channels: Range<usize>, y: &mut [f32]) {
    // SAFETY: the processor has them, as this function asks.
    kernel.channels(unsafe { Avx2::promised() }, x, channels, y);
}

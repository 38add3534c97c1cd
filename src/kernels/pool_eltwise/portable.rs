//! The portable variant: plain loops over eight values.

use super::ChannelsFunction;
use crate::kernels::simd::Portable;

pub(super) fn function() -> Option<ChannelsFunction> {
    Some(|kernel, x, channels, y| kernel.channels(Portable, x, channels, y))
}

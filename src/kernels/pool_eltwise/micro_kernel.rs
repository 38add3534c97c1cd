//! The loops over channels and pixels, compiled for each instruction set.

use std::cell::Cell;
use std::ops::Range;

use super::lanes::Lanes;
use super::reductions::{Maximum, Reduction};
use super::windows::{RowScratch, Windows};
use super::{PoolEltwise, Work};
use crate::kernels::activate;

thread_local! {
    /// Kept from call to call.
    static ROW_SCRATCH: Cell<RowScratch> = const { Cell::new(RowScratch::new()) };
}

impl PoolEltwise {
    /// Whether windows move over the planes that stay in registers.
    pub(super) fn has_small_windows(&self) -> bool {
        match &self.work {
            Work::Maximum(windows)
            | Work::AffineMaximum(windows, _)
            | Work::Mean(windows, _)
            | Work::Normalise(windows, _) => windows.are_small(),
            Work::Affine { .. } | Work::Copy { .. } => false,
        }
    }

    #[inline(always)]
    pub(super) fn channels(
        &self,
        lanes: impl Lanes,
        x: &[f32],
        channels: Range<usize>,
        y: &mut [f32],
    ) {
        match &self.work {
            Work::Maximum(windows) => {
                self.reduce(lanes, windows, |_| Maximum, x, channels, y);
            }
            Work::AffineMaximum(windows, each) => {
                self.reduce(lanes, windows, |channel| each[channel], x, channels, y);
            }
            &Work::Mean(ref windows, mean) => {
                self.reduce(lanes, windows, |_| mean, x, channels, y);
            }
            &Work::Normalise(ref windows, normalised) => {
                self.reduce(lanes, windows, |_| normalised, x, channels, y);
            }
            Work::Affine { scale, shift, relu } => {
                for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].channel_stride)) {
                    let (scale, shift) = (scale[channel], shift[channel]);
                    self.each(self.plane(x, channel), y, |x| activate(scale * x + shift, *relu));
                }
            }
            &Work::Copy { relu } => {
                for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].channel_stride)) {
                    self.each(self.plane(x, channel), y, |x| activate(x, relu));
                }
            }
        }
    }

    /// The pixels of x from a channel's first on.
    fn plane<'a>(&self, x: &'a [f32], channel: usize) -> &'a [f32] {
        &x[self.maps[0].offset + channel * self.maps[0].channel_stride..]
    }

    /// Reduces the windows of some channels, each by what `reduction` says.
    #[inline(always)]
    fn reduce<L: Lanes, R: Reduction<L>>(
        &self,
        lanes: L,
        windows: &Windows,
        reduction: impl Fn(usize) -> R,
        x: &[f32],
        channels: Range<usize>,
        y: &mut [f32],
    ) {
        let mut lines = ROW_SCRATCH.take();
        windows.clear(&mut lines, R::BORDER);
        for (channel, y) in channels.zip(y.chunks_mut(self.maps[1].channel_stride)) {
            let reduction = (lanes, reduction(channel));
            windows.reduce(reduction, self.plane(x, channel), y, &mut lines);
        }
        ROW_SCRATCH.set(lines);
    }

    /// Makes each pixel of y from that of x.
    #[inline(always)]
    fn each(&self, x: &[f32], y: &mut [f32], value: impl Fn(f32) -> f32) {
        let [from, to] = &self.maps;
        let [rows, columns] = self.output;
        for row in 0..rows {
            let x = &x[row * from.row_stride..][..columns];
            let y = &mut y[row * to.row_stride..];
            if to.pixel_stride == 1 {
                y[..columns].iter_mut().zip(x).for_each(|(y, &x)| *y = value(x));
            } else {
                y.iter_mut().step_by(to.pixel_stride).zip(x).for_each(|(y, &x)| *y = value(x));
            }
        }
    }
}

//! The portable variants: arrays of fixed size, which compilers turn into vectors of any kind.

use std::ops::Range;

use super::columns::{ColumnsKernel, Functions, Pass, TileFunctions};
use super::rows::{PaddedStrips, RowsKernel, StripsFunction};
use super::{Kernel, UprightLayer, micro_kernel};
use crate::kernels::simd::{Portable, Simd};
use crate::kernels::tile::Tile;
use crate::kernels::tile::output::{Placed, SharedOutput};

/// Four rows of eight columns: of sixteen registers of four floats, as x86 has without AVX, eight are sums.
const TILES: &[TileFunctions] =
    &[TileFunctions { width: Portable::LANES, passes: &[run::<1>, run::<2>, run::<3>, run::<4>] }];

pub(super) fn pack_columns(layer: &UprightLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, false)
}

pub(super) fn pack_panels(layer: &UprightLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, true)
}

fn pack(layer: &UprightLayer<'_>, panels: bool) -> Option<Box<dyn Kernel>> {
    // SAFETY: compiled for every processor.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, Functions { tiles: TILES, write }, panels) }))
}

pub(super) fn pack_rows(layer: &UprightLayer<'_>) -> Option<Box<dyn Kernel>> {
    let function: StripsFunction = match layer.weights.height() {
        4 => strips::<4>,
        8 => strips::<8>,
        16 => strips::<16>,
        _ => return pack_columns(layer),
    };
    // SAFETY: compiled for every processor, and for the layer's height.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}

/// # Safety
/// As [`StripsFunction`] asks.
unsafe fn strips<const H: usize>(
    layer: &PaddedStrips,
    x: &[f32],
    range: Range<usize>,
    out: &mut [f32],
) {
    // SAFETY: as this function asks.
    unsafe { layer.compute::<H, false>(x, range, out) };
}

/// # Safety
/// As [`micro_kernel::run`] asks.
unsafe fn run<const R: usize>(pass: &Pass<'_>, tile: &Tile) {
    // SAFETY: as this function asks.
    unsafe { micro_kernel::run::<_, R, 1>(Portable, pass, tile) };
}

/// # Safety
/// No other thread writes these rows and columns.
unsafe fn write(y: &SharedOutput<'_>, tile: &[f32], placed: &Placed<'_>) {
    // SAFETY: as this function asks.
    unsafe { y.write_activated(Portable, tile, placed) };
}

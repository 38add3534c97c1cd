//! AVX2 and FMA: four rows of 24 columns, twelve of the sixteen registers, with one row of X in three more and a
//! weight in the last: 4 broadcasts and 3 loads for 12 products of vectors.

use std::ops::Range;

use super::columns::{ColumnsKernel, Functions, Pass, PassFunction, TileFunctions};
use super::rows::{PaddedStrips, RowsKernel, StripsFunction};
use super::{Kernel, UprightLayer, micro_kernel};
use crate::device::cpu::Avx2;
use crate::kernels::simd::Simd;
use crate::kernels::tile::Tile;
use crate::kernels::tile::output::{Placed, SharedOutput};

const LANES: usize = Avx2::LANES;

const TILES: &[TileFunctions] = &[
    TileFunctions { width: LANES, passes: &passes::<1>() },
    TileFunctions { width: 2 * LANES, passes: &passes::<2>() },
    TileFunctions { width: 3 * LANES, passes: &passes::<3>() },
];

const fn passes<const V: usize>() -> [PassFunction; 4] {
    [run::<1, V>, run::<2, V>, run::<3, V>, run::<4, V>]
}

pub(super) fn pack_columns(layer: &UprightLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, false)
}

pub(super) fn pack_panels(layer: &UprightLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, true)
}

fn pack(layer: &UprightLayer<'_>, panels: bool) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    // SAFETY: `Avx2::new` has found the instructions.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, Functions { tiles: TILES, write }, panels) }))
}

pub(super) fn pack_rows(layer: &UprightLayer<'_>) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    let function: StripsFunction = match layer.weights.height() {
        4 => strips::<4>,
        8 => strips::<8>,
        16 => strips::<16>,
        _ => return pack_columns(layer),
    };
    // SAFETY: `Avx2::new` has found the instructions; the function is for the layer's height.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}

/// # Safety
/// As [`StripsFunction`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn strips<const H: usize>(
    layer: &PaddedStrips,
    x: &[f32],
    range: Range<usize>,
    out: &mut [f32],
) {
    // SAFETY: as this function asks.
    unsafe { layer.compute::<H, true>(x, range, out) };
}

/// # Safety
/// As [`micro_kernel::run`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn run<const R: usize, const V: usize>(pass: &Pass<'_>, tile: &Tile) {
    // SAFETY: as this function asks.
    unsafe { micro_kernel::run::<_, R, V>(Avx2::promised(), pass, tile) };
}

/// # Safety
/// No other thread writes these rows and columns; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn write(y: &SharedOutput<'_>, tile: &[f32], placed: &Placed<'_>) {
    // SAFETY: as this function asks.
    unsafe { y.write_activated(Avx2::promised(), tile, placed) };
}

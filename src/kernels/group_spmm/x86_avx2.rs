//! AVX2 and FMA: tiles of 24 columns for groups of eight, as two updates of rank four: their four rows of X
//! are twelve of the sixteen registers, and each broadcast weight serves three vectors. Those are 26
//! instructions for 12 products of vectors, which take 6 cycles; tiles of 16 columns have 20 for 8, more than
//! some processors begin in the 4 cycles, and more than one of two threads of a core may. (Rank eight would
//! need a broadcast for every product.) Of 32 columns for groups of two.

use std::arch::x86_64::*;
use std::ops::Range;

use super::columns::{self, ColumnsKernel, Functions, TileFunction};
use super::micro_kernel;
use super::pack::KBlockView;
use super::rows::{ROWS, Rows, RowsKernel, Slice, SlicesFunction};
use super::{GroupLayer, Kernel};
use crate::device::cpu::Avx2;
use crate::kernels::simd::Simd;
use crate::kernels::tile::Tile;
use crate::kernels::tile::output::{Placed, SharedOutput};
use crate::kernels::tile::panels::CACHED_FLOATS;

const LANES: usize = Avx2::LANES;

/// Floats of a stream of weights between what is used and what is fetched: 4 KiB, where a processor's own
/// fetching stops at each page.
const PREFETCH_DISTANCE: usize = 1 << 10;

pub(super) fn pack_rows(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    let function: SlicesFunction = match layer.weights.width() {
        2 => slices::<2>,
        4 => slices::<4>,
        8 | 16 => vector_slices(layer),
        _ => return pack_columns(layer),
    };
    // SAFETY: `Avx2::new` has found the instructions; the function is for the layer's width.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}

/// # Safety
/// As [`SlicesFunction`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn slices<const W: usize>(
    rows: &Rows,
    x: &[f32],
    range: Range<usize>,
    out: &mut [[f32; ROWS]],
) {
    // SAFETY: `compute` asks what `SlicesFunction` asks.
    unsafe { rows.compute::<W, true>(x, range, out) };
}

/// The function for groups of 8 and 16, one or two vectors wide. Weights that leave the second-level
/// cache are fetched ahead; others would only wait for it.
pub(super) fn vector_slices(layer: &GroupLayer<'_>) -> SlicesFunction {
    match (layer.weights.width(), layer.weights.nnz() > CACHED_FLOATS) {
        (8, false) => slices_of_vectors::<8, false>,
        (8, true) => slices_of_vectors::<8, true>,
        (_, false) => slices_of_vectors::<16, false>,
        (_, true) => slices_of_vectors::<16, true>,
    }
}

/// `AHEAD` says whether to fetch ahead.
///
/// # Safety
/// As [`SlicesFunction`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn slices_of_vectors<const W: usize, const AHEAD: bool>(
    rows: &Rows,
    x: &[f32],
    range: Range<usize>,
    out: &mut [[f32; ROWS]],
) {
    let bound = _mm256_set1_ps(if rows.relu() { 0.0 } else { f32::NEG_INFINITY });
    for (slice, out) in range.zip(out) {
        let Slice { starts, groups, bias } = rows.slice::<W>(slice);
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for (groups, starts) in groups.iter().zip(starts) {
            if AHEAD {
                let ahead = groups.as_ptr().cast::<f32>().wrapping_add(PREFETCH_DISTANCE);
                for line in (0..ROWS * W).step_by(16) {
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line).cast());
                }
            }
            for row in 0..ROWS {
                for half in (0..W).step_by(LANES) {
                    // SAFETY: every start is that of W activations within the copy.
                    unsafe {
                        let x = _mm256_loadu_ps(x.as_ptr().add(starts[row] as usize + half));
                        let weights = _mm256_loadu_ps(groups[row].as_ptr().add(half));
                        sums[row] = _mm256_fmadd_ps(weights, x, sums[row]);
                    }
                }
            }
        }
        // SAFETY: both arrays have eight floats. (A NaN stays, as `max` gives its second operand.)
        unsafe {
            let sums = _mm256_add_ps(sums_of(sums), _mm256_loadu_ps(bias.as_ptr()));
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_max_ps(bound, sums));
        }
    }
}

/// The sum of each vector's lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums_of([a, b, c, d, e, f, g, h]: [__m256; ROWS]) -> __m256 {
    let first = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let second = _mm256_hadd_ps(_mm256_hadd_ps(e, f), _mm256_hadd_ps(g, h));
    let low = _mm256_permute2f128_ps::<0x20>(first, second);
    let high = _mm256_permute2f128_ps::<0x31>(first, second);
    _mm256_add_ps(low, high)
}

/// Tiles of up to 24 columns.
pub(super) fn pack_columns(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, false)
}

/// Tiles of up to 16 columns, of which a block's stays in the first-level cache.
pub(super) fn pack_narrow(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, true)
}

/// Tiles for updates of rank four, whose four rows of X are twelve of the sixteen registers.
const OF_FOUR: &[TileFunction] = &[
    TileFunction { width: LANES, add: add::<4, 1> },
    TileFunction { width: 2 * LANES, add: add::<4, 2> },
    TileFunction { width: 3 * LANES, add: add::<4, 3> },
];

/// Tiles for updates of rank two.
const OF_TWO: &[TileFunction] = &[
    TileFunction { width: LANES, add: add::<2, 1> },
    TileFunction { width: 2 * LANES, add: add::<2, 2> },
    TileFunction { width: 4 * LANES, add: add::<2, 4> },
];

/// Of 24 columns, 48 KiB, more than first-level caches have: blocks that read X half as often are worth it
/// (384x2304, N of 64 and 512: up to 1.2 times as fast as two of 192 rows).
const ROWS_OF_A_BLOCK: usize = 512;

fn pack(layer: &GroupLayer<'_>, only_narrow: bool) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    let rank = columns::rank(layer.weights.width()).min(4);
    let tiles = if rank == 4 { OF_FOUR } else { OF_TWO };
    let tiles = if only_narrow { &tiles[..2] } else { tiles };
    let functions = Functions { tiles, rows: ROWS_OF_A_BLOCK, fill, write };
    // SAFETY: `Avx2::new` has found the instructions; the functions know every rank up to this one.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, functions) }))
}

#[target_feature(enable = "avx2,fma")]
fn fill(tile: &mut [f32], width: usize, bias: &[f32]) {
    columns::fill::<LANES>(tile, width, bias);
}

/// # Safety
/// As [`Functions`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn write(y: &SharedOutput<'_>, tile: &[f32], placed: &Placed<'_>) {
    // SAFETY: the processor has AVX2 and FMA, and no other thread writes there, as this function asks.
    unsafe { y.write_activated(Avx2::promised(), tile, placed) };
}

/// Adds a K block, whose columns have ranks up to `MOST`, to a tile of `V` vectors.
///
/// # Safety
/// As [`Functions`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn add<const MOST: usize, const V: usize>(
    k_block: &KBlockView<'_>,
    tile: &Tile,
    y: *mut f32,
) {
    // SAFETY: the processor has AVX2 and FMA, and the operands have the rows, as this function asks.
    unsafe { micro_kernel::add::<_, MOST, V>(Avx2::promised(), k_block, tile, y) };
}

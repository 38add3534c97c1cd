//! AVX2 and FMA: tiles of 24 columns for groups of eight, as two updates of rank four: their four rows of X
//! are twelve of the sixteen registers, and each broadcast weight serves three vectors. Those are 26
//! instructions for 12 products of vectors, which take 6 cycles; tiles of 16 columns have 20 for 8, more than
//! some processors begin in the 4 cycles, and more than one of two threads of a core may. (Rank eight would
//! need a broadcast for every product.) Of 32 columns for groups of two.

use std::arch::x86_64::*;
use std::ops::Range;

use super::columns::{self, CACHED_FLOATS, ColumnsKernel, Functions, TileFunction};
use super::output::{Placed, SharedOutput};
use super::pack::{GroupColumn, KBlockView};
use super::rows::{ROWS, Rows, RowsKernel, Slice, SlicesFunction};
use super::tiles::{Span, Tile};
use super::{GroupLayer, Kernel};
use crate::device::cpu::Avx2;

const LANES: usize = 8;

/// Floats of a stream of weights between what is used and what is fetched: 4 KiB, where a processor's own
/// fetching stops at each page.
const FETCHED_AHEAD: usize = 1 << 10;

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
    // SAFETY: by the caller's word.
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
                let ahead = groups.as_ptr().cast::<f32>().wrapping_add(FETCHED_AHEAD);
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
    // What is below it becomes the bound: 0, or nothing. A NaN stays, as `max` gives its second operand.
    let bound = _mm256_set1_ps(if placed.relu { 0.0 } else { f32::NEG_INFINITY });
    let copy = |from: *const f32, to: *mut f32, length: usize| {
        let whole = length / LANES * LANES;
        // SAFETY: whole vectors, and a mask for the rest, keep within the length. (Masked stores are
        // slow on some processors, so that whole vectors do without.)
        unsafe {
            for done in (0..whole).step_by(LANES) {
                let values = _mm256_loadu_ps(from.add(done));
                _mm256_storeu_ps(to.add(done), _mm256_max_ps(bound, values));
            }
            if whole < length {
                let mask = mask(length - whole);
                let values = _mm256_maskload_ps(from.add(whole), mask);
                _mm256_maskstore_ps(to.add(whole), mask, _mm256_max_ps(bound, values));
            }
        }
    };
    // SAFETY: by the caller's word.
    unsafe { y.write::<LANES>(tile, placed, copy) };
}

/// The first `length` lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn mask(length: usize) -> __m256i {
    let length = _mm256_set1_epi32(length.min(LANES) as i32);
    _mm256_cmpgt_epi32(length, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// What a vector takes of a row of X, as masks: the lanes of one line, and those of the next.
#[derive(Clone, Copy)]
struct Load {
    /// Whether all lanes are of one line.
    whole: bool,
    at: usize,
    own: __m256i,
    /// Where the next line's lanes would start if they were the vector's first.
    next: usize,
    rest: __m256i,
}

impl Load {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(&Span { at, own, next, valid }: &Span) -> Self {
        let rest = _mm256_andnot_si256(mask(own), mask(valid));
        let (whole, next) = (own == LANES, next.wrapping_sub(own));
        Self { whole, at, own: mask(own), next, rest }
    }

    /// The vector, 0 after what it takes. `WHOLE` says that it is whole.
    ///
    /// # Safety
    /// The row has these columns.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of<const WHOLE: bool>(&self, row: *const f32) -> __m256 {
        // SAFETY: the masks keep within the columns.
        unsafe {
            let first = row.wrapping_add(self.at);
            if WHOLE || self.whole {
                return _mm256_loadu_ps(first);
            }
            let own = _mm256_maskload_ps(first, self.own);
            _mm256_or_ps(own, _mm256_maskload_ps(row.wrapping_add(self.next), self.rest))
        }
    }
}

/// Adds a K block, whose columns have ranks up to `MOST`, to a tile of `V` vectors.
///
/// # Safety
/// As [`Functions`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn add<const MOST: usize, const V: usize>(k_block: &KBlockView<'_>, tile: &Tile) {
    // SAFETY: by the caller's word.
    unsafe {
        if tile.is_whole(V, LANES) {
            add_loaded::<MOST, V, true>(k_block, tile);
        } else {
            add_loaded::<MOST, V, false>(k_block, tile);
        }
    }
}

/// # Safety
/// As for [`add`]; the tile is whole where it is said to be.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_loaded<const MOST: usize, const V: usize, const WHOLE: bool>(
    k_block: &KBlockView<'_>,
    tile: &Tile,
) {
    let loads: [Load; V] = std::array::from_fn(|v| Load::new(&tile.spans()[v]));
    for (index, column) in k_block.columns.iter().enumerate() {
        if tile.ahead
            && let Some(next) = k_block.columns.get(index + 1)
        {
            for lane in 0..next.width() {
                // SAFETY: row first + lane of X exists; a prefetch faults nowhere.
                unsafe {
                    let row = tile.row(next.first() + lane).wrapping_add(loads[0].at);
                    _mm_prefetch::<_MM_HINT_T0>(row.cast());
                }
            }
        }
        // SAFETY: by the caller's word.
        unsafe {
            match column.rank() {
                4 if MOST >= 4 => update::<4, V, WHOLE>(k_block, column, tile, &loads),
                2 => update::<2, V, WHOLE>(k_block, column, tile, &loads),
                _ => update::<1, V, WHOLE>(k_block, column, tile, &loads),
            }
        }
    }
}

/// # Safety
/// As for [`add_loaded`]; the column is one of the K block, of rank `E`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn update<const E: usize, const V: usize, const WHOLE: bool>(
    k_block: &KBlockView<'_>,
    column: &GroupColumn,
    tile: &Tile,
    loads: &[Load; V],
) {
    let mut x = [[_mm256_setzero_ps(); V]; E];
    for (lane, x) in x.iter_mut().enumerate() {
        if lane < column.width() {
            // SAFETY: row first + lane of X exists, and has the tile's columns.
            unsafe {
                let row = tile.row(column.first() + lane);
                for (x, load) in x.iter_mut().zip(loads) {
                    *x = load.of::<WHOLE>(row);
                }
            }
        }
    }
    let (rows, weights) = k_block.entries::<E>(column);
    for (&row, weights) in rows.iter().zip(weights) {
        // SAFETY: the tile of Y has that row, of V vectors.
        unsafe {
            let y = tile.y.add(row as usize * V * LANES);
            let mut sums: [__m256; V] = std::array::from_fn(|v| _mm256_loadu_ps(y.add(v * LANES)));
            for (&weight, x) in weights.iter().zip(&x) {
                let weight = _mm256_set1_ps(weight);
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum = _mm256_fmadd_ps(weight, x, *sum);
                }
            }
            for (v, &sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(y.add(v * LANES), sum);
            }
        }
    }
}

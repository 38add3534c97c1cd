//! Many columns: rank-W updates, group column by group column.
//!
//! The rows are cut into blocks whose tile of Y stays in the first-level cache, or not far from it, and
//! each block's columns into K blocks whose weights stay in the second-level cache while all tiles of N pass.
//! Groups wider than the rank are taken as several; narrower leftovers are padded to the next of 1, 2 and 4
//! with weights of 0, which meet activations of 0 and not of the neighbour.
//!
//! X is read once per block, so that with a large N, where it no longer stays in a cache, high blocks are
//! better, for which tiles may have to be narrow; otherwise wide tiles, which spread each weight over more
//! vectors. The rows of a large X that the next group column needs are fetched ahead, since no processor
//! foresees them: they lie N floats apart. For the same reason a tile of them touches as many pages of memory
//! as it has rows, more than a processor keeps the addresses of: where several blocks read a large X, it is
//! first copied into panels as wide as a tile, one after the other. Rows that overlap, as the taps of a
//! convolution do, are never copied: their panels would be larger than what they are read from.

use std::cell::RefCell;
use std::ops::Range;

use super::pack::{KBlockView, RowBlock, WorkItem};
use super::{GroupLayer, Kernel};
use crate::kernels::aligned::Aligned;
use crate::kernels::layout::{Input, Output};
use crate::kernels::parallel::threads;
use crate::kernels::tile::output::{Placed, SharedOutput};
use crate::kernels::tile::panels::{CACHED_FLOATS, with_operand};
use crate::kernels::tile::{Computed, Operand, Tile};

/// Blocks from which it pays to copy a large X into panels.
const PANELS_FROM: usize = 3;

/// What an instruction set brings: tiles of some widths, and the ways into and out of them.
///
/// # Safety
/// The processor has what the functions were compiled for; the pointers hold what [`Tile`] and
/// [`SharedOutput`] say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    /// Of one vector and, in order, of more.
    pub tiles: &'static [TileFunction],
    /// Rows of the highest block.
    pub rows: usize,
    /// Sets every row of a tile of that width to its bias.
    pub fill: unsafe fn(tile: &mut [f32], width: usize, bias: &[f32]),
    /// Writes a tile's rows, from `first_row` on, to their places.
    pub write: unsafe fn(&SharedOutput<'_>, tile: &[f32], &Placed<'_>),
}

impl Functions {
    /// Columns of a vector.
    pub(super) fn lanes(&self) -> usize {
        self.tiles[0].width
    }

    /// The widest tile.
    pub(super) fn widest(&self) -> TileFunction {
        self.tiles[self.tiles.len() - 1]
    }

    /// The tile to begin `columns` columns with: the widest, until two halves are left, or less.
    fn tile_for(&self, columns: usize) -> TileFunction {
        let widest = self.widest();
        let wanted = match columns.div_ceil(widest.width) {
            1 => columns,
            2 => columns.div_ceil(2),
            _ => widest.width,
        };
        let holds = self.tiles.iter().find(|function| function.width >= wanted);
        holds.copied().unwrap_or(widest)
    }
}

/// Adds a K block's products to a tile of so many columns: its part of X, and its rows of Y, each as wide as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileFunction {
    pub width: usize,
    pub add: unsafe fn(&KBlockView<'_>, &Tile, *mut f32),
}

/// A layer in the order of its group columns, with the functions that run it.
#[derive(Debug)]
pub(super) struct ColumnsKernel {
    pub(super) blocks: Vec<RowBlock>,
    bias: Vec<f32>,
    relu: bool,
    pub(super) nnz: usize,
    /// Group columns of all blocks.
    pub(super) columns: usize,
    /// Their entries.
    pub(super) entries: usize,
    /// Rows of X.
    pub(super) inner: usize,
    pub(super) functions: Functions,
}

impl ColumnsKernel {
    /// Packs a layer for updates of rank `rank`.
    ///
    /// # Safety
    /// The processor has what the functions were compiled for, and they know every rank up to this one.
    pub(super) unsafe fn new(layer: &GroupLayer<'_>, rank: usize, functions: Functions) -> Self {
        let [rows, inner] = layer.weights.shape();
        let blocks = RowBlock::all(layer, rank, functions.rows, threads());
        let [columns, entries] =
            blocks.iter().map(RowBlock::counts).fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
        Self {
            blocks,
            columns,
            entries,
            bias: layer.bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec),
            relu: layer.relu,
            nnz: layer.weights.nnz(),
            inner,
            functions,
        }
    }

    /// The tiles of some columns: each one's first column and function.
    pub(super) fn tiles(
        &self,
        columns: Range<usize>,
    ) -> impl Iterator<Item = (usize, TileFunction)> + use<> {
        let functions = self.functions;
        let mut first = columns.start;
        std::iter::from_fn(move || {
            let left = columns.end - first;
            let function = functions.tile_for(left);
            let tile = (first, function);
            first = columns.end.min(first + function.width);
            (left > 0).then_some(tile)
        })
    }

    /// Whether X is to be copied into panels.
    fn wants_panels(&self, x: &Input<'_>, n: usize) -> bool {
        let large = x.values.len() > CACHED_FLOATS;
        large && self.blocks.len() >= PANELS_FROM && x.rows.gap() >= n
    }

    /// Computes one part of Y.
    pub(super) fn part(&self, part: &WorkItem<'_>, x: &Operand<'_>, y: &SharedOutput<'_>) {
        let WorkItem { block, row_slice, ref columns } = *part;
        let tiles = || self.tiles(columns.clone());
        SCRATCH.with_borrow_mut(|scratch| {
            // With one K block, no weights are waiting for other tiles: one after the other, each stays in
            // the first-level cache from its bias to its end.
            if let [k_block] = &block.k_blocks[..] {
                let k_block = k_block.part(row_slice);
                let scratch = room(scratch, self.functions.widest().width * block.rows);
                for (first, function) in tiles() {
                    self.begin(part, function, scratch);
                    self.add(part, &k_block, (first, function), scratch, x);
                    self.finish(part, (first, function), scratch, y);
                }
                return;
            }
            // Each tile with floats of its own.
            let placed = || {
                tiles().scan(0, |floats, (first, function)| {
                    let start = *floats;
                    *floats += function.width * block.rows;
                    Some(((first, function), start..*floats))
                })
            };
            let scratch = room(scratch, placed().last().map_or(0, |(_, floats)| floats.end));
            for ((_, function), floats) in placed() {
                self.begin(part, function, &mut scratch[floats]);
            }
            for k_block in &block.k_blocks {
                let k_block = k_block.part(row_slice);
                for (tile, floats) in placed() {
                    self.add(part, &k_block, tile, &mut scratch[floats], x);
                }
            }
            for (tile, floats) in placed() {
                self.finish(part, tile, &scratch[floats], y);
            }
        });
    }

    /// Sets the rows of a tile to their biases.
    fn begin(
        &self,
        part: &WorkItem<'_>,
        TileFunction { width, .. }: TileFunction,
        tile: &mut [f32],
    ) {
        let rows = part.rows();
        let bias = &self.bias[part.block.first_row..][rows.clone()];
        // SAFETY: `ColumnsKernel::new` asks that the processor has what the functions were compiled for.
        unsafe {
            (self.functions.fill)(&mut tile[width * rows.start..width * rows.end], width, bias)
        };
    }

    /// Adds a K block's products to the tile whose first column is that one.
    fn add(
        &self,
        part: &WorkItem<'_>,
        k_block: &KBlockView<'_>,
        (first, TileFunction { width, add }): (usize, TileFunction),
        tile: &mut [f32],
        x: &Operand<'_>,
    ) {
        let valid = width.min(part.columns.end - first);
        assert!(tile.len() >= width * part.block.rows, "room for the block's rows");
        let x = x.tile(first, valid, self.functions.lanes());
        // SAFETY: `ColumnsKernel::new` asks that the processor has what the functions were compiled for. X has K rows of n floats, and every
        // group column lies below K; the tile's columns are of these n. The tile of Y has the block's rows,
        // and every entry's row lies below them.
        unsafe { add(k_block, &x, tile.as_mut_ptr()) };
    }

    /// Writes the tile whose first column is that one to its place.
    fn finish(
        &self,
        part: &WorkItem<'_>,
        (first, TileFunction { width, .. }): (usize, TileFunction),
        tile: &[f32],
        y: &SharedOutput<'_>,
    ) {
        let (rows, valid) = (part.rows(), width.min(part.columns.end - first));
        let (first_row, relu) = (part.block.first_row + rows.start, self.relu);
        y.place(first, valid, self.functions.lanes(), |places| {
            let placed = Placed { width, first_row, places, relu };
            let tile = &tile[width * rows.start..width * rows.end];
            // SAFETY: `ColumnsKernel::new` asks that the processor has what the functions were compiled for; no two calls write the same rows
            // and columns of Y.
            unsafe { (self.functions.write)(y, tile, &placed) };
        });
    }
}

/// So many floats of it.
fn room(scratch: &mut Aligned, floats: usize) -> &mut [f32] {
    if scratch.len() < floats {
        scratch.set_length(floats);
    }
    &mut scratch[..floats]
}

/// The rank of the updates for groups of a width: the widest that does not reach beyond a group, and
/// that registers hold.
pub(super) fn rank(width: usize) -> usize {
    match width {
        8.. => 8,
        4.. => 4,
        _ => 2,
    }
}

/// Sets every row of a tile to its bias, `L` floats at a time.
#[inline(always)]
pub(super) fn fill<const L: usize>(tile: &mut [f32], width: usize, bias: &[f32]) {
    for (row, &bias) in tile.chunks_exact_mut(width).zip(bias) {
        row.as_chunks_mut::<L>().0.fill([bias; L]);
    }
}

thread_local! {
    /// The tiles of Y, kept from call to call.
    static SCRATCH: RefCell<Aligned> = const { RefCell::new(Aligned::new()) };
}

impl Kernel for ColumnsKernel {
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>) {
        if n == 0 {
            return;
        }
        let (columns, lines) = Computed::of(y.columns, n, self.functions.lanes());
        let output = SharedOutput::new(y, lines);
        let width = self.functions.widest().width;
        with_operand(x, self.inner, columns, self.wants_panels(x, n), width, |x| {
            self.blocks_of(x, columns.count, &output);
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernels::layout::{RowTable, Rows};
    use crate::sparse::GroupSparse;
    use ndarray::Array2;

    /// A kernel that does nothing, in tiles of 8 and 24 columns.
    pub(in super::super) fn idle(layer: &GroupLayer<'_>) -> ColumnsKernel {
        const IDLE: &[TileFunction] = &[
            TileFunction { width: 8, add: |_, _, _| () },
            TileFunction { width: 24, add: |_, _, _| () },
        ];
        let (fill, write) = (
            |_: &mut [f32], _, _: &[f32]| (),
            |_: &SharedOutput<'_>, _: &[f32], _: &Placed<'_>| (),
        );
        let functions = Functions { tiles: IDLE, rows: 512, fill, write };
        // SAFETY: functions that do nothing ask for nothing.
        unsafe { ColumnsKernel::new(layer, 4, functions) }
    }

    #[test]
    fn only_a_large_x_whose_rows_lie_apart_is_copied() {
        let weights = GroupSparse::from_dense(Array2::ones((2000, 4)).view(), 4).unwrap();
        let layer = GroupLayer { weights: &weights, bias: None, relu: false };
        let kernel = idle(&layer);
        let (n, values) = (CACHED_FLOATS / 2, vec![0.0; 2 * CACHED_FLOATS]);
        let wants = |rows: Rows<'_>, n| kernel.wants_panels(&Input { values: &values, rows }, n);
        assert!(wants(Rows::Every(n), n));
        assert!(!wants(Rows::Every(1), n), "rows that overlap");
        assert!(!wants(Rows::At(&RowTable::new(vec![0, 1, 2, 3])), n), "taps of a convolution");
        assert!(
            wants(Rows::At(&RowTable::new(vec![0, 3 * n, n, 2 * n])), n),
            "rows that were kept"
        );
        let small = Input { values: &values[..64], rows: Rows::Every(16) };
        assert!(!kernel.wants_panels(&small, 16));
    }
}

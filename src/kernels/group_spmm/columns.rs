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

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::output::{Placed, SharedOutput};
use super::pack::{KBlockView, RowBlock};
use super::tiles::{Computed, Operand, Tile};
use super::{GroupLayer, Kernel};
use crate::kernels::aligned::Aligned;
use crate::kernels::layout::{Input, Output, Rows};
use crate::kernels::parallel::{parallel_for, task_count, threads};

/// Floats up to which a core's second-level cache holds them: 1 MiB.
pub(super) const CACHED_FLOATS: usize = 256 << 10;

/// Blocks from which it pays to copy a large X into panels.
const PANELS_FROM: usize = 3;

/// Floats that a thread copies in a microsecond.
const COPIED_PER_MICROSECOND: usize = 1_000;

/// What a group column takes beside its entries, by [`ColumnsKernel::estimate`]: to read its rows of X, and to
/// begin with entries that lie elsewhere (measured: a core that computes 384x2304 and 1000x4096 slice by slice,
/// densities .08 and .3, takes 35 to 100 for each column more).
const UNITS_OF_A_COLUMN: usize = 50;

/// Useful operations that a thread does in a microsecond.
const PER_MICROSECOND: usize = 110_000;

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
    fn lanes(&self) -> usize {
        self.tiles[0].width
    }

    /// The widest tile.
    fn widest(&self) -> TileFunction {
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

/// Adds a K block's products to a tile of so many columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileFunction {
    pub width: usize,
    pub add: unsafe fn(&KBlockView<'_>, &Tile),
}

/// A layer in the order of its group columns, with the functions that run it.
#[derive(Debug)]
pub(super) struct ColumnsKernel {
    blocks: Vec<RowBlock>,
    bias: Vec<f32>,
    relu: bool,
    nnz: usize,
    /// Group columns of all blocks.
    columns: usize,
    /// Their entries.
    entries: usize,
    /// Rows of X.
    inner: usize,
    functions: Functions,
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
    fn tiles(&self, columns: Range<usize>) -> impl Iterator<Item = (usize, TileFunction)> + use<> {
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
    fn part(&self, part: &WorkItem<'_>, x: &Operand<'_>, y: &SharedOutput<'_>) {
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
        // SAFETY: whoever made this kernel vouched for the processor.
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
        let tile = x.tile(first, valid, self.functions.lanes(), tile.as_mut_ptr());
        // SAFETY: whoever made this kernel vouched for the processor. X has K rows of n floats, and every
        // group column lies below K; the tile's columns are of these n. The tile of Y has the block's rows,
        // and every entry's row lies below them.
        unsafe { add(k_block, &tile) };
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
            // SAFETY: whoever made this kernel vouched for the processor; no two calls write the same rows
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

/// Copies the K rows of X into panels of `width` columns, by all threads; each reads the rows of its panels
/// from end to end. After the last column, a panel keeps what it held: no tile reads it.
fn fill_panels(x: &Input<'_>, rows: usize, n: usize, width: usize, panels: &mut Aligned) {
    let (count, size) = (n.div_ceil(width), rows * width);
    if panels.len() < count * size {
        panels.set_length(count * size);
    }
    let each = count.div_ceil(task_count(rows * n, COPIED_PER_MICROSECOND));
    let fill = |(part, panels): (usize, &mut [f32])| {
        let columns = part * each * width..n.min((part + 1) * each * width);
        for row in 0..rows {
            let start = x.rows.start(row);
            let from = &x.values[start + columns.start..start + columns.end];
            for (panel, from) in panels.chunks_mut(size).zip(from.chunks(width)) {
                panel[row * width..][..from.len()].copy_from_slice(from);
            }
        }
    };
    parallel_for(panels[..count * size].chunks_mut(each * size).enumerate().collect(), fill);
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
    /// The panels of X, kept from call to call.
    static PANELS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
}

impl Kernel for ColumnsKernel {
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>) {
        if n == 0 {
            return;
        }
        let (columns, lines) = Computed::of(y.columns, n, self.functions.lanes());
        let output = SharedOutput::new(y, lines);
        // Taken and put back, since another product may run on this thread while it waits for others.
        let mut panels = PANELS.take();
        let width = self.functions.widest().width;
        let x = if columns == Computed::plain(n) && self.wants_panels(x, n) {
            fill_panels(x, self.inner, n, width, &mut panels);
            let columns = Computed::panels(n, self.inner, width);
            let x = Input { values: &panels, rows: Rows::Every(width) };
            Operand { x, columns, ahead: false }
        } else {
            Operand { x: *x, columns, ahead: x.values.len() > CACHED_FLOATS }
        };
        self.blocks_of(&x, columns.count, &output);
        PANELS.set(panels);
    }
}

/// Some columns of the rows of a block, or of one of its slices.
#[derive(Clone)]
struct WorkItem<'a> {
    block: &'a RowBlock,
    row_slice: Option<usize>,
    columns: Range<usize>,
}

impl WorkItem<'_> {
    /// Its rows, counted from the block's first.
    fn rows(&self) -> Range<usize> {
        self.row_slice
            .map_or(0..self.block.rows, |row_slice| self.block.row_slices[row_slice].clone())
    }
}

/// What parts a product is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Partition {
    /// Columns of a part.
    width: usize,
    /// Whether a part has the rows of one slice only.
    row_slices: bool,
}

impl ColumnsKernel {
    /// The partition where `parts` are wanted of all blocks together. Tiles are whole, since narrow ones spread
    /// each weight over less. If those are too few for all threads, each thread has a part of the columns; or of
    /// the rows, if that should be faster.
    fn partition(&self, n: usize, parts: usize, threads: usize) -> Partition {
        let (blocks, row_slices) = (self.units(false), self.units(true));
        let width = |parts: usize, units: usize| n.div_ceil(parts.div_ceil(units));
        let whole = |units| width(parts, units).next_multiple_of(self.functions.widest().width);
        let each =
            |units| width(parts.min(threads), units).next_multiple_of(self.functions.lanes());
        if n.div_ceil(whole(blocks)) * blocks >= 2 * threads {
            return Partition { width: whole(blocks), row_slices: false };
        }
        let by_columns = Partition { width: each(blocks), row_slices: false };
        if row_slices == blocks || row_slices > parts {
            return by_columns;
        }
        let by_rows = [whole(row_slices), each(row_slices)]
            .map(|width| Partition { width, row_slices: true });
        let all = [by_columns].into_iter().chain(by_rows);
        all.min_by_key(|&partition| self.estimate(n, partition, threads)).unwrap_or(by_columns)
    }

    /// Into how many parts the rows are cut.
    fn units(&self, row_slices: bool) -> usize {
        if row_slices {
            self.blocks.iter().map(|block| block.row_slices.len()).sum()
        } else {
            self.blocks.len()
        }
    }

    /// About how long the busiest thread takes. The unit is what an entry takes for itself, and again for each
    /// vector: half a nanosecond (AVX2, updates of rank 4).
    fn estimate(&self, n: usize, partition: Partition, threads: usize) -> usize {
        let units = self.units(partition.row_slices);
        let (entries, columns) = (self.entries / units, self.columns / self.blocks.len());
        let part = |columns_of_y: Range<usize>| -> usize {
            let vectors = |tile: TileFunction| tile.width / self.functions.lanes();
            self.tiles(columns_of_y)
                .map(|(_, tile)| entries * (1 + vectors(tile)) + UNITS_OF_A_COLUMN * columns)
                .sum()
        };
        let rounds = (n.div_ceil(partition.width) * units).div_ceil(threads);
        rounds * part(0..partition.width.min(n))
    }

    /// Computes all blocks.
    fn blocks_of(&self, x: &Operand<'_>, n: usize, output: &SharedOutput<'_>) {
        let whole = |block| WorkItem { block, row_slice: None, columns: 0..n };
        let parts = task_count(2 * self.nnz * n, PER_MICROSECOND);
        if parts == 1 {
            self.blocks.iter().for_each(|block| self.part(&whole(block), x, output));
            return;
        }
        let Partition { width, row_slices } = self.partition(n, parts, threads());
        let units = self.blocks.iter().flat_map(|block| {
            let count = if row_slices { block.row_slices.len() } else { 1 };
            let row_slice = move |row_slice| if count > 1 { Some(row_slice) } else { None };
            (0..count).map(move |index| WorkItem { row_slice: row_slice(index), ..whole(block) })
        });
        let ranges = || (0..n).step_by(width).map(|first| first..n.min(first + width));
        let work = units
            .flat_map(|unit| ranges().map(move |columns| WorkItem { columns, ..unit.clone() }));
        parallel_for(work.collect(), |part| self.part(&part, x, output));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::layout::RowTable;
    use crate::sparse::GroupSparse;
    use ndarray::Array2;

    /// A kernel that does nothing, in tiles of 8 and 24 columns.
    fn idle(layer: &GroupLayer<'_>) -> ColumnsKernel {
        const IDLE: &[TileFunction] = &[
            TileFunction { width: 8, add: |_, _| () },
            TileFunction { width: 24, add: |_, _| () },
        ];
        let (fill, write) = (
            |_: &mut [f32], _, _: &[f32]| (),
            |_: &SharedOutput<'_>, _: &[f32], _: &Placed<'_>| (),
        );
        let functions = Functions { tiles: IDLE, rows: 512, fill, write };
        // SAFETY: functions that do nothing ask for nothing.
        unsafe { ColumnsKernel::new(layer, 4, functions) }
    }

    /// The partition of a product with so many rows, packed for as many threads as run it.
    fn partition(rows: usize, n: usize, parts: usize, threads: usize) -> (usize, bool) {
        let weights = GroupSparse::from_dense(Array2::ones((rows, 8)).view(), 8).unwrap();
        let layer = GroupLayer { weights: &weights, bias: None, relu: false };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let Partition { width, row_slices } =
            pool.install(|| idle(&layer).partition(n, parts, crate::kernels::threads()));
        (width, row_slices)
    }

    #[test]
    fn parts_are_whole_tiles_where_there_are_enough_for_all_threads() {
        assert_eq!(partition(10, 1024, 8, 2), (144, false));
        assert_eq!(partition(10, 256, 8, 2), (48, false));
        assert_eq!(partition(10, 64, 8, 2), (32, false), "no 24, 24 and 16");
        assert_eq!(partition(10, 20, 8, 4), (8, false));
        assert_eq!(partition(10, 1024, 3, 64), (344, false), "no more parts than are worth it");
        assert_eq!(partition(2000, 1024, 8, 2), (528, false), "of each of four blocks");
        assert_eq!(partition(2000, 10, 4, 2), (24, false), "all columns of each block");
    }

    #[test]
    fn rows_are_parted_where_columns_are_few() {
        assert_eq!(partition(300, 24, 8, 2), (24, true), "of two row_slices");
        assert_eq!(partition(300, 8, 8, 2), (24, true), "one tile");
        assert_eq!(partition(300, 48, 8, 2), (24, false), "two tiles, one for each thread");
        assert_eq!(partition(300, 64, 8, 2), (32, false), "two tiles for each thread");
        assert_eq!(partition(300, 64, 32, 8), (24, true));
        assert_eq!(
            partition(40, 64, 64, 16),
            (8, true),
            "of two row_slices: columns are parted, too"
        );
        assert_eq!(
            partition(300, 64, 5, 8),
            (16, false),
            "eight row_slices are more than are worth it"
        );
        assert_eq!(
            partition(4096, 24, 64, 16),
            (24, true),
            "two row_slices of each of eight blocks"
        );
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
        assert!(wants(Rows::At(&RowTable::new(vec![0, 3 * n, n, 2 * n])), n), "living rows");
        let small = Input { values: &values[..64], rows: Rows::Every(16) };
        assert!(!kernel.wants_panels(&small, 16));
    }
}

//! Many columns: rank-W updates, group column by group column.
//!
//! The rows are cut into blocks whose tile of Y stays in the first-level cache, or not far from it, and
//! each block's columns into pieces whose weights stay in the second-level cache while all tiles of N pass.
//! Groups wider than the rank are taken as several; narrower leftovers are padded to the next of 1, 2 and 4
//! with weights of 0, which meet activations of 0 and not of the neighbour.
//!
//! X is read once per block, so that with a large N, where it no longer stays in a cache, high blocks are
//! better, for which tiles may have to be narrow; otherwise wide tiles, which spread each weight over more
//! vectors. The rows of a large X that the next group column needs are fetched ahead, since no processor
//! foresees them: they lie N floats apart. For the same reason a tile of them touches as many pages of memory
//! as it has rows, more than a processor keeps the addresses of: where several blocks read a large X, it is
//! first copied into panels as wide as a tile, one behind the other. Rows that overlap, as the taps of a
//! convolution do, are never copied: their panels would be larger than what they are read from.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::tiles::{Computed, Operand, Tile};
use super::{Kernel, Layer};
use crate::kernels::aligned::Aligned;
use crate::kernels::layout::{Input, Lines, Output, Rows};
use crate::kernels::sharing::{parts, share_out};

/// Floats up to which a core's second-level cache holds them: 1 MiB.
pub(super) const CACHED_FLOATS: usize = 256 << 10;

/// Blocks from which it pays to copy a large X into panels.
const PANELS_FROM: usize = 3;

/// Bytes of a piece's weights.
const PIECE_BYTES: usize = 256 << 10;

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
    /// Writes the segments of a tile's rows, from `first_row` on, to their places.
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

/// Adds a piece's products to a tile of so many columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileFunction {
    pub width: usize,
    pub add: unsafe fn(&Piece, &Tile),
}

/// Where a tile goes.
pub(super) struct Placed<'a> {
    pub width: usize,
    pub first_row: usize,
    pub segments: &'a [Segment],
    pub relu: bool,
}

/// Rows that own one group of K.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupColumn {
    /// Its first row of X.
    pub first: usize,
    /// How many rows of X it has, 1 to its rank.
    pub width: usize,
    /// Weights per entry, 0 behind `width`: 1, 2, 4 or 8.
    pub rank: usize,
    /// Its entries' rows.
    pub rows: (usize, usize),
    /// Its first entry's weights.
    pub weights: usize,
}

impl Piece {
    /// The entries of a column of rank `E`: their rows within the block, and their weights.
    #[inline(always)]
    pub(super) fn entries<const E: usize>(&self, column: &GroupColumn) -> (&[u32], &[[f32; E]]) {
        let rows = &self.rows[column.rows.0..column.rows.1];
        let weights = &self.weights[column.weights..column.weights + rows.len() * E];
        (rows, weights.as_chunks().0)
    }
}

/// Group columns whose weights stay in cache together.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// In order of K.
    pub columns: Vec<GroupColumn>,
    /// The row within the block of each entry.
    pub rows: Vec<u32>,
    /// As many weights per entry as its column's rank.
    pub weights: Vec<f32>,
}

#[derive(Debug)]
struct Block {
    first_row: usize,
    rows: usize,
    pieces: Vec<Piece>,
}

/// A layer in the order of its group columns, with the functions that run it.
#[derive(Debug)]
pub(super) struct ColumnsKernel {
    blocks: Vec<Block>,
    bias: Vec<f32>,
    relu: bool,
    nnz: usize,
    /// Rows of X.
    inner: usize,
    functions: Functions,
}

impl ColumnsKernel {
    /// Packs a layer for updates of rank `rank`.
    ///
    /// # Safety
    /// The processor has what the functions were compiled for, and they know every rank up to this one.
    pub(super) unsafe fn new(layer: &Layer<'_>, rank: usize, functions: Functions) -> Self {
        let [rows, inner] = layer.weights.shape();
        let blocks =
            split(layer.weights.row_ptr(), functions.rows).into_iter().map(|range| Block {
                first_row: range.start,
                rows: range.len(),
                pieces: pieces(layer, range.start, range.len(), rank),
            });
        Self {
            blocks: blocks.collect(),
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

    /// Computes columns `columns` of one block.
    fn block(&self, block: &Block, x: &Operand<'_>, columns: Range<usize>, y: &SharedOutput<'_>) {
        // With one piece, no weights are waiting for other tiles: one after the other, each stays in
        // the first-level cache from its bias to its end.
        if block.pieces.len() == 1 {
            for (first, TileFunction { width, .. }) in self.tiles(columns.clone()) {
                self.strip(block, x, first..columns.end.min(first + width), y);
            }
        } else {
            self.strip(block, x, columns, y);
        }
    }

    fn strip(&self, block: &Block, x: &Operand<'_>, columns: Range<usize>, y: &SharedOutput<'_>) {
        let bias = &self.bias[block.first_row..block.first_row + block.rows];
        let tiles = || self.tiles(columns.clone());
        SCRATCH.with_borrow_mut(|scratch| {
            let floats: usize = tiles().map(|(_, function)| function.width * block.rows).sum();
            if scratch.len() < floats {
                scratch.set_length(floats);
            }
            let mut rest = &mut scratch[..floats];
            for (_, TileFunction { width, .. }) in tiles() {
                let (own, behind) = rest.split_at_mut(width * block.rows);
                rest = behind;
                // SAFETY: whoever made this kernel vouched for the processor.
                unsafe { (self.functions.fill)(own, width, bias) };
            }
            for piece in &block.pieces {
                let mut rest = &mut scratch[..floats];
                for (first, TileFunction { width, add }) in tiles() {
                    let (own, behind) = rest.split_at_mut(width * block.rows);
                    rest = behind;
                    let valid = width.min(columns.end - first);
                    let lanes = self.functions.lanes();
                    let tile = x.tile(first, valid, lanes, own.as_mut_ptr());
                    // SAFETY: whoever made this kernel vouched for the processor. X has K rows of n
                    // floats, and every group column lies below K; the tile's columns are of these n.
                    // The tile of Y has the block's rows, and every entry's row lies below them.
                    unsafe { add(piece, &tile) };
                }
            }
            let mut rest = &scratch[..floats];
            for (first, TileFunction { width, .. }) in tiles() {
                let (own, behind) = rest.split_at(width * block.rows);
                rest = behind;
                let valid = width.min(columns.end - first);
                let mut room = [Segment::default(); MOST_COLUMNS];
                let segments = y.segments(first, valid, &mut room);
                let (first_row, relu) = (block.first_row, self.relu);
                let placed = Placed { width, first_row, segments, relu };
                // SAFETY: whoever made this kernel vouched for the processor; no two calls write the
                // same rows and columns of Y.
                unsafe { (self.functions.write)(y, own, &placed) };
            }
        });
    }
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

/// Copies the K rows of X into panels of `width` columns; each row is read from end to end. Behind the
/// last column, a panel keeps what it held: no tile reads it.
fn fill_panels(x: &Input<'_>, rows: usize, n: usize, width: usize, panels: &mut Aligned) {
    let floats = n.div_ceil(width) * rows * width;
    if panels.len() < floats {
        panels.set_length(floats);
    }
    for row in 0..rows {
        let start = x.rows.start(row);
        for (panel, part) in x.values[start..start + n].chunks(width).enumerate() {
            panels[(panel * rows + row) * width..][..part.len()].copy_from_slice(part);
        }
    }
}

/// Sets every row of a tile to its bias, `L` floats at a time.
#[inline(always)]
pub(super) fn fill<const L: usize>(tile: &mut [f32], width: usize, bias: &[f32]) {
    for (row, &bias) in tile.chunks_exact_mut(width).zip(bias) {
        row.as_chunks_mut::<L>().0.fill([bias; L]);
    }
}

/// Rows cut into the fewest ranges of at most `most` rows, with as equal shares of the stored groups as
/// that allows.
fn split(row_ptr: &[u32], most: usize) -> Vec<Range<usize>> {
    let rows = row_ptr.len() - 1;
    let count = rows.div_ceil(most);
    let mut ranges = Vec::with_capacity(count);
    let mut first = 0;
    for index in 1..=count {
        let share = (row_ptr[rows] as u64 * index as u64 / count as u64) as u32;
        let end = row_ptr.partition_point(|&place| place < share);
        // Neither more rows than a block holds, nor so few that the rest would not fit.
        let least = rows.saturating_sub((count - index) * most).max(first + 1);
        let end = end.max(least).min(first + most).min(rows - (count - index));
        ranges.push(first..end);
        first = end;
    }
    ranges
}

thread_local! {
    /// The tiles of Y, kept from call to call.
    static SCRATCH: RefCell<Aligned> = const { RefCell::new(Aligned::new()) };
    /// The panels of X, kept from call to call.
    static PANELS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
}

/// Columns of the widest tile.
const MOST_COLUMNS: usize = 32;

/// Columns of a tile that stay side by side where they are written.
#[derive(Clone, Copy, Default)]
pub(super) struct Segment {
    /// First column, within the tile.
    from: usize,
    /// Where it goes, from the row's start.
    to: usize,
    length: usize,
}

/// Y, of which threads write disjoint parts.
pub(super) struct SharedOutput<'a> {
    start: *mut f32,
    length: usize,
    rows: Rows<'a>,
    lines: Lines,
}

// SAFETY: `write` is the only way to it, and asks its callers for disjoint parts.
unsafe impl Sync for SharedOutput<'_> {}

impl SharedOutput<'_> {
    /// Where the columns `first..first + valid` go.
    fn segments<'s>(
        &self,
        first: usize,
        valid: usize,
        room: &'s mut [Segment; MOST_COLUMNS],
    ) -> &'s [Segment] {
        let Lines { computed, kept, pitch } = self.lines;
        let (mut count, mut column) = (0, first);
        while column < first + valid {
            let (line, within) = (column / computed, column % computed);
            let side_by_side = (computed - within).min(first + valid - column);
            let length = side_by_side.min(kept.saturating_sub(within));
            room[count] = Segment { from: column - first, to: line * pitch + within, length };
            count += usize::from(length > 0);
            column += side_by_side;
        }
        &room[..count]
    }

    /// Writes the segments of a tile's rows to their places by `copy`, which is given a source, a
    /// target and their length; all lie within the tile and the output.
    ///
    /// # Safety
    /// No other thread writes these rows and columns.
    #[inline(always)]
    pub(super) unsafe fn write(
        &self,
        tile: &[f32],
        placed: &Placed<'_>,
        copy: impl Fn(*const f32, *mut f32, usize),
    ) {
        for (row, from) in (placed.first_row..).zip(tile.chunks_exact(placed.width)) {
            let start = self.rows.start(row);
            for &Segment { from: first, to, length } in placed.segments {
                let to = start + to;
                assert!(to + length <= self.length && first + length <= from.len());
                // SAFETY: both lie within their slices, as asserted.
                unsafe { copy(from.as_ptr().add(first), self.start.add(to), length) };
            }
        }
    }
}

impl Kernel for ColumnsKernel {
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>) {
        if n == 0 {
            return;
        }
        let Output { values, rows, lines } = y;
        let (columns, lines) = Computed::of(lines, n, self.functions.lanes());
        let output = SharedOutput { start: values.as_mut_ptr(), length: values.len(), rows, lines };
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

impl ColumnsKernel {
    /// Columns of a part, where `parts` are wanted of all blocks together: whole tiles, since narrow ones
    /// spread each weight over less; but a part for each thread where that would leave some with none, or with
    /// half of what others have.
    fn width_of_parts(&self, n: usize, parts: usize, threads: usize) -> usize {
        let blocks = self.blocks.len();
        let width = |parts: usize| n.div_ceil(parts.div_ceil(blocks));
        let whole = width(parts).next_multiple_of(self.functions.widest().width);
        if n.div_ceil(whole) * blocks >= 2 * threads {
            whole
        } else {
            width(parts.min(threads)).next_multiple_of(self.functions.lanes())
        }
    }

    /// Computes all blocks.
    fn blocks_of(&self, x: &Operand<'_>, n: usize, output: &SharedOutput<'_>) {
        let parts = parts(2 * self.nnz * n, PER_MICROSECOND);
        if parts == 1 {
            self.blocks.iter().for_each(|block| self.block(block, x, 0..n, output));
            return;
        }
        let width = self.width_of_parts(n, parts, crate::kernels::threads());
        let ranges = || (0..n).step_by(width).map(|first| first..n.min(first + width));
        let work = self.blocks.iter().flat_map(|block| ranges().map(move |range| (block, range)));
        share_out(work.collect(), |(block, range)| self.block(block, x, range, output));
    }
}

/// The group columns of some rows, cut into pieces.
fn pieces(layer: &Layer<'_>, first_row: usize, rows: usize, rank: usize) -> Vec<Piece> {
    let weights = layer.weights;
    let ([_, columns], width) = (weights.shape(), weights.width());
    // The entries of each group, by row.
    let mut owners: Vec<Vec<(u32, usize)>> = vec![Vec::new(); columns / width];
    for row in 0..rows {
        let range = &weights.row_ptr()[first_row + row..];
        for place in range[0] as usize..range[1] as usize {
            owners[weights.groups()[place] as usize].push((row as u32, place));
        }
    }
    let mut pieces = vec![Piece::default()];
    let mut push =
        |first: usize, width: usize, entries: &mut dyn Iterator<Item = (u32, &[f32])>| {
            if pieces.last().is_some_and(|piece| 4 * piece.weights.len() >= PIECE_BYTES) {
                pieces.push(Piece::default());
            }
            let Some(piece) = pieces.last_mut() else { return };
            let rank = width.next_power_of_two();
            let (from, weights_from) = (piece.rows.len(), piece.weights.len());
            for (row, weights) in entries {
                piece.rows.push(row);
                piece.weights.extend(weights);
                piece.weights.extend(std::iter::repeat_n(0.0, rank - weights.len()));
            }
            let rows = (from, piece.rows.len());
            if rows.1 > from {
                piece.columns.push(GroupColumn { first, width, rank, rows, weights: weights_from });
            }
        };
    for (group, owners) in owners.iter().enumerate() {
        for chunk in (0..width).step_by(rank) {
            let wide = rank.min(width - chunk);
            let part = |&(row, place): &(u32, usize)| {
                (row, &weights.values()[place * width + chunk..place * width + chunk + wide])
            };
            push(group * width + chunk, wide, &mut owners.iter().map(part));
        }
    }
    let tail = columns % width;
    for chunk in (0..tail).step_by(rank) {
        let wide = rank.min(tail - chunk);
        let part = |row: usize| {
            let start = (first_row + row) * tail + chunk;
            (row as u32, &weights.tail()[start..start + wide])
        };
        push(columns - tail + chunk, wide, &mut (0..rows).map(part));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::layout::RowTable;
    use crate::sparse::GroupSparse;
    use ndarray::Array2;

    #[test]
    fn blocks_share_the_work_and_none_is_too_high() {
        // 90 rows of one group, then 10 of 99: equal rows would be 50 and 50.
        let mut row_ptr: Vec<u32> = (0..=90).collect();
        row_ptr.extend((1..=10).map(|row| 90 + 99 * row));
        let ranges = split(&row_ptr, 96);
        assert_eq!(ranges.len(), 2);
        let work = |range: &Range<usize>| row_ptr[range.end] - row_ptr[range.start];
        assert!(work(&ranges[0]).abs_diff(work(&ranges[1])) <= 99, "{ranges:?}");
        for (rows, most) in [(0, 4), (1, 4), (4, 4), (5, 4), (9, 4), (12, 4)] {
            for row_ptr in [vec![0; rows + 1], (0..=rows as u32).map(|row| row * row).collect()] {
                let ranges = split(&row_ptr, most);
                assert_eq!(ranges.len(), rows.div_ceil(most));
                assert!(ranges.iter().all(|range| (1..=most).contains(&range.len())), "{ranges:?}");
                assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), rows);
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }
    }

    /// A kernel that does nothing, in tiles of 8 and 24 columns.
    fn idle(layer: &Layer<'_>) -> ColumnsKernel {
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

    #[test]
    fn parts_are_whole_tiles_where_there_are_enough_for_all_threads() {
        let width = |rows, n, parts, threads| {
            let weights = GroupSparse::from_dense(Array2::ones((rows, 8)).view(), 8).unwrap();
            let layer = Layer { weights: &weights, bias: None, relu: false };
            idle(&layer).width_of_parts(n, parts, threads)
        };
        assert_eq!(width(10, 1024, 8, 2), 144);
        assert_eq!(width(10, 256, 8, 2), 48);
        assert_eq!(width(10, 64, 8, 2), 32, "no 24, 24 and 16");
        assert_eq!(width(10, 20, 8, 4), 8);
        assert_eq!(width(10, 1024, 3, 64), 344, "no more parts than are worth it");
        assert_eq!(width(2000, 1024, 8, 2), 528, "of each of four blocks");
        assert_eq!(width(2000, 10, 4, 2), 24, "all columns of each block");
    }

    #[test]
    fn only_a_large_x_whose_rows_lie_apart_is_copied() {
        let weights = GroupSparse::from_dense(Array2::ones((2000, 4)).view(), 4).unwrap();
        let layer = Layer { weights: &weights, bias: None, relu: false };
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

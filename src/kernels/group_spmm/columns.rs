//! Many columns: rank-E updates, group column by group column.
//!
//! The rows are cut into blocks whose tile of Y stays in the first-level cache, and each block's
//! columns into pieces whose weights stay in the second-level cache while all tiles of N pass. Groups
//! wider than E are taken as several; narrower leftovers are padded with weights of 0, which meet
//! activations of 0 and not of the neighbour.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{Kernel, Layer, activate};

/// Rows of a block: 256 x 32 floats are 32 KiB.
const BLOCK_ROWS: usize = 256;

/// Bytes of a piece's weights.
const PIECE_BYTES: usize = 256 << 10;

/// Useful operations below which one thread is as fast as all.
const WORTH_A_THREAD: usize = 1_000_000;

/// Adds a piece's products to one tile of Y.
///
/// # Safety
/// The processor has what the function was compiled for. The tile's pointers hold what [`Tile`] says.
pub(super) type PieceFunction = unsafe fn(&Piece, &Tile);

/// Part of Y and the part of X above it.
pub(super) struct Tile {
    /// X at row 0 and the tile's first column: `valid` floats may be read from each row.
    pub x: *const f32,
    /// From one row of X to the next.
    pub stride: usize,
    /// Columns of the tile that exist, 1 to its width.
    pub valid: usize,
    /// The block's rows of Y, each as wide as a tile.
    pub y: *mut f32,
}

/// Rows that own one group of K.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupColumn {
    /// Its first row of X.
    pub first: usize,
    /// How many rows of X it has, 1 to E.
    pub width: usize,
    /// Its entries.
    pub from: usize,
    /// Behind its last entry.
    pub to: usize,
}

/// Group columns whose weights stay in cache together.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// In order of K.
    pub columns: Vec<GroupColumn>,
    /// The row within the block of each entry.
    pub rows: Vec<u32>,
    /// E weights per entry.
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
    functions: TileFunctions,
}

/// The functions for a wide tile and for a narrow one, each with its columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileFunctions {
    pub wide: (usize, PieceFunction),
    pub narrow: (usize, PieceFunction),
}

impl ColumnsKernel {
    /// Packs a layer for updates of rank `rank`.
    ///
    /// # Safety
    /// The processor has what the functions were compiled for, and they are those of this rank.
    pub(super) unsafe fn new(layer: &Layer<'_>, rank: usize, functions: TileFunctions) -> Self {
        let [rows, _] = layer.weights.shape();
        let count = rows.div_ceil(BLOCK_ROWS).max(1);
        let height = rows.div_ceil(count).max(1);
        let blocks = (0..rows).step_by(height).map(|first_row| {
            let rows = height.min(rows - first_row);
            Block { first_row, rows, pieces: pieces(layer, first_row, rows, rank) }
        });
        Self {
            blocks: blocks.collect(),
            bias: layer.bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec),
            relu: layer.relu,
            nnz: layer.weights.nnz(),
            functions,
        }
    }

    /// Computes columns `columns` of one block.
    fn block(
        &self,
        block: &Block,
        x: &[f32],
        n: usize,
        columns: std::ops::Range<usize>,
        y: &Output,
    ) {
        let TileFunctions { wide, narrow } = self.functions;
        let tiles: Vec<(usize, usize, PieceFunction)> = {
            let mut tiles = Vec::new();
            let mut first = columns.start;
            while first < columns.end {
                let left = columns.end - first;
                let (width, function) = if left > narrow.0 { wide } else { narrow };
                tiles.push((first, width, function));
                first += width;
            }
            tiles
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let floats: usize = tiles.iter().map(|&(_, width, _)| width * block.rows).sum();
            scratch.clear();
            scratch.reserve(floats);
            for &(_, width, _) in &tiles {
                for &bias in &self.bias[block.first_row..block.first_row + block.rows] {
                    scratch.extend(std::iter::repeat_n(bias, width));
                }
            }
            for piece in &block.pieces {
                let mut place = 0;
                for &(first, width, function) in &tiles {
                    let rest = &mut scratch[place..place + width * block.rows];
                    let valid = width.min(columns.end - first);
                    let tile = Tile {
                        x: x.as_ptr().wrapping_add(first),
                        stride: n,
                        valid,
                        y: rest.as_mut_ptr(),
                    };
                    // SAFETY: whoever made this kernel vouched for the processor. X has K rows of n
                    // floats, and every group column lies below K; first + valid <= n. The tile of Y
                    // has the block's rows, and every entry's row lies below them.
                    unsafe { function(piece, &tile) };
                    place += width * block.rows;
                }
            }
            let mut place = 0;
            for &(first, width, _) in &tiles {
                let valid = width.min(columns.end - first);
                for row in 0..block.rows {
                    let from = &scratch[place..place + valid];
                    // SAFETY: no two calls write the same rows and columns of Y.
                    let to = unsafe { y.part((block.first_row + row) * n + first, valid) };
                    for (to, &from) in to.iter_mut().zip(from) {
                        *to = activate(from, self.relu);
                    }
                    place += width;
                }
            }
        });
    }
}

thread_local! {
    /// The tiles of Y, kept from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Y, of which threads write disjoint parts.
struct Output {
    start: *mut f32,
    length: usize,
}

// SAFETY: `part` is the only way to it, and asks its callers for disjoint parts.
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    /// No two parts that are alive at once overlap.
    #[allow(clippy::mut_from_ref)] // parts of one output, as `split_at_mut` gives
    unsafe fn part(&self, first: usize, length: usize) -> &mut [f32] {
        assert!(first + length <= self.length);
        // SAFETY: within the slice that it was made from, which is borrowed for as long; disjoint
        // from other parts by the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

impl Kernel for ColumnsKernel {
    fn run(&self, x: &[f32], n: usize, y: &mut [f32]) {
        if n == 0 {
            return;
        }
        let output = Output { start: y.as_mut_ptr(), length: y.len() };
        let threads = rayon::current_num_threads();
        if threads == 1 || 2 * self.nnz * n < WORTH_A_THREAD {
            self.blocks.iter().for_each(|block| self.block(block, x, n, 0..n, &output));
            return;
        }
        // Ranges of whole tiles, so many that there is work for all even with one block.
        let wide = self.functions.wide.0;
        let parts = n.div_ceil(wide).min(threads.div_ceil(self.blocks.len().max(1)) * 2).max(1);
        let width = n.div_ceil(wide).div_ceil(parts) * wide;
        let tasks: Vec<_> = self
            .blocks
            .iter()
            .flat_map(|block| {
                (0..n).step_by(width).map(move |first| (block, first..n.min(first + width)))
            })
            .collect();
        let run = |(block, columns): (&Block, std::ops::Range<usize>)| {
            self.block(block, x, n, columns, &output);
        };
        tasks.into_par_iter().for_each(run);
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
            let from = piece.rows.len();
            for (row, weights) in entries {
                piece.rows.push(row);
                piece.weights.extend(weights);
                piece.weights.extend(std::iter::repeat_n(0.0, rank - weights.len()));
            }
            if piece.rows.len() > from {
                piece.columns.push(GroupColumn { first, width, from, to: piece.rows.len() });
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

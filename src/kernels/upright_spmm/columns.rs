//! Many columns: for each tile of them, strip by strip.
//!
//! A strip of more rows than registers hold sums for takes several *passes* over its groups, of about equally many
//! rows. A tile whose columns leave as whole vectors goes from registers to its place in Y; another
//! goes through a scratch, as do sums that wait for the next block of K.

use std::cell::RefCell;
use std::ops::Range;

use super::pack::{Groups, Strip, Strips};
use super::{Kernel, UprightLayer};
use crate::device::cpu;
use crate::kernels::aligned::Aligned;
use crate::kernels::layout::{Input, Output};
use crate::kernels::parallel::{parallel_for, task_count, threads};
use crate::kernels::tile::output::{Placed, Places, SharedOutput};
use crate::kernels::tile::{Computed, Operand, Tile};

/// Useful operations that a thread does in a microsecond.
const PER_MICROSECOND: usize = 100_000;

/// How often a row of X must be read, on the mean, for it to pay to copy it into a panel.
const READS_PER_COPY: usize = 2;

/// Strips of equally many rows, and what is computed of them: some of each one's rows, by its groups in a block of K.
///
/// A function takes many strips at once: of few groups, one takes little longer than a call.
pub(super) struct Pass<'a> {
    pub strips: &'a [Strip],
    /// Each strip's.
    pub groups: &'a [Groups],
    /// The row of X of every group of the layer, and of [`super::pack::AHEAD`] that come after them.
    pub columns: *const u32,
    /// The weights of every group of the layer.
    pub weights: *const f32,
    /// Rows of a strip: from a group's weights to the next one's.
    pub height: usize,
    /// The rows of each strip to compute, as many at a time as the function takes.
    pub rows: Range<usize>,
    pub start: Start,
    pub end: End<'a>,
}

/// What sums begin with.
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// The bias of each of Y's rows.
    Bias(*const f32),
    /// Those of the blocks of K before.
    Sums(Sums),
}

/// Where sums go.
#[derive(Clone, Copy)]
pub(super) enum End<'a> {
    /// They wait.
    Sums(Sums),
    /// Each vector goes to its place in Y.
    Output { y: &'a SharedOutput<'a>, places: &'a [usize], relu: bool },
}

/// Sums that wait, row by row, from one of Y's rows on.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub start: *mut f32,
    pub first_row: usize,
}

/// Computes the rows of a pass of a tile.
///
/// # Safety
/// The processor has what the function was compiled for; and as [`super::micro_kernel::run`] asks.
pub(super) type PassFunction = unsafe fn(&Pass<'_>, &Tile);

/// Tiles of so many columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileFunctions {
    pub width: usize,
    /// A pass of one row, of two, and so on.
    pub passes: &'static [PassFunction],
}

/// What an instruction set brings.
///
/// # Safety
/// The processor has what the functions were compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    /// Of one vector and, in order, of more.
    pub tiles: &'static [TileFunctions],
    /// Writes a scratch's rows to their places.
    pub write: unsafe fn(&SharedOutput<'_>, tile: &[f32], &Placed<'_>),
}

impl Functions {
    fn lanes(&self) -> usize {
        self.tiles[0].width
    }

    fn widest(&self) -> usize {
        self.tiles[self.tiles.len() - 1].width
    }

    /// The tile to begin `columns` columns with: the widest, until two halves are left, or less.
    fn tile_for(&self, columns: usize) -> TileFunctions {
        let widest = self.tiles[self.tiles.len() - 1];
        let wanted = match columns.div_ceil(widest.width) {
            1 => columns,
            2 => columns.div_ceil(2),
            _ => widest.width,
        };
        self.tiles.iter().find(|tile| tile.width >= wanted).copied().unwrap_or(widest)
    }
}

/// A layer in strips, with the functions that run it.
#[derive(Debug)]
pub(super) struct ColumnsKernel {
    strips: Strips,
    bias: Vec<f32>,
    relu: bool,
    functions: Functions,
    /// Whether a large X is copied, panel by panel.
    panels: bool,
}

/// Some strips and columns of Y.
#[derive(Clone, Debug)]
struct WorkItem {
    strips: Range<usize>,
    columns: Range<usize>,
}

thread_local! {
    /// Sums that wait, and a panel of X; kept from call to call.
    static SCRATCH: RefCell<(Aligned, Aligned)> =
        const { RefCell::new((Aligned::new(), Aligned::new())) };
}

impl ColumnsKernel {
    /// Packs a layer; with `panels`, a large X is copied.
    ///
    /// # Safety
    /// The processor has what the functions were compiled for.
    pub unsafe fn new(layer: &UprightLayer<'_>, functions: Functions, panels: bool) -> Self {
        let strips = Strips::new(layer, functions.widest());
        let rows = layer.weights.shape()[0];
        let bias = layer.bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec);
        Self { strips, bias, relu: layer.relu, functions, panels }
    }

    /// Whether some strips copy the part of X above a tile into a panel: where X has several tiles and fills half
    /// of a second-level cache, its rows do not overlap, and each is read often enough.
    fn wants_panel(&self, strips: &Range<usize>, x: &Operand<'_>) -> bool {
        let n = x.columns.count;
        let large = 4 * self.strips.inner * n >= cpu::caches().l2 / 2;
        let several = n > self.functions.widest() && x.columns == Computed::plain(n);
        let groups = self.strips.count() * strips.len() / self.strips.strips.len();
        let reads = groups / self.strips.inner.max(1);
        self.panels && large && several && reads >= READS_PER_COPY && x.x.rows.gap() >= n
    }

    /// Parts for so many threads: of whole tiles, if there are enough of them, else of strips.
    fn partition(&self, n: usize, parts: usize, threads: usize) -> Vec<WorkItem> {
        let tiles = n.div_ceil(self.functions.widest());
        let by_columns = if tiles >= 2 * threads { parts.min(tiles) } else { 1 };
        let width = n.div_ceil(by_columns).next_multiple_of(self.functions.widest());
        let strips = self.strips.ranges(parts.div_ceil(n.div_ceil(width)));
        let columns = (0..n).step_by(width).map(|first| first..n.min(first + width));
        columns
            .flat_map(|columns| {
                let item = move |strips: &Range<usize>| WorkItem {
                    strips: strips.clone(),
                    columns: columns.clone(),
                };
                strips.iter().map(item).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Computes a part of Y, tile by tile.
    fn part(&self, part: &WorkItem, x: &Operand<'_>, y: &SharedOutput<'_>) {
        let mut first = part.columns.start;
        while first < part.columns.end {
            let tile = self.functions.tile_for(part.columns.end - first);
            let valid = tile.width.min(part.columns.end - first);
            y.place(first, valid, self.functions.lanes(), |places| {
                self.tile(&part.strips, (first, valid), tile, &places, x, y);
            });
            first += valid;
        }
    }

    /// Computes some strips of a tile: `valid` columns from `first` on.
    fn tile(
        &self,
        strips: &Range<usize>,
        (first, valid): (usize, usize),
        functions: TileFunctions,
        places: &Places<'_>,
        x: &Operand<'_>,
        y: &SharedOutput<'_>,
    ) {
        let copied = self.wants_panel(strips, x);
        let rows: usize = self.strips.strips[strips.clone()].iter().map(|strip| strip.rows).sum();
        let (width, blocks) = (functions.width, self.strips.blocks());
        let first_row = self.strips.strips.get(strips.start).map_or(0, |strip| strip.first_row);
        let mut x_tile = x.tile(first, valid, self.functions.lanes());
        SCRATCH.with_borrow_mut(|(scratch, panel)| {
            let direct = matches!(places, Places::Vectors(_));
            if (blocks > 1 || !direct) && scratch.len() < rows * width {
                scratch.set_length(rows * width);
            }
            let sums = Sums { start: scratch.as_mut_ptr(), first_row };
            for block in 0..blocks {
                if copied {
                    let rows = self.strips.block_rows(block);
                    x_tile = x.tile_in_panel(rows, (first, valid), self.functions.lanes(), panel);
                }
                let start = match block {
                    0 => Start::Bias(self.bias.as_ptr()),
                    _ => Start::Sums(sums),
                };
                let end = match places {
                    Places::Vectors(places) if block + 1 == blocks => {
                        End::Output { y, places, relu: self.relu }
                    }
                    _ => End::Sums(sums),
                };
                // SAFETY: X has been checked to have K rows of these columns; the scratch has every row of these
                // strips wherever sums wait; no two parts have the same rows and columns.
                unsafe { self.block(block, strips, functions.passes, (start, end), &x_tile) };
            }
            if !direct {
                let placed = Placed { width, first_row, places: *places, relu: self.relu };
                // SAFETY: as above.
                unsafe { (self.functions.write)(y, &scratch[..rows * width], &placed) };
            }
        });
    }

    /// Computes a block of K of some strips of a tile.
    ///
    /// # Safety
    /// The tile is of an X of K rows; sums that come from a scratch, or stay in one, have every row of the strips there;
    /// no other thread writes the strips' rows of these columns.
    unsafe fn block(
        &self,
        block: usize,
        strips: &Range<usize>,
        functions: &'static [PassFunction],
        (start, end): (Start, End<'_>),
        tile: &Tile,
    ) {
        let (columns, weights) = (self.strips.columns(), self.strips.weights());
        let mut first = strips.start;
        for own in self.strips.strips[strips.clone()].chunk_by(|a, b| a.rows == b.rows) {
            let groups = self.strips.groups(block, first..first + own.len());
            first += own.len();
            let height = own[0].rows;
            for (rows, function) in passes(functions, height) {
                let pass = Pass { strips: own, groups, columns, weights, height, rows, start, end };
                // SAFETY: `new` asks that the processor has what the function was compiled for. Every group's row of X
                // is one of K, as are those that follow the last; the groups' weights are as many as the strip's rows,
                // of which the pass's are some; there is a bias for each of Y's rows. The rest is as this function
                // asks.
                unsafe { function(&pass, tile) };
            }
        }
    }
}

/// The rows of a strip by the functions that take them: as few passes as there can be, none of which takes two rows more
/// than another. (Each loads X anew, so that one of few rows takes longer than its products.)
fn passes(
    functions: &'static [PassFunction],
    rows: usize,
) -> impl Iterator<Item = (Range<usize>, PassFunction)> {
    let count = rows.div_ceil(functions.len()).max(1);
    let (fewer, larger) = (rows / count, rows % count);
    let split = larger * (fewer + 1);
    [(0..split, fewer + 1), (split..rows, fewer)]
        .into_iter()
        .filter(|(own, _)| !own.is_empty())
        .map(|(own, rows)| (own, functions[rows - 1]))
}

impl Kernel for ColumnsKernel {
    fn run(&self, x: &Input<'_>, n: usize, y: Output<'_>) {
        if n == 0 || self.strips.strips.is_empty() {
            return;
        }
        let (columns, lines) = Computed::of(y.columns, n, self.functions.lanes());
        let output = SharedOutput::new(y, lines);
        let x = Operand { x: *x, columns, ahead: true };
        let n = columns.count;
        let parts = task_count(2 * self.strips.nnz() * n, PER_MICROSECOND);
        if parts == 1 {
            let all = WorkItem { strips: 0..self.strips.strips.len(), columns: 0..n };
            return self.part(&all, &x, &output);
        }
        let parts = self.partition(n, parts, threads());
        parallel_for(parts, |part| self.part(&part, &x, &output));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_take_every_row_of_a_strip_once_and_share_them_evenly() {
        fn idle(_: &Pass<'_>, _: &Tile) {}
        const FUNCTIONS: &[PassFunction] = &[idle as PassFunction; 9];
        let ranges = |rows: usize| -> Vec<_> { passes(FUNCTIONS, rows).map(|own| own.0).collect() };
        for rows in 0..40 {
            let all: Vec<usize> = ranges(rows).into_iter().flatten().collect();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
        let counts = |rows: usize| -> Vec<usize> {
            passes(FUNCTIONS, rows).map(|(own, _)| own.len()).collect()
        };
        assert_eq!(counts(9), [9]);
        assert_eq!(counts(16), [16], "twice eight");
        assert_eq!(counts(20), [14, 6], "twice seven, and six");
    }
}

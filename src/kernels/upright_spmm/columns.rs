//! Many columns: for each tile of them, strip by strip.
//!
//! A strip of more rows than registers hold sums for takes several *passes* over its groups, of eight rows, then
//! four, two and one. A tile whose columns leave as whole vectors goes from registers to its place in Y; another
//! goes through a scratch, as do sums that wait for the next block of K.

use std::cell::RefCell;
use std::ops::Range;

use super::pack::{Groups, Strips};
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

/// Some rows of a strip, and its groups in a block of K.
pub(super) struct Pass<'a> {
    /// How many.
    pub groups: usize,
    /// The row of X of each group, and of [`super::pack::AHEAD`] that come after them.
    pub columns: *const u32,
    /// The weights of the pass's rows in the first group.
    pub weights: *const f32,
    /// From a group's weights to the next one's.
    pub stride: usize,
    pub start: Start,
    pub end: End<'a>,
}

/// What sums begin with.
pub(super) enum Start {
    /// The bias of each row.
    Bias(*const f32),
    /// Those of the blocks of K before, row by row.
    Sums(*const f32),
}

/// Where sums go.
pub(super) enum End<'a> {
    /// They wait, row by row.
    Sums(*mut f32),
    /// Each vector goes to its place in Y.
    Output { y: &'a SharedOutput<'a>, first_row: usize, places: &'a [usize], relu: bool },
}

/// Adds a pass's products to its rows of a tile.
///
/// # Safety
/// The processor has what the function was compiled for; and as [`super::micro_kernel::run`] asks.
pub(super) type PassFunction = unsafe fn(&Pass<'_>, &Tile);

/// Tiles of so many columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileFunctions {
    pub width: usize,
    /// Rows of a pass and its function, from the most rows down to one.
    pub passes: &'static [(usize, PassFunction)],
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
            for block in 0..blocks {
                let [begins, ends] = [block == 0, block + 1 == blocks];
                if copied {
                    let rows = self.strips.block_rows(block);
                    x_tile = x.tile_in_panel(rows, (first, valid), self.functions.lanes(), panel);
                }
                for index in strips.clone() {
                    let strip = self.strips.strips[index];
                    let Groups { count, columns, weights } = self.strips.groups(block, index);
                    for (own, function) in passes(functions.passes, strip.rows) {
                        let row = strip.first_row + own.start;
                        let sums = scratch.as_mut_ptr().wrapping_add((row - first_row) * width);
                        let start = match begins {
                            true => Start::Bias(self.bias[row..row + own.len()].as_ptr()),
                            false => Start::Sums(sums),
                        };
                        let end = match places {
                            Places::Vectors(places) if ends => {
                                End::Output { y, first_row: row, places, relu: self.relu }
                            }
                            _ => End::Sums(sums),
                        };
                        let weights = weights.wrapping_add(own.start);
                        let stride = strip.rows;
                        let pass = Pass { groups: count, columns, weights, stride, start, end };
                        // SAFETY: `new` asks that the processor has what the function was compiled for. X has
                        // been checked to have K rows of these columns, and every group's is one of them, as
                        // are those that follow the last; the groups' weights are as many as the strip's rows,
                        // of which the pass's are some; the scratch has every row; no two parts have the same
                        // rows and columns.
                        unsafe { function(&pass, &x_tile) };
                    }
                }
            }
            if !direct {
                let placed = Placed { width, first_row, places: *places, relu: self.relu };
                // SAFETY: as above.
                unsafe { (self.functions.write)(y, &scratch[..rows * width], &placed) };
            }
        });
    }
}

/// The rows of a strip by the passes that take them.
fn passes(
    functions: &'static [(usize, PassFunction)],
    rows: usize,
) -> impl Iterator<Item = (Range<usize>, PassFunction)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let &(own, function) = functions.iter().find(|(own, _)| *own <= rows - done)?;
        let pass = (done..done + own, function);
        done += own;
        Some(pass)
    })
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
    fn passes_take_every_row_of_a_strip_once() {
        fn idle(_: &Pass<'_>, _: &Tile) {}
        const FUNCTIONS: &[(usize, PassFunction)] = &[(8, idle), (4, idle), (2, idle), (1, idle)];
        for rows in 0..40 {
            let all: Vec<usize> = passes(FUNCTIONS, rows).flat_map(|(own, _)| own).collect();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
        let ranges: Vec<_> = passes(FUNCTIONS, 15).map(|(own, _)| own).collect();
        assert_eq!(ranges, [0..8, 8..12, 12..14, 14..15]);
    }
}

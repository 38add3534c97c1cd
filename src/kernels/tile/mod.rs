//! Tiles of Y: which columns of X one takes ([`Tile`]), how a vector loads them ([`Load`]), where its results
//! go ([`output`]), and copies of a large X in panels as wide as a tile ([`panels`]).
//!
//! Of lines that keep only some of their columns, as the product of a convolution does between two rows of
//! its image, the others are never computed: columns are counted without them, so that a vector may end one
//! line and begin the next. Its lanes then come from two places of each row of X.

pub(super) mod output;
pub(super) mod panels;

use std::ops::Range;

use super::aligned::{Aligned, LINE};
use super::layout::{ColumnLayout, Input, Rows};
use super::simd::{Simd, prefetch};

/// Vectors of the widest tile.
pub(super) const MOST_VECTORS: usize = 4;

/// Rows of X between the one that is copied and the one that is fetched: they lie too far apart for a processor
/// to foresee them.
const PREFETCH_DISTANCE: usize = 24;

/// The columns of X that are computed, counted without those that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Computed {
    pub count: usize,
    /// Columns of a line.
    line: usize,
    /// From one line's first column to the next one's, in X.
    pitch: usize,
}

impl Computed {
    /// All of `n` columns, as one line.
    pub fn plain(n: usize) -> Self {
        Self { count: n, line: n, pitch: n }
    }

    /// `n` columns in panels of `width`, each with its part of all `rows` rows.
    pub fn panels(n: usize, rows: usize, width: usize) -> Self {
        Self { count: n, line: width, pitch: rows * width }
    }

    /// Those that vectors of `lanes`, a power of two, compute of `n` columns in such lines; and the lines of
    /// Y that come of them, one where nothing lies between them. Where a vector would take parts of three lines, all columns are computed.
    pub fn of(columns: ColumnLayout, n: usize, lanes: usize) -> (Self, ColumnLayout) {
        let ColumnLayout { width, kept, line_stride, .. } = columns;
        // A vector starts at a multiple of this within its line, and of the last such place needs
        // `kept - common + lanes` columns from the line's first on.
        let common = lanes.min(1 << kept.trailing_zeros());
        if kept >= width.min(n) || kept + common < lanes {
            return (Self::plain(n), columns);
        }
        let count = n / width * kept + kept.min(n % width);
        let left = match line_stride == kept {
            true => ColumnLayout::contiguous(count),
            false => ColumnLayout::lines(kept, kept, line_stride),
        };
        (Self { count, line: kept, pitch: width }, left)
    }

    /// What vectors of `lanes` take: `valid` columns from `first` on.
    fn spans(&self, first: usize, valid: usize, lanes: usize) -> [Span; MOST_VECTORS] {
        let mut spans = [Span::default(); MOST_VECTORS];
        let (mut line, mut within) = (first / self.line, first % self.line);
        for (span, done) in spans.iter_mut().zip((0..valid).step_by(lanes)) {
            let valid = lanes.min(valid - done);
            let own = valid.min(self.line - within);
            *span =
                Span { at: line * self.pitch + within, own, next: (line + 1) * self.pitch, valid };
            within += lanes;
            while within >= self.line {
                (line, within) = (line + 1, within - self.line);
            }
        }
        spans
    }
}

/// What a vector takes of a row of X: its lanes below `own` from the place `at` on, the others below
/// `valid` from the place `next` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub at: usize,
    pub own: usize,
    pub next: usize,
    pub valid: usize,
}

/// The part of X above a tile of Y.
pub(super) struct Tile {
    /// The rows of X.
    pub rows: TileRows,
    spans: [Span; MOST_VECTORS],
    /// Whether X is larger than what a core caches, so that its rows should be fetched ahead.
    pub ahead: bool,
}

/// Where the rows of X start.
#[derive(Clone, Copy)]
pub(super) enum TileRows {
    Strided(StridedRows),
    Table(TableRows),
}

/// Finds the rows of X.
pub(super) trait FindRow {
    /// The row `row` of X, from which the places of a [`Span`] are counted.
    ///
    /// # Safety
    /// X has that row.
    unsafe fn row(&self, row: usize) -> *const f32;
}

/// Rows at multiples of a stride.
#[derive(Clone, Copy)]
pub(super) struct StridedRows {
    x: *const f32,
    stride: usize,
}

/// Rows where a table says.
#[derive(Clone, Copy)]
pub(super) struct TableRows {
    x: *const f32,
    starts: *const usize,
}

impl FindRow for StridedRows {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const f32 {
        self.x.wrapping_add(row * self.stride)
    }
}

impl FindRow for TableRows {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const f32 {
        // SAFETY: the table has an entry for each row of X.
        self.x.wrapping_add(unsafe { *self.starts.add(row) })
    }
}

impl FindRow for TileRows {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const f32 {
        // SAFETY: X has that row, as this function asks.
        unsafe {
            match self {
                Self::Strided(rows) => rows.row(row),
                Self::Table(rows) => rows.row(row),
            }
        }
    }
}

impl Tile {
    /// What its vectors take; of a tile of fewer vectors, the others take nothing.
    pub fn spans(&self) -> &[Span; MOST_VECTORS] {
        &self.spans
    }

    /// Whether all `lanes` of its `vectors` vectors are used, and those of each are of one line.
    pub fn is_whole(&self, vectors: usize, lanes: usize) -> bool {
        self.spans[..vectors].iter().all(|span| span.own == lanes)
    }
}

/// Columns that a vector takes of a row of X, as masks: the lanes of one line, and those of the next.
#[derive(Clone, Copy)]
pub(super) struct Load<S: Simd> {
    /// Whether all lanes are of one line.
    whole: bool,
    pub at: usize,
    own: S::Mask,
    /// Where the next line's lanes would start if they were the vector's first.
    next: usize,
    rest: S::Mask,
}

impl<S: Simd> Load<S> {
    #[inline(always)]
    pub fn new(simd: S, &Span { at, own, next, valid }: &Span) -> Self {
        let (whole, next) = (own == S::LANES, next.wrapping_sub(own));
        let own = simd.first(own);
        Self { whole, at, own, next, rest: simd.without(simd.first(valid), own) }
    }

    /// The vector, 0 after what it takes. `WHOLE` says that it is whole.
    ///
    /// # Safety
    /// The row has these columns.
    #[inline(always)]
    pub unsafe fn of<const WHOLE: bool>(&self, simd: S, row: *const f32) -> S::Vector {
        // SAFETY: the masks keep within the columns.
        unsafe {
            let first = row.wrapping_add(self.at);
            if WHOLE || self.whole {
                return simd.load(first);
            }
            let own = simd.load_masked(simd.splat(0.0), self.own, first);
            simd.load_masked(own, self.rest, row.wrapping_add(self.next))
        }
    }
}

/// X, where the caller has it or in panels.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub x: Input<'a>,
    pub columns: Computed,
    /// Whether X is larger than what a core caches, so that its rows should be fetched ahead.
    pub ahead: bool,
}

impl Operand<'_> {
    /// The part of X above a tile of Y: `valid` columns from `first` on, in vectors of `lanes`.
    pub fn tile(&self, first: usize, valid: usize, lanes: usize) -> Tile {
        let Self { x, columns, ahead } = *self;
        let values = x.values.as_ptr();
        let rows = match x.rows {
            Rows::Every(stride) => TileRows::Strided(StridedRows { x: values, stride }),
            Rows::At(table) => {
                TileRows::Table(TableRows { x: values, starts: table.starts().as_ptr() })
            }
        };
        let spans = columns.spans(first, valid, lanes);
        Tile { rows, spans, ahead }
    }

    /// As [`Operand::tile`], of an X whose columns are all computed, with some of its rows copied into a panel:
    /// the tile is for those, as long as the panel is.
    pub fn tile_in_panel(
        &self,
        rows: Range<usize>,
        (first, valid): (usize, usize),
        lanes: usize,
        panel: &mut Aligned,
    ) -> Tile {
        let width = valid.next_multiple_of(lanes);
        if panel.len() < rows.len() * width {
            panel.set_length(rows.len() * width);
        }
        let Input { values, rows: starts } = self.x;
        for (row, to) in rows.clone().zip(panel.chunks_exact_mut(width)) {
            if row + PREFETCH_DISTANCE < rows.end {
                let next =
                    values.as_ptr().wrapping_add(starts.start(row + PREFETCH_DISTANCE) + first);
                (0..width).step_by(LINE).for_each(|at| prefetch(next.wrapping_add(at)));
            }
            let from = starts.start(row) + first;
            to[..valid].copy_from_slice(&values[from..from + valid]);
        }
        // Rows are counted as they are in X.
        let x = panel.as_ptr().wrapping_sub(rows.start * width);
        let spans = Computed::plain(valid).spans(0, valid, lanes);
        Tile { rows: TileRows::Strided(StridedRows { x, stride: width }), spans, ahead: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places in a row of X that the columns are, as the tiles' vectors take them.
    fn places(columns: Computed, lanes: usize) -> Vec<usize> {
        let width = MOST_VECTORS * lanes;
        let spans = (0..columns.count).step_by(width).flat_map(|first| {
            let valid = width.min(columns.count - first);
            columns.spans(first, valid, lanes).into_iter().take(valid.div_ceil(lanes))
        });
        let lanes = spans.flat_map(|Span { at, own, next, valid }| {
            assert!(own <= valid && (own > 0 || valid == 0));
            (0..valid).map(move |lane| if lane < own { at + lane } else { next + lane - own })
        });
        lanes.collect()
    }

    #[test]
    fn vectors_take_the_kept_columns_of_every_line_and_no_others() {
        for lanes in [8, 16] {
            for kept in 1..=35 {
                for dropped in [0, 1, 2, 5] {
                    let lines = ColumnLayout::lines(kept + dropped, kept, 40);
                    for n in [1, kept, 3 * lines.width + kept, 4 * lines.width + 1] {
                        let (columns, left) = Computed::of(lines, n, lanes);
                        let packed = left != lines;
                        let wanted = |&column: &usize| !packed || column % lines.width < kept;
                        let expected: Vec<usize> = (0..n).filter(wanted).collect();
                        assert_eq!(places(columns, lanes), expected, "{lines:?} {n} {lanes}");
                        assert_eq!(columns.count, expected.len());
                        assert_eq!((left.kept, left.line_stride), (kept, 40));
                    }
                }
            }
        }
    }

    #[test]
    fn columns_are_left_out_where_two_lines_fill_a_vector() {
        let packs = |computed, kept, lanes| {
            Computed::of(ColumnLayout::lines(computed, kept, kept), 10 * computed, lanes).0.line
                == kept
        };
        let (_, left) = Computed::of(ColumnLayout::lines(28, 24, 24), 5 * 28 + 24, 16);
        assert_eq!(left, ColumnLayout::contiguous(6 * 24), "lines of Y without anything between");
        assert!(packs(34, 32, 16) && packs(28, 24, 16) && packs(29, 27, 8) && packs(10, 8, 16));
        assert!(packs(5, 4, 8) && packs(14, 13, 8));
        assert!(!packs(14, 13, 16), "13 columns of which a vector would take 1, 13 and 2");
        assert!(!packs(4, 3, 8));
    }
}

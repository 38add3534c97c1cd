//! Which columns of X a tile of Y takes.
//!
//! Of lines that keep only some of their columns, as the product of a convolution does between two rows of
//! its image, the others are never computed: columns are counted without them, so that a vector may end one
//! line and begin the next. Its lanes then come from two places of each row of X.

use crate::kernels::layout::{ColumnLayout, Input, Rows};

/// Vectors of the widest tile.
pub(super) const MOST_VECTORS: usize = 4;

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
    /// Y that come of them. Where a vector would take parts of three lines, all columns are computed.
    pub fn of(columns: ColumnLayout, n: usize, lanes: usize) -> (Self, ColumnLayout) {
        let ColumnLayout { width, kept, line_stride, .. } = columns;
        // A vector starts at a multiple of this within its line, and of the last such place needs
        // `kept - common + lanes` columns from the line's first on.
        let common = lanes.min(1 << kept.trailing_zeros());
        if kept >= width.min(n) || kept + common < lanes {
            return (Self::plain(n), columns);
        }
        let count = n / width * kept + kept.min(n % width);
        (Self { count, line: kept, pitch: width }, ColumnLayout::lines(kept, kept, line_stride))
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

/// A part of Y and the part of X above it.
pub(super) struct Tile {
    /// Where places in X are counted from.
    x: *const f32,
    rows: TileRows,
    spans: [Span; MOST_VECTORS],
    /// The block's rows of Y, each as wide as a tile.
    pub y: *mut f32,
    /// Whether X is larger than what a core caches, so that its rows should be fetched ahead.
    pub ahead: bool,
}

/// Where the rows of X start.
#[derive(Clone, Copy)]
enum TileRows {
    Every(usize),
    At(*const usize),
}

impl Tile {
    /// The row `row` of X, from which the places of a [`Span`] are counted.
    ///
    /// # Safety
    /// X has that row.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize) -> *const f32 {
        match self.rows {
            TileRows::Every(stride) => self.x.wrapping_add(row * stride),
            // SAFETY: the table has an entry for each row of X.
            TileRows::At(starts) => self.x.wrapping_add(unsafe { *starts.add(row) }),
        }
    }

    /// What its vectors take; of a tile of fewer vectors, the others take nothing.
    pub fn spans(&self) -> &[Span; MOST_VECTORS] {
        &self.spans
    }

    /// Whether all `lanes` of its `vectors` vectors are used, and those of each are of one line.
    pub fn is_whole(&self, vectors: usize, lanes: usize) -> bool {
        self.spans[..vectors].iter().all(|span| span.own == lanes)
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
    /// The tile of Y at `y` and the part of X above it: `valid` columns from `first` on, in vectors of
    /// `lanes`.
    pub fn tile(&self, first: usize, valid: usize, lanes: usize, y: *mut f32) -> Tile {
        let Self { x, columns, ahead } = *self;
        let rows = match x.rows {
            Rows::Every(stride) => TileRows::Every(stride),
            Rows::At(table) => TileRows::At(table.starts().as_ptr()),
        };
        let spans = columns.spans(first, valid, lanes);
        Tile { x: x.values.as_ptr(), rows, spans, y, ahead }
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
        assert!(packs(34, 32, 16) && packs(28, 24, 16) && packs(29, 27, 8) && packs(10, 8, 16));
        assert!(packs(5, 4, 8) && packs(14, 13, 8));
        assert!(!packs(14, 13, 16), "13 columns of which a vector would take 1, 13 and 2");
        assert!(!packs(4, 3, 8));
    }
}

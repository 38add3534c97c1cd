//! Where tiles of Y go: whose columns stay side by side only as far as a line of Y does.

use super::MOST_VECTORS;
use crate::kernels::layout::{ColumnLayout, Output, Rows, Segment};
use crate::kernels::simd::{Simd, copy_at_least};

/// Where a tile goes.
pub(in crate::kernels) struct Placed<'a> {
    pub width: usize,
    pub first_row: usize,
    pub places: Places<'a>,
    pub relu: bool,
}

/// Where the columns of a tile go, from a row's start.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Places<'a> {
    /// One vector after the other, each to its place.
    Vectors(&'a [usize]),
    /// By segments.
    Segments(&'a [Segment]),
}

/// Columns of the widest tile.
const MOST_COLUMNS: usize = 16 * MOST_VECTORS;

/// Y, of which threads write disjoint parts.
pub(in crate::kernels) struct SharedOutput<'a> {
    start: *mut f32,
    length: usize,
    rows: Rows<'a>,
    columns: ColumnLayout,
}

// SAFETY: `write` is the only way to it, and asks its callers for disjoint parts.
unsafe impl Sync for SharedOutput<'_> {}

impl<'a> SharedOutput<'a> {
    /// Y, with its columns in these lines.
    pub fn new(y: Output<'a>, columns: ColumnLayout) -> Self {
        let Output { values, rows, .. } = y;
        Self { start: values.as_mut_ptr(), length: values.len(), rows, columns }
    }

    /// Has `write` write the columns `first..first + valid`, in vectors of `lanes`, to where they go.
    pub fn place(&self, first: usize, valid: usize, lanes: usize, write: impl FnOnce(Places<'_>)) {
        let mut vectors = [0; MOST_VECTORS];
        if let Some(vectors) = self.vectors(first, valid, lanes, &mut vectors) {
            return write(Places::Vectors(vectors));
        }
        let mut segments = [Segment::default(); MOST_COLUMNS];
        write(Places::Segments(self.segments(first, valid, &mut segments)));
    }

    /// Where each vector of the columns `first..first + valid` goes; `None` where one is not whole, or does not
    /// stay side by side.
    fn vectors<'r>(
        &self,
        first: usize,
        valid: usize,
        lanes: usize,
        room: &'r mut [usize; MOST_VECTORS],
    ) -> Option<&'r [usize]> {
        let ColumnLayout { width, kept, line_stride, .. } = self.columns;
        if !valid.is_multiple_of(lanes) {
            return None;
        }
        let vectors = &mut room[..valid / lanes];
        let (mut line, mut within) = (first / width, first % width);
        for place in &mut *vectors {
            if within + lanes > kept {
                return None;
            }
            *place = line * line_stride + within;
            within += lanes;
            if within == width {
                (line, within) = (line + 1, 0);
            }
        }
        Some(vectors)
    }

    /// Where the columns `first..first + valid` go, counted from `first`.
    fn segments<'r>(
        &self,
        first: usize,
        valid: usize,
        room: &'r mut [Segment; MOST_COLUMNS],
    ) -> &'r [Segment] {
        let ColumnLayout { width, kept, line_stride, .. } = self.columns;
        let (mut count, mut column) = (0, first);
        let (mut line, mut within) = (first / width, first % width);
        while column < first + valid {
            let side_by_side = (width - within).min(first + valid - column);
            let length = side_by_side.min(kept.saturating_sub(within));
            room[count] = Segment { from: column - first, to: line * line_stride + within, length };
            count += usize::from(length > 0);
            column += side_by_side;
            (line, within) = (line + 1, 0);
        }
        &room[..count]
    }

    /// Writes a tile's rows to their places, what is below `bound` as `bound`.
    ///
    /// # Safety
    /// No other thread writes these rows and columns.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, simd: S, bound: S::Vector, tile: &[f32], placed: &Placed<'_>) {
        let rows = (placed.first_row..).zip(tile.chunks_exact(placed.width));
        // SAFETY: as this function asks. (Loops over numbers that the compiler knows become none.)
        unsafe {
            match placed.places {
                Places::Vectors(&[a]) => self.write_vectors(simd, bound, rows, [a]),
                Places::Vectors(&[a, b]) => self.write_vectors(simd, bound, rows, [a, b]),
                Places::Vectors(&[a, b, c]) => self.write_vectors(simd, bound, rows, [a, b, c]),
                Places::Vectors(&[a, b, c, d]) => {
                    self.write_vectors(simd, bound, rows, [a, b, c, d]);
                }
                Places::Vectors(_) => unreachable!("a tile has up to {MOST_VECTORS} vectors"),
                Places::Segments(segments) => self.write_segments(simd, bound, rows, segments),
            }
        }
    }

    /// Writes a tile's rows to their places, activated as the layer says.
    ///
    /// # Safety
    /// No other thread writes these rows and columns.
    #[inline(always)]
    pub unsafe fn write_activated<S: Simd>(&self, simd: S, tile: &[f32], placed: &Placed<'_>) {
        // What is below it becomes the bound: 0, or nothing.
        let bound = simd.splat(if placed.relu { 0.0 } else { f32::NEG_INFINITY });
        // SAFETY: as this function asks.
        unsafe { self.write(simd, bound, tile, placed) };
    }

    /// Writes `R` rows of vectors, from `first_row` on, to their places, what is below `bound` as `bound`.
    ///
    /// # Safety
    /// No other thread writes these rows and columns.
    #[inline(always)]
    pub unsafe fn write_registers<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        bound: S::Vector,
        first_row: usize,
        places: [usize; V],
        rows: [[S::Vector; V]; R],
    ) {
        let end = Self::end::<S, V>(&places);
        // One check for all rows: strips of few groups take little longer than this.
        let starts: [usize; R] = match self.rows {
            Rows::Every(stride) => {
                let start = first_row * stride;
                assert!(start + R.saturating_sub(1) * stride + end <= self.length);
                std::array::from_fn(|row| start + row * stride)
            }
            Rows::At(table) => {
                assert!(table.last() + end <= self.length);
                *table.starts()[first_row..].first_chunk().expect("a start for each row")
            }
        };
        for (row, vectors) in rows.iter().enumerate() {
            for (&to, &values) in places.iter().zip(vectors) {
                // SAFETY: it lies within Y, as asserted; nobody else writes there, as this function asks.
                unsafe {
                    simd.store(simd.at_least(bound, values), self.start.add(starts[row] + to))
                };
            }
        }
    }

    /// Where the furthest of the vectors ends.
    #[inline(always)]
    fn end<S: Simd, const V: usize>(places: &[usize; V]) -> usize {
        let mut end = 0;
        for &place in places {
            end = end.max(place + S::LANES);
        }
        end
    }

    /// Writes the first `V` vectors of rows, each given with its number, to their places.
    ///
    /// # Safety
    /// As for [`SharedOutput::write`].
    #[inline(always)]
    unsafe fn write_vectors<'t, S: Simd, const V: usize>(
        &self,
        simd: S,
        bound: S::Vector,
        rows: impl Iterator<Item = (usize, &'t [f32])>,
        places: [usize; V],
    ) {
        let end = Self::end::<S, V>(&places);
        for (row, from) in rows {
            let start = self.rows.start(row);
            assert!(start + end <= self.length && V * S::LANES <= from.len());
            for (vector, &to) in places.iter().enumerate() {
                // SAFETY: both lie within their slices, as asserted.
                unsafe {
                    let values = simd.load(from.as_ptr().add(vector * S::LANES));
                    simd.store(simd.at_least(bound, values), self.start.add(start + to));
                }
            }
        }
    }

    /// Writes rows, each given with its number, by segments.
    ///
    /// # Safety
    /// As for [`SharedOutput::write`].
    #[inline(always)]
    unsafe fn write_segments<'t, S: Simd>(
        &self,
        simd: S,
        bound: S::Vector,
        rows: impl Iterator<Item = (usize, &'t [f32])>,
        segments: &[Segment],
    ) {
        for (row, from) in rows {
            let start = self.rows.start(row);
            for &Segment { from: first, to, length } in segments {
                let to = start + to;
                assert!(to + length <= self.length && first + length <= from.len());
                // SAFETY: both lie within their slices, as asserted.
                unsafe {
                    let from = from.as_ptr().add(first);
                    copy_at_least(simd, bound, from, self.start.add(to), length);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each column of a tile goes: by segments, and by vectors of 8 where they are whole.
    fn places(
        columns: ColumnLayout,
        first: usize,
        valid: usize,
    ) -> [Option<Vec<(usize, usize)>>; 2] {
        let mut values = [];
        let y = Output { values: &mut values, rows: Rows::Every(0), columns };
        let output = SharedOutput::new(y, columns);
        let mut room = [Segment::default(); MOST_COLUMNS];
        let segments = output.segments(first, valid, &mut room).iter();
        let segments = segments.flat_map(|&Segment { from, to, length }| {
            (0..length).map(move |column| (from + column, to + column))
        });
        let mut room = [0; MOST_VECTORS];
        let vectors = output.vectors(first, valid, 8, &mut room).map(|vectors| {
            let each = vectors.iter().zip((0..).step_by(8));
            each.flat_map(|(to, from)| (0..8).map(move |column| (from + column, to + column)))
                .collect()
        });
        [Some(segments.collect()), vectors]
    }

    #[test]
    fn vectors_go_where_segments_do_and_only_where_none_is_cut() {
        for kept in 1..=40 {
            for dropped in [0, 2, 8] {
                let lines = ColumnLayout::lines(kept + dropped, kept, 50);
                for (first, valid) in
                    (0..80).flat_map(|first| [(first, 24), (first, 8), (first, 20)])
                {
                    let [segments, vectors] = places(lines, first, valid);
                    let line = |column: usize| column / lines.width;
                    let cut = |vector: usize| {
                        let (start, end) = (first + vector, first + vector + 7);
                        line(start) != line(end) || end % lines.width >= kept
                    };
                    let whole = valid % 8 == 0 && !(0..valid).step_by(8).any(cut);
                    let expected = if whole { segments } else { None };
                    assert_eq!(vectors, expected, "{lines:?} {first} {valid}");
                }
            }
        }
    }
}

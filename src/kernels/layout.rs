//! Where operands lie in memory: the rows of a matrix ([`Rows`]), the columns of a row ([`ColumnLayout`]), and
//! images ([`ImageLayout`]). All kernels, on CPUs and GPUs, take their operands so.
//!
//! A plain matrix is contiguous and row-major. But a kernel that finds each row by its start can as well
//! read the rows that a mask leaves, or the taps of a convolution, where they lie; and one that writes
//! lines of its columns apart can leave a convolution's image without its padding.

use crate::error::{Error, Result};

/// Starts of rows that follow no single stride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowTable {
    starts: Vec<usize>,
    last: usize,
    gap: usize,
    /// Where all start at multiples of one stride.
    stride: Option<usize>,
}

impl RowTable {
    /// Rows that start at these places of a slice.
    pub fn new(starts: Vec<usize>) -> Self {
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        let last = sorted.last().copied().unwrap_or(0);
        let gap = sorted.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(usize::MAX);
        let stride = if starts.len() > 1 { gap } else { 0 };
        let regular = starts.iter().enumerate().all(|(row, &start)| start == row * stride);
        Self { starts, last, gap, stride: regular.then_some(stride) }
    }

    /// Every row's start.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The furthest row's start; 0 of no rows.
    pub(super) fn last(&self) -> usize {
        self.last
    }
}

/// Where the rows of a matrix start.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// At multiples of a stride.
    Every(usize),
    /// Where a table says.
    At(&'a RowTable),
}

impl Rows<'_> {
    /// Where row `row` starts.
    pub fn start(&self, row: usize) -> usize {
        match self {
            Self::Every(stride) => row * stride,
            Self::At(table) => table.starts[row],
        }
    }

    /// The smallest slice that holds `rows` rows of `span` floats; none where it has no size, or where
    /// the table is one of another number of rows.
    fn extent(&self, rows: usize, span: usize) -> Option<usize> {
        if let Self::At(table) = self
            && table.starts.len() != rows
        {
            return None;
        }
        if rows == 0 || span == 0 {
            return Some(0);
        }
        let last = match self {
            Self::Every(stride) => stride.checked_mul(rows - 1)?,
            Self::At(table) => table.last,
        };
        last.checked_add(span)
    }

    /// Floats from each row's start to the next one's, where that is the same for all and the first starts at 0.
    pub(super) fn stride(&self) -> Option<usize> {
        match self {
            Self::Every(stride) => Some(*stride),
            Self::At(table) => table.stride,
        }
    }

    /// Floats between the starts of the nearest two rows.
    pub(super) fn gap(&self) -> usize {
        match self {
            Self::Every(stride) => *stride,
            Self::At(table) => table.gap,
        }
    }
}

/// Activations X, `[K, n]`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What the rows lie in.
    pub values: &'a [f32],
    /// Where they start; they may overlap.
    pub rows: Rows<'a>,
}

impl<'a> Input<'a> {
    /// A plain `[K, n]`.
    pub fn plain(values: &'a [f32], n: usize) -> Self {
        Self { values, rows: Rows::Every(n) }
    }

    /// Refuses what does not hold `rows` rows of `n` floats.
    pub(super) fn check(&self, operation: &str, rows: usize, n: usize) -> Result<()> {
        match self.rows.extent(rows, n) {
            Some(extent) if extent <= self.values.len() => Ok(()),
            _ => Err(Error::argument(
                operation,
                format!("activations that hold {rows} rows of {n} at {:?}", Summary(self.rows)),
                format!("{} floats", self.values.len()),
            )),
        }
    }
}

/// Where the columns of a row lie: in lines of `width` columns, of which the first `kept` are in memory, `stride`
/// floats apart, and `line_stride` floats from one line's first column to the next one's. What is computed of the
/// other columns of a line is dropped.
///
/// The columns of a convolution's product are the pixels of its output, a line an image row. CPU kernels take
/// a `stride` of 1; GPU kernels compute no column that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Columns of a line, the dropped ones included.
    pub width: usize,
    /// Columns of a line that are in memory.
    pub kept: usize,
    /// From one line's first column to the next one's, in floats.
    pub line_stride: usize,
    /// From one column to the next, in floats.
    pub stride: usize,
}

impl ColumnLayout {
    /// All `n` columns, as one line.
    pub fn contiguous(n: usize) -> Self {
        Self::lines(n, n, n)
    }

    /// Lines of neighbouring columns.
    pub fn lines(width: usize, kept: usize, line_stride: usize) -> Self {
        Self { width, kept, line_stride, stride: 1 }
    }

    /// The columns of each line of `n` columns that are kept.
    pub(super) fn segments(self, n: usize) -> impl Iterator<Item = Segment> {
        let lines = (0..n).step_by(self.width.max(1)).enumerate();
        lines.map(move |(line, from)| Segment {
            from,
            to: line * self.line_stride,
            length: self.kept.min(n - from),
        })
    }

    /// Floats from a row's first column to past its last, for `n` columns.
    pub(super) fn span(&self, n: usize) -> Option<usize> {
        if n == 0 {
            return Some(0);
        }
        let lines = (n.div_ceil(self.width.max(1)) - 1).checked_mul(self.line_stride)?;
        let last = self.kept.min(n).checked_sub(1)?.checked_mul(self.stride)?;
        lines.checked_add(last)?.checked_add(1)
    }
}

/// Columns that stay side by side where they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first column, among those that are computed.
    pub from: usize,
    /// Where it goes, from the start of a row of Y.
    pub to: usize,
    /// How many there are.
    pub length: usize,
}

/// Results Y, `[M, n]`.
#[derive(Debug)]
pub struct Output<'a> {
    /// What the rows lie in.
    pub values: &'a mut [f32],
    /// Where they start.
    pub rows: Rows<'a>,
    /// What becomes of a row's columns.
    pub columns: ColumnLayout,
}

impl<'a> Output<'a> {
    /// A plain `[M, n]`.
    pub fn plain(values: &'a mut [f32], n: usize) -> Self {
        Self { values, rows: Rows::Every(n), columns: ColumnLayout::contiguous(n) }
    }

    /// Whether Y is `[M, n]` without anything between its rows.
    pub(super) fn is_plain(&self, n: usize) -> bool {
        self.columns == ColumnLayout::contiguous(n)
            && matches!(self.rows, Rows::Every(stride) if stride == n)
    }

    /// Refuses what does not hold `rows` rows of `n` computed columns apart from each other.
    pub(super) fn check(&self, operation: &str, rows: usize, n: usize) -> Result<()> {
        let ColumnLayout { width, kept, line_stride, stride } = self.columns;
        let expected = |what: String| {
            Err(Error::argument(
                operation,
                what,
                format!("{:?}, {} floats", self.columns, self.values.len()),
            ))
        };
        if n > 0 && (stride != 1 || kept == 0 || kept > width || kept > line_stride) {
            return expected("lines of at least one column, that do not overlap".into());
        }
        let Some(span) = self.columns.span(n) else {
            return expected("lines that fit into memory".into());
        };
        let apart = rows < 2 || self.rows.gap() >= span;
        match self.rows.extent(rows, span) {
            Some(extent) if extent <= self.values.len() && apart => Ok(()),
            _ => expected(format!(
                "a result that holds {rows} rows of {span} apart from each other at {:?}",
                Summary(self.rows)
            )),
        }
    }
}

/// Rows in a message: a table is told by its size, not by its entries.
struct Summary<'a>(Rows<'a>);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Rows::Every(stride) => write!(f, "every {stride}"),
            Rows::At(table) => write!(f, "{} places up to {}", table.starts.len(), table.last),
        }
    }
}

/// Where images of shape `[channels, height, width]` lie in a buffer: strides in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    /// The first pixel of the first channel of the first image.
    pub offset: usize,
    /// From one image to the next.
    pub image_stride: usize,
    /// From one channel to the next.
    pub channel_stride: usize,
    /// From one row to the next.
    pub row_stride: usize,
    /// From one column to the next.
    pub pixel_stride: usize,
}

impl ImageLayout {
    /// Channels without anything between them.
    pub fn plain([channels, height, width]: [usize; 3]) -> Self {
        Self::padded([channels, height, width], 0)
    }

    /// Channels with `padding` pixels on every side, which nobody writes.
    pub fn padded([channels, height, width]: [usize; 3], padding: usize) -> Self {
        let row_stride = width + 2 * padding;
        let channel_stride = (height + 2 * padding) * row_stride;
        Self {
            offset: padding * (row_stride + 1),
            image_stride: channels * channel_stride,
            channel_stride,
            row_stride,
            pixel_stride: 1,
        }
    }

    /// Floats of the smallest buffer that holds images of that shape.
    pub fn floats(&self, [channels, height, width]: [usize; 3], images: usize) -> usize {
        let last = |count: usize, step: usize| count.saturating_sub(1) * step;
        if channels * height * width * images == 0 {
            return 0;
        }
        self.offset
            + last(images, self.image_stride)
            + last(channels, self.channel_stride)
            + last(height, self.row_stride)
            + last(width, self.pixel_stride)
            + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_leave_their_slice_are_refused() {
        let values = [0.0; 10];
        let table = RowTable::new(vec![7, 0, 3]);
        let at = |rows| Input { values: &values, rows };
        assert!(at(Rows::At(&table)).check("x", 3, 3).is_ok());
        assert!(at(Rows::At(&table)).check("x", 3, 4).is_err());
        assert!(at(Rows::At(&table)).check("x", 2, 1).is_err(), "a table of another matrix");
        assert!(at(Rows::Every(4)).check("x", 3, 2).is_ok());
        assert!(at(Rows::Every(4)).check("x", 3, 3).is_err());
        assert!(at(Rows::Every(usize::MAX)).check("x", 3, 3).is_err());
        assert!(at(Rows::Every(0)).check("x", 0, 99).is_ok());
        let error = at(Rows::Every(4)).check("the kernel", 3, 3).unwrap_err().to_string();
        assert!(error.contains("the kernel: expected") && error.contains("10 floats"), "{error}");
    }

    #[test]
    fn results_that_overlap_are_refused() {
        let mut values = [0.0; 20];
        let mut check = |rows: Rows<'_>, lines: [usize; 3], count: usize, n: usize| {
            let [width, kept, line_stride] = lines;
            let columns = ColumnLayout::lines(width, kept, line_stride);
            Output { values: &mut values, rows, columns }.check("y", count, n).is_ok()
        };
        // Two lines of 3 in which 2 are kept: 0, 1 and 2, 3.
        assert!(check(Rows::Every(4), [3, 2, 2], 5, 6));
        assert!(!check(Rows::Every(3), [3, 2, 2], 5, 6), "rows overlap");
        assert!(!check(Rows::Every(4), [3, 2, 2], 6, 6), "too few floats");
        assert!(!check(Rows::Every(9), [3, 2, 1], 2, 6), "lines overlap");
        assert!(!check(Rows::Every(9), [0, 0, 1], 1, 6), "no column in a line");
        let table = RowTable::new(vec![8, 0, 4]);
        assert!(check(Rows::At(&table), [4, 4, 4], 3, 4));
        assert!(!check(Rows::At(&table), [5, 5, 5], 3, 5));
        assert!(
            !check(Rows::At(&RowTable::new(vec![4, 4])), [1, 1, 1], 2, 1),
            "twice the same row"
        );
    }
}

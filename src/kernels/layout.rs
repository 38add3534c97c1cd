//! Where the operands of a product lie in memory.
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
}

impl RowTable {
    /// Rows that start at these places of a slice.
    pub fn new(starts: Vec<usize>) -> Self {
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        let last = sorted.last().copied().unwrap_or(0);
        let gap = sorted.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(usize::MAX);
        Self { starts, last, gap }
    }

    /// Every row's start.
    pub fn starts(&self) -> &[usize] {
        &self.starts
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

/// What becomes of the columns of a row of Y: of every `computed` ones the first `kept` are written,
/// `pitch` apart from the next line's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Columns of a line, the dropped ones included.
    pub computed: usize,
    /// Columns of a line that are written.
    pub kept: usize,
    /// From one line's first column to the next one's, where they are written.
    pub pitch: usize,
}

impl Lines {
    /// All `n` columns, as one line.
    pub fn plain(n: usize) -> Self {
        Self { computed: n, kept: n, pitch: n }
    }

    /// For each line of `n` computed columns: its first column, where that goes, and how many are written.
    pub(super) fn each(self, n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let lines = (0..n).step_by(self.computed.max(1)).enumerate();
        lines.map(move |(line, first)| (first, line * self.pitch, self.kept.min(n - first)))
    }

    /// Floats from a row's first column to after its last, for `n` computed columns.
    fn span(&self, n: usize) -> Option<usize> {
        if n == 0 {
            return Some(0);
        }
        (n.div_ceil(self.computed) - 1).checked_mul(self.pitch)?.checked_add(self.kept)
    }
}

/// Results Y, `[M, n]`.
#[derive(Debug)]
pub struct Output<'a> {
    /// What the rows lie in.
    pub values: &'a mut [f32],
    /// Where they start.
    pub rows: Rows<'a>,
    /// What becomes of a row's columns.
    pub lines: Lines,
}

impl<'a> Output<'a> {
    /// A plain `[M, n]`.
    pub fn plain(values: &'a mut [f32], n: usize) -> Self {
        Self { values, rows: Rows::Every(n), lines: Lines::plain(n) }
    }

    /// Whether Y is `[M, n]` without anything between its rows.
    pub(super) fn is_plain(&self, n: usize) -> bool {
        self.lines == Lines::plain(n) && matches!(self.rows, Rows::Every(stride) if stride == n)
    }

    /// Refuses what does not hold `rows` rows of `n` computed columns apart from each other.
    pub(super) fn check(&self, operation: &str, rows: usize, n: usize) -> Result<()> {
        let Lines { computed, kept, pitch } = self.lines;
        let expected = |what: String| {
            Err(Error::argument(
                operation,
                what,
                format!("{:?}, {} floats", self.lines, self.values.len()),
            ))
        };
        if n > 0 && (computed == 0 || kept == 0 || kept > computed || kept > pitch) {
            return expected("lines of at least one column, that do not overlap".into());
        }
        let Some(span) = self.lines.span(n) else {
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
            let [computed, kept, pitch] = lines;
            let lines = Lines { computed, kept, pitch };
            Output { values: &mut values, rows, lines }.check("y", count, n).is_ok()
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

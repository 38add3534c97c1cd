//! The upright format: column vectors of weights (elsewhere called vector-wise, or V x 1 blocks).
//!
//! A matrix `[rows, columns]` is cut into strips of `height` rows; of each strip, only the columns in which one
//! of its rows has a weight other than 0 are stored, each with all `height` weights (an *upright group*):
//!
//! - `values`: the groups' weights, strip by strip, group by group, `height` each, from the top down;
//! - `indices`: each stored group's column, ascending within a strip;
//! - `strip_ptr`: where each strip's groups start, and where the last one's end;
//! - `tail`: the last `rows % height` rows, dense, if each of their columns has a weight other than 0: pruning removes
//!   none of them where it follows the paper, which never removes the partial group at a row's end. Otherwise the
//!   tail is empty, and these rows are a strip as the others, of fewer rows and with fewer weights in a group.
//!
//! In a file, columns take two bytes where there are at most 65,536 of them, else four; pointers take four.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::{Bytes, index};
use crate::error::{Error, Result};

/// A matrix in upright groups of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct UprightSparse {
    rows: usize,
    columns: usize,
    height: usize,
    strip_ptr: Vec<u32>,
    indices: Vec<u32>,
    values: Vec<f32>,
    tail: Vec<f32>,
}

/// The arrays of an [`UprightSparse`], as they are stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UprightParts {
    /// Where each strip's groups start.
    pub strip_ptr: Vec<u32>,
    /// Each group's column.
    pub indices: Vec<u32>,
    /// Each group's weights.
    pub values: Vec<f32>,
    /// The last rows, dense; empty where they are a strip.
    pub tail: Vec<f32>,
}

impl UprightSparse {
    /// Stores the groups of a dense matrix that are not all 0.
    ///
    /// # Errors
    /// A height of 0; more groups than 32-bit pointers can count.
    pub fn from_dense(dense: ArrayView2<'_, f32>, height: usize) -> Result<Self> {
        Self::store(dense, height, |group| group.iter().any(|&weight| weight != 0.0))
    }

    /// Stores every group of a dense matrix, those of zeros too: what a dense product computes with.
    ///
    /// # Errors
    /// As [`UprightSparse::from_dense`].
    pub fn full(dense: ArrayView2<'_, f32>, height: usize) -> Result<Self> {
        Self::store(dense, height, |_| true)
    }

    fn store(
        dense: ArrayView2<'_, f32>,
        height: usize,
        keeps: impl Fn(ArrayView1<'_, f32>) -> bool,
    ) -> Result<Self> {
        let (rows, columns) = dense.dim();
        let what = "store upright groups";
        if height == 0 {
            return Err(Error::argument(what, "a group height of at least 1", "0"));
        }
        let strips = rows.div_ceil(height);
        if u32::try_from(strips * columns).is_err() {
            return Err(Error::argument(
                what,
                "fewer than 2^32 groups",
                format!("{strips} x {columns}"),
            ));
        }
        let mut parts = UprightParts { strip_ptr: vec![0], ..UprightParts::default() };
        for first in (0..rows).step_by(height) {
            let own = dense.slice(s![first..rows.min(first + height), ..]);
            if own.nrows() < height && columns > 0 && own.columns().into_iter().all(&keeps) {
                parts.tail.extend(own);
                break;
            }
            for (column, weights) in own.columns().into_iter().enumerate() {
                if keeps(weights) {
                    parts.indices.push(column as u32);
                    parts.values.extend(weights);
                }
            }
            parts.strip_ptr.push(parts.indices.len() as u32);
        }
        Self::from_parts("a dense matrix", [rows, columns], height, parts)
    }

    /// Puts a matrix together from stored arrays; `what` is for messages.
    ///
    /// # Errors
    /// Arrays that contradict each other: lengths, pointers that do not ascend, columns that are not there.
    pub fn from_parts(
        what: &str,
        [rows, columns]: [usize; 2],
        height: usize,
        parts: UprightParts,
    ) -> Result<Self> {
        if height == 0 {
            return Err(Error::malformed(format!("{what}, height"), "at least 1", "0"));
        }
        let UprightParts { strip_ptr, indices, values, tail } = parts;
        let left_over = rows % height;
        let strips = if tail.is_empty() { rows.div_ceil(height) } else { rows / height };
        index::check(what, "strip", strips, columns, &strip_ptr, &indices)?;
        // Groups of the partial strip.
        let partial = match left_over > 0 && tail.is_empty() {
            true => indices.len() - strip_ptr[strips - 1] as usize,
            false => 0,
        };
        let whole = (indices.len() - partial).checked_mul(height);
        let of_groups =
            whole.zip(partial.checked_mul(left_over)).and_then(|(all, more)| all.checked_add(more));
        let of_tail = if tail.is_empty() { Some(0) } else { columns.checked_mul(left_over) };
        for (part, expected, found) in
            [("values", of_groups, values.len()), ("tail", of_tail, tail.len())]
        {
            if expected != Some(found) {
                let expected = expected.map_or("fewer entries".into(), |n| format!("{n} entries"));
                let part = format!("{what}, {part}");
                return Err(Error::malformed(part, expected, found.to_string()));
            }
        }
        Ok(Self { rows, columns, height, strip_ptr, indices, values, tail })
    }

    /// The stored groups of a strip: each one's column and weights, from the top down.
    ///
    /// # Panics
    /// There is no such strip.
    pub fn strip(&self, strip: usize) -> impl Iterator<Item = (usize, &[f32])> {
        let places = self.strip_ptr[strip] as usize..self.strip_ptr[strip + 1] as usize;
        let rows = self.strip_rows(strip).len();
        // All strips before it are whole.
        let values = &self.values[places.start * self.height..][..places.len() * rows];
        let columns = self.indices[places].iter().map(|&column| column as usize);
        columns.zip(values.chunks_exact(rows))
    }

    /// The rows of a strip.
    ///
    /// # Panics
    /// There is no such strip.
    pub fn strip_rows(&self, strip: usize) -> Range<usize> {
        assert!(strip < self.strips(), "strip {strip} of {}", self.strips());
        strip * self.height..self.rows.min((strip + 1) * self.height)
    }

    /// The dense matrix.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros((self.rows, self.columns));
        for strip in 0..self.strips() {
            for (column, weights) in self.strip(strip) {
                for (row, &weight) in self.strip_rows(strip).zip(weights) {
                    dense[[row, column]] = weight;
                }
            }
        }
        let first = self.rows - self.tail_rows();
        for (to, &weight) in dense.slice_mut(s![first.., ..]).iter_mut().zip(&self.tail) {
            *to = weight;
        }
        dense
    }

    /// Rows and columns of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Weights in a group.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Strips that are stored by their groups; the last one may be partial.
    pub fn strips(&self) -> usize {
        self.strip_ptr.len() - 1
    }

    /// Where each strip's groups start.
    pub fn strip_ptr(&self) -> &[u32] {
        &self.strip_ptr
    }

    /// Each group's column.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Each group's weights.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows after the last strip, row by row.
    pub fn tail(&self) -> &[f32] {
        &self.tail
    }

    /// How many rows come after the last strip.
    pub fn tail_rows(&self) -> usize {
        if self.tail.is_empty() { 0 } else { self.rows % self.height }
    }

    /// Stored weights.
    pub fn nnz(&self) -> usize {
        self.values.len() + self.tail.len()
    }

    /// Bytes of a stored column.
    pub fn index_bytes(&self) -> usize {
        index::bytes_for(self.columns)
    }

    /// Its size in a file.
    pub fn bytes(&self) -> Bytes {
        Bytes {
            values: 4 * self.nnz(),
            indices: self.index_bytes() * self.indices.len() + 4 * self.strip_ptr.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::RngExt;

    proptest! {
        #[test]
        fn a_matrix_comes_back_as_it_was(
            rows in 0..40_usize, columns in 0..6_usize, height in 1..9_usize,
            density in 0.0..1.0_f64, seed in any::<u64>(),
        ) {
            let mut rng = crate::seed::stream(seed, "test", &[]);
            let mut dense = Array2::from_elem((rows, columns), 0.5_f32);
            let (mut groups, mut nnz, mut last) = (0, 0, 0);
            for first in (0..rows).step_by(height) {
                let own = first..rows.min(first + height);
                last = 0;
                for column in 0..columns {
                    if rng.random_bool(density) {
                        last += 1;
                        continue;
                    }
                    dense.slice_mut(s![own.clone(), column]).fill(0.0);
                }
                (groups, nnz) = (groups + last, nnz + last * own.len());
            }
            let sparse = UprightSparse::from_dense(dense.view(), height).unwrap();
            prop_assert_eq!(sparse.to_dense(), dense);
            prop_assert_eq!(sparse.nnz(), nnz);
            // A partial strip of which nothing is missing takes no indices and no pointer.
            let is_tail = rows % height > 0 && columns > 0 && last == columns;
            prop_assert_eq!(sparse.tail_rows(), if is_tail { rows % height } else { 0 });
            let tail = if is_tail { columns } else { 0 };
            let pointers = rows.div_ceil(height) + 1 - usize::from(is_tail);
            prop_assert_eq!(sparse.bytes().total(), 4 * nnz + 2 * (groups - tail) + 4 * pointers);
        }

        #[test]
        fn arbitrary_arrays_are_refused_or_sound(
            rows in 0..20_usize, columns in 0..6_usize, height in 0..5_usize,
            strip_ptr in prop::collection::vec(0..6_u32, 0..6),
            indices in prop::collection::vec(0..8_u32, 0..6),
            values in prop::collection::vec(Just(1.0_f32), 0..20),
            tail in prop::collection::vec(Just(1.0_f32), 0..8),
        ) {
            let parts = UprightParts { strip_ptr, indices, values, tail };
            if let Ok(sparse) = UprightSparse::from_parts("arrays", [rows, columns], height, parts) {
                prop_assert_eq!(sparse.to_dense().dim(), (rows, columns));
            }
        }
    }

    #[test]
    fn a_group_lies_from_the_top_down_and_whole_last_rows_are_dense() {
        let mut dense = Array2::<f32>::zeros((5, 3));
        (dense[[2, 1]], dense[[3, 1]], dense[[4, 0]]) = (2.0, 3.0, 4.0);
        let sparse = UprightSparse::from_dense(dense.view(), 2).unwrap();
        assert_eq!((sparse.strip_ptr(), sparse.indices()), (&[0, 0, 1, 2][..], &[1, 0][..]));
        assert_eq!((sparse.values(), sparse.tail()), (&[2.0, 3.0, 4.0][..], &[][..]));
        (dense[[4, 1]], dense[[4, 2]]) = (5.0, 6.0);
        let sparse = UprightSparse::from_dense(dense.view(), 2).unwrap();
        assert_eq!((sparse.strip_ptr(), sparse.indices()), (&[0, 0, 1][..], &[1][..]));
        assert_eq!((sparse.values(), sparse.tail()), (&[2.0, 3.0][..], &[4.0, 5.0, 6.0][..]));
        let full = UprightSparse::full(dense.view(), 2).unwrap();
        assert_eq!((full.nnz(), full.to_dense()), (15, dense));
    }

    #[test]
    fn the_message_names_the_broken_part() {
        let parts = |strip_ptr: &[u32], indices: &[u32]| UprightParts {
            strip_ptr: strip_ptr.to_vec(),
            indices: indices.to_vec(),
            values: vec![1.0; 2 * indices.len()],
            tail: vec![1.0; 3],
        };
        let build = |parts| UprightSparse::from_parts("ip1.weight", [5, 3], 2, parts);
        assert!(build(parts(&[0, 1, 2], &[0, 1])).is_ok());
        for (parts, message) in [
            (parts(&[0, 2], &[0, 1]), "ip1.weight, strip_ptr: expected 3 entries, found 2"),
            (parts(&[0, 1, 2], &[0, 3]), "indices: expected below 3, found 3"),
            (parts(&[0, 2, 2], &[1, 0]), "ascending within a strip, found 1 before 0"),
            (
                UprightParts { values: vec![1.0], ..parts(&[0, 1, 2], &[0, 1]) },
                "values: expected 4 entries",
            ),
            (
                UprightParts { tail: vec![1.0], ..parts(&[0, 1, 2], &[0, 1]) },
                "tail: expected 3 entries",
            ),
            (
                UprightParts { tail: vec![], ..parts(&[0, 1, 2], &[0, 1]) },
                "strip_ptr: expected 4 entries, found 3",
            ),
            (
                // Two groups of two rows and one of one.
                UprightParts { tail: vec![], ..parts(&[0, 1, 2, 3], &[0, 1, 2]) },
                "values: expected 5 entries, found 6",
            ),
        ] {
            let error = build(parts).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

//! The upright format: column vectors of weights (elsewhere called vector-wise, or V x 1 blocks).
//!
//! A matrix `[rows, columns]` is cut into strips of `height` rows; of each strip, only the columns in which one
//! of its rows has a weight other than 0 are stored, each with all `height` weights (an *upright group*):
//!
//! - `values`: the groups' weights, strip by strip, group by group, `height` each, from the top down;
//! - `indices`: each stored group's column, ascending within a strip;
//! - `strip_ptr`: where each strip's groups start, `rows / height + 1` entries;
//! - `tail`: the last `rows % height` rows, dense: pruning never removes them, as the paper's never removes the
//!   partial group at a row's end.
//!
//! In a file, columns take two bytes where there are at most 65,536 of them, else four; pointers take four.

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
    /// The last rows, dense.
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
        let strips = rows / height;
        if u32::try_from(strips * columns).is_err() {
            return Err(Error::argument(
                what,
                "fewer than 2^32 groups",
                format!("{strips} x {columns}"),
            ));
        }
        let mut parts = UprightParts { strip_ptr: vec![0], ..UprightParts::default() };
        for strip in 0..strips {
            let own = dense.slice(s![strip * height..(strip + 1) * height, ..]);
            for (column, weights) in own.columns().into_iter().enumerate() {
                if keeps(weights) {
                    parts.indices.push(column as u32);
                    parts.values.extend(weights);
                }
            }
            parts.strip_ptr.push(parts.indices.len() as u32);
        }
        parts.tail.extend(dense.slice(s![strips * height.., ..]));
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
        index::check(what, "strip", rows / height, columns, &strip_ptr, &indices)?;
        for (part, expected, found) in [
            ("values", indices.len().checked_mul(height), values.len()),
            ("tail", columns.checked_mul(rows % height), tail.len()),
        ] {
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
        let values = &self.values[places.start * self.height..places.end * self.height];
        let columns = self.indices[places].iter().map(|&column| column as usize);
        columns.zip(values.chunks_exact(self.height))
    }

    /// The dense matrix.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros((self.rows, self.columns));
        for strip in 0..self.strips() {
            for (column, weights) in self.strip(strip) {
                for (row, &weight) in (strip * self.height..).zip(weights) {
                    dense[[row, column]] = weight;
                }
            }
        }
        let first = self.strips() * self.height;
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

    /// Whole strips.
    pub fn strips(&self) -> usize {
        self.rows / self.height
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

    /// The last `rows % height` rows, row by row.
    pub fn tail(&self) -> &[f32] {
        &self.tail
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
            let mut groups = 0;
            for strip in 0..rows / height {
                for column in 0..columns {
                    if rng.random_bool(density) {
                        groups += 1;
                        continue;
                    }
                    dense.slice_mut(s![strip * height..(strip + 1) * height, column]).fill(0.0);
                }
            }
            let sparse = UprightSparse::from_dense(dense.view(), height).unwrap();
            prop_assert_eq!(sparse.to_dense(), dense);
            let nnz = groups * height + columns * (rows % height);
            prop_assert_eq!(sparse.nnz(), nnz);
            let bytes = 4 * nnz + 2 * groups + 4 * (rows / height + 1);
            prop_assert_eq!(sparse.bytes().total(), bytes);
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
    fn a_group_lies_from_the_top_down_and_the_last_rows_are_dense() {
        let mut dense = Array2::<f32>::zeros((5, 3));
        (dense[[2, 1]], dense[[3, 1]], dense[[4, 0]]) = (2.0, 3.0, 4.0);
        let sparse = UprightSparse::from_dense(dense.view(), 2).unwrap();
        assert_eq!((sparse.strip_ptr(), sparse.indices()), (&[0, 0, 1][..], &[1][..]));
        assert_eq!((sparse.values(), sparse.tail()), (&[2.0, 3.0][..], &[4.0, 0.0, 0.0][..]));
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
                UprightParts { tail: vec![], ..parts(&[0, 1, 2], &[0, 1]) },
                "tail: expected 3 entries",
            ),
        ] {
            let error = build(parts).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

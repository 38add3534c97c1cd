//! The group-sparse format.
//!
//! A matrix `[rows, columns]` is cut into aligned groups of `width` columns; of each row, only the
//! groups with a weight other than 0 are stored:
//!
//! - `values`: the groups' weights, row by row, group by group, `width` each;
//! - `groups`: each stored group's number, its first column / `width`, ascending within a row;
//! - `row_ptr`: where each row's groups start, `rows + 1` entries;
//! - `tail`: the last `columns % width` columns of every row, dense: SIMD-aware pruning never removes
//!   them.
//!
//! In a file, group numbers take two bytes where a row has at most 65,536 groups, else four; row
//! pointers take four.

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::{Bytes, index};
use crate::error::{Error, Result};

/// A matrix in aligned groups of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSparse {
    rows: usize,
    columns: usize,
    width: usize,
    row_ptr: Vec<u32>,
    groups: Vec<u32>,
    values: Vec<f32>,
    tail: Vec<f32>,
}

/// The arrays of a [`GroupSparse`], as they are stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupParts {
    /// Where each row's groups start.
    pub row_ptr: Vec<u32>,
    /// Each group's number.
    pub groups: Vec<u32>,
    /// Each group's weights.
    pub values: Vec<f32>,
    /// The last columns, dense.
    pub tail: Vec<f32>,
}

impl GroupSparse {
    /// Stores the groups of a dense matrix that are not all 0.
    ///
    /// # Errors
    /// A width of 0; more groups than 32-bit pointers can count.
    pub fn from_dense(dense: ArrayView2<'_, f32>, width: usize) -> Result<Self> {
        Self::store(dense, width, |group| group.iter().any(|&weight| weight != 0.0))
    }

    /// Stores every group of a dense matrix, those of zeros too: what a dense product computes with.
    ///
    /// # Errors
    /// As [`GroupSparse::from_dense`].
    pub fn full(dense: ArrayView2<'_, f32>, width: usize) -> Result<Self> {
        Self::store(dense, width, |_| true)
    }

    fn store(
        dense: ArrayView2<'_, f32>,
        width: usize,
        keeps: impl Fn(ArrayView1<'_, f32>) -> bool,
    ) -> Result<Self> {
        let (rows, columns) = dense.dim();
        let what = "store groups";
        if width == 0 {
            return Err(Error::argument(what, "a group width of at least 1", "0"));
        }
        if u32::try_from(rows * (columns / width)).is_err() {
            let found = format!("{rows} x {}", columns / width);
            return Err(Error::argument(what, "fewer than 2^32 groups", found));
        }
        let whole = columns / width * width;
        let mut parts = GroupParts { row_ptr: vec![0], ..GroupParts::default() };
        for row in dense.rows() {
            for group in 0..columns / width {
                let weights = row.slice(s![group * width..(group + 1) * width]);
                if keeps(weights) {
                    parts.groups.push(group as u32);
                    parts.values.extend(weights);
                }
            }
            parts.row_ptr.push(parts.groups.len() as u32);
            parts.tail.extend(row.slice(s![whole..]));
        }
        Self::from_parts("a dense matrix", [rows, columns], width, parts)
    }

    /// Puts a matrix together from stored arrays; `what` is for messages.
    ///
    /// # Errors
    /// Arrays that contradict each other: lengths, pointers that do not ascend, groups that are not
    /// there.
    pub fn from_parts(
        what: &str,
        [rows, columns]: [usize; 2],
        width: usize,
        parts: GroupParts,
    ) -> Result<Self> {
        if width == 0 {
            return Err(Error::malformed(format!("{what}, width"), "at least 1", "0"));
        }
        let GroupParts { row_ptr, groups, values, tail } = parts;
        index::check(what, "row", rows, columns / width, &row_ptr, &groups)?;
        for (part, expected, found) in [
            ("values", groups.len().checked_mul(width), values.len()),
            ("tail", rows.checked_mul(columns % width), tail.len()),
        ] {
            if expected != Some(found) {
                let expected = expected.map_or("fewer entries".into(), |n| format!("{n} entries"));
                return Err(Error::malformed(
                    format!("{what}, {part}"),
                    expected,
                    found.to_string(),
                ));
            }
        }
        Ok(Self { rows, columns, width, row_ptr, groups, values, tail })
    }

    /// The stored weights of a row with their columns, those of value 0 within a group included.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let (width, tail) = (self.width, self.columns % self.width);
        let places = self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize;
        let groups = self.groups[places.clone()].iter();
        let weights = self.values[places.start * width..places.end * width].chunks_exact(width);
        let starts = groups.map(move |&group| group as usize * width);
        let remaining = &self.tail[row * tail..(row + 1) * tail];
        starts
            .zip(weights)
            .chain([(self.columns - tail, remaining)])
            .flat_map(|(first, weights)| (first..).zip(weights.iter().copied()))
    }

    /// The dense matrix.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros((self.rows, self.columns));
        for row in 0..self.rows {
            self.row(row).for_each(|(column, weight)| dense[[row, column]] = weight);
        }
        dense
    }

    /// Rows and columns of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Weights in a group.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where each row's groups start.
    pub fn row_ptr(&self) -> &[u32] {
        &self.row_ptr
    }

    /// Each group's number.
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Each group's weights.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The last `columns % width` columns of each row.
    pub fn tail(&self) -> &[f32] {
        &self.tail
    }

    /// Stored weights.
    pub fn nnz(&self) -> usize {
        self.values.len() + self.tail.len()
    }

    /// Bytes of a stored group number.
    pub fn index_bytes(&self) -> usize {
        index::bytes_for(self.columns / self.width)
    }

    /// Its size in a file.
    pub fn bytes(&self) -> Bytes {
        Bytes {
            values: 4 * self.nnz(),
            indices: self.index_bytes() * self.groups.len() + 4 * self.row_ptr.len(),
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
            rows in 0..6_usize, columns in 0..40_usize, width in 1..9_usize,
            density in 0.0..1.0_f64, seed in any::<u64>(),
        ) {
            let mut rng = crate::seed::stream(seed, "test", &[]);
            let mut dense = Array2::from_elem((rows, columns), 0.5_f32);
            let mut groups = 0;
            for row in 0..rows {
                for group in 0..columns / width {
                    if rng.random_bool(density) {
                        groups += 1;
                        continue;
                    }
                    dense.slice_mut(s![row, group * width..(group + 1) * width]).fill(0.0);
                }
            }
            let sparse = GroupSparse::from_dense(dense.view(), width).unwrap();
            prop_assert_eq!(sparse.to_dense(), dense);
            let nnz = groups * width + rows * (columns % width);
            prop_assert_eq!(sparse.nnz(), nnz);
            prop_assert_eq!(sparse.bytes().total(), 4 * nnz + 2 * groups + 4 * (rows + 1));
        }

        #[test]
        fn arbitrary_arrays_are_refused_or_sound(
            rows in 0..4_usize, columns in 0..20_usize, width in 0..5_usize,
            row_ptr in prop::collection::vec(0..6_u32, 0..6),
            groups in prop::collection::vec(0..8_u32, 0..6),
            values in prop::collection::vec(Just(1.0_f32), 0..20),
            tail in prop::collection::vec(Just(1.0_f32), 0..8),
        ) {
            let parts = GroupParts { row_ptr, groups, values, tail };
            if let Ok(sparse) = GroupSparse::from_parts("arrays", [rows, columns], width, parts) {
                prop_assert_eq!(sparse.to_dense().dim(), (rows, columns));
            }
        }
    }

    #[test]
    fn a_full_matrix_stores_its_zeros_too() {
        let mut dense = Array2::<f32>::zeros((3, 19));
        dense[[1, 9]] = 2.0;
        let (full, sparse) = (
            GroupSparse::full(dense.view(), 8).unwrap(),
            GroupSparse::from_dense(dense.view(), 8).unwrap(),
        );
        assert_eq!((full.nnz(), sparse.nnz()), (3 * 19, 8 + 3 * 3));
        assert_eq!((full.to_dense(), sparse.to_dense()), (dense.clone(), dense));
    }

    #[test]
    fn the_message_names_the_broken_part() {
        let parts = |row_ptr: &[u32], groups: &[u32]| GroupParts {
            row_ptr: row_ptr.to_vec(),
            groups: groups.to_vec(),
            values: vec![1.0; 2 * groups.len()],
            tail: vec![1.0; 2],
        };
        let build = |parts| GroupSparse::from_parts("ip1.weight", [2, 5], 2, parts);
        assert!(build(parts(&[0, 1, 2], &[0, 1])).is_ok());
        for (parts, message) in [
            (parts(&[0, 2], &[0, 1]), "ip1.weight, row_ptr: expected 3 entries, found 2"),
            (parts(&[0, 3, 2], &[0, 1]), "row_ptr: expected ascending"),
            (parts(&[0, 1, 2], &[0, 2]), "indices: expected below 2, found 2"),
            (parts(&[0, 2, 2], &[1, 0]), "ascending within a row, found 1 before 0"),
            (
                GroupParts { values: vec![1.0], ..parts(&[0, 1, 2], &[0, 1]) },
                "values: expected 4 entries",
            ),
            (GroupParts { tail: vec![], ..parts(&[0, 1, 2], &[0, 1]) }, "tail: expected 2 entries"),
        ] {
            let error = build(parts).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

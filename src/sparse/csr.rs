//! Compressed sparse rows, the format of traditional pruning.
//!
//! - `values`: the weights other than 0, row by row;
//! - `columns`: each weight's column, ascending within a row;
//! - `row_ptr`: where each row starts, `rows + 1` entries.
//!
//! In a file, column numbers take two bytes where there are at most 65,536 columns, else four; row
//! pointers take four.

use ndarray::{Array2, ArrayView2};

use super::{Bytes, index};
use crate::error::{Error, Result};

/// A matrix in compressed sparse rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Csr {
    shape: [usize; 2],
    row_ptr: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Csr {
    /// Stores the weights of a dense matrix that are not 0.
    ///
    /// # Errors
    /// More weights than 32-bit pointers can count.
    pub fn from_dense(dense: ArrayView2<'_, f32>) -> Result<Self> {
        let (rows, columns) = dense.dim();
        if u32::try_from(dense.len()).is_err() || u32::try_from(columns).is_err() {
            let found = format!("{rows} x {columns}");
            return Err(Error::argument("store sparse rows", "fewer than 2^32 weights", found));
        }
        let (mut row_ptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in dense.rows() {
            for (column, &weight) in row.iter().enumerate().filter(|&(_, &weight)| weight != 0.0) {
                indices.push(column as u32);
                values.push(weight);
            }
            row_ptr.push(values.len() as u32);
        }
        Self::from_parts("a dense matrix", [rows, columns], row_ptr, indices, values)
    }

    /// Puts a matrix together from stored arrays; `what` is for messages.
    ///
    /// # Errors
    /// Arrays that contradict each other: lengths, pointers that do not ascend, columns that are not
    /// there.
    pub fn from_parts(
        what: &str,
        shape: [usize; 2],
        row_ptr: Vec<u32>,
        columns: Vec<u32>,
        values: Vec<f32>,
    ) -> Result<Self> {
        index::check(what, "row", shape[0], shape[1], &row_ptr, &columns)?;
        if values.len() != columns.len() {
            let expected = format!("{} entries", columns.len());
            return Err(Error::malformed(
                format!("{what}, values"),
                expected,
                values.len().to_string(),
            ));
        }
        Ok(Self { shape, row_ptr, columns, values })
    }

    /// The dense matrix.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros(self.shape);
        for row in 0..self.shape[0] {
            for place in self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize {
                dense[[row, self.columns[place] as usize]] = self.values[place];
            }
        }
        dense
    }

    /// Rows and columns of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Where each row starts.
    pub fn row_ptr(&self) -> &[u32] {
        &self.row_ptr
    }

    /// Each weight's column.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The weights.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Stored weights.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Bytes of a stored column number.
    pub fn index_bytes(&self) -> usize {
        index::bytes_for(self.shape[1])
    }

    /// Its size in a file.
    pub fn bytes(&self) -> Bytes {
        Bytes {
            values: 4 * self.nnz(),
            indices: self.index_bytes() * self.columns.len() + 4 * self.row_ptr.len(),
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
            rows in 0..6_usize, columns in 0..40_usize, density in 0.0..1.0_f64, seed in any::<u64>(),
        ) {
            let mut rng = crate::seed::stream(seed, "test", &[]);
            let weight = |_| if rng.random_bool(density) { -2.0_f32 } else { 0.0 };
            let dense = Array2::<f32>::zeros((rows, columns)).map(weight);
            let sparse = Csr::from_dense(dense.view()).unwrap();
            let nnz = dense.iter().filter(|&&weight| weight != 0.0).count();
            prop_assert_eq!(sparse.to_dense(), dense);
            prop_assert_eq!(sparse.bytes().total(), 4 * nnz + 2 * nnz + 4 * (rows + 1));
        }

        #[test]
        fn arbitrary_arrays_are_refused_or_sound(
            rows in 0..4_usize, columns in 0..10_usize,
            row_ptr in prop::collection::vec(0..6_u32, 0..6),
            indices in prop::collection::vec(0..12_u32, 0..6),
            values in prop::collection::vec(Just(1.0_f32), 0..6),
        ) {
            if let Ok(sparse) = Csr::from_parts("arrays", [rows, columns], row_ptr, indices, values) {
                prop_assert_eq!(sparse.to_dense().dim(), (rows, columns));
            }
        }
    }

    #[test]
    fn wide_rows_take_four_bytes_an_index() {
        let wide = Array2::<f32>::zeros((1, 65_537));
        assert_eq!(Csr::from_dense(wide.view()).unwrap().index_bytes(), 4);
        let wide = Array2::<f32>::zeros((1, 65_536));
        assert_eq!(Csr::from_dense(wide.view()).unwrap().index_bytes(), 2);
    }
}

//! From images in rows to features in rows, and back.

use crate::kernels::{parallel_for, task_count};

/// Side of the squares that registers hold.
const SIDE: usize = 16;

/// Floats that a thread moves in a microsecond.
const PER_MICROSECOND: usize = 5_000;

/// Writes the transpose of a matrix to the front of `to`, by all threads where that pays.
pub(super) fn transpose(from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32]) {
    let to = &mut to[..rows * columns];
    let parts = task_count(rows * columns, PER_MICROSECOND);
    if parts == 1 {
        return transpose_columns(from, [rows, columns], 0, to);
    }
    let width = columns.div_ceil(parts).next_multiple_of(SIDE);
    parallel_for(to.chunks_mut(width * rows).enumerate().collect(), |(part, to)| {
        transpose_columns(from, [rows, columns], part * width, to);
    });
}

/// The columns from `first` on, as many as `to` holds as rows.
fn transpose_columns(from: &[f32], [rows, columns]: [usize; 2], first: usize, to: &mut [f32]) {
    let end = first + to.len() / rows.max(1);
    for row in (0..rows).step_by(SIDE) {
        for column in (first..end).step_by(SIDE) {
            let to = &mut to[(column - first) * rows..];
            if row + SIDE <= rows && column + SIDE <= end {
                let mut square = [[0.0_f32; SIDE]; SIDE];
                for (i, line) in square.iter_mut().enumerate() {
                    line.copy_from_slice(&from[(row + i) * columns + column..][..SIDE]);
                }
                for j in 0..SIDE {
                    let line: [f32; SIDE] = std::array::from_fn(|i| square[i][j]);
                    to[j * rows + row..][..SIDE].copy_from_slice(&line);
                }
            } else {
                for i in row..rows.min(row + SIDE) {
                    for j in column..end.min(column + SIDE) {
                        to[(j - column) * rows + i] = from[i * columns + j];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::with_spinning_workers;

    #[test]
    fn a_transposed_matrix_has_its_rows_as_columns() {
        let small = [(1, 5), (16, 16), (17, 35), (33, 16), (3, 100), (0, 4)];
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for (rows, columns) in small.into_iter().chain([(130, 785), (1, 200_003)]) {
                let from: Vec<f32> = (0..rows * columns).map(|place| place as f32).collect();
                let mut to = vec![f32::NAN; from.len() + 7];
                pool.install(|| {
                    with_spinning_workers(|| transpose(&from, [rows, columns], &mut to))
                });
                for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                    let (found, expected) = (to[j * rows + i], from[i * columns + j]);
                    assert_eq!(found, expected, "{rows}x{columns}: {i}, {j}; {threads} threads");
                }
                assert!(to[from.len()..].iter().all(|rest| rest.is_nan()));
            }
        }
    }
}

//! Every variant of `VARIANTS` by the definition: floats are moved, so that all must be the same.

use super::{Transpose, VARIANTS};
use crate::error::Error;
use crate::kernels::with_spinning_workers;
use crate::test_support;

#[test]
fn rows_become_columns_in_every_variant_on_any_number_of_threads() {
    let around_squares = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33];
    let small = around_squares.into_iter().flat_map(|rows| around_squares.map(|n| [rows, n]));
    let shapes: Vec<_> = small.chain([[130, 785], [16, 20_003], [1, 200_003]]).collect();
    for variant in VARIANTS {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for &[rows, columns] in &shapes {
                let transpose = match Transpose::with(variant, [rows, columns]) {
                    Err(Error::Unavailable { reason, .. }) => {
                        test_support::skip(variant.target.feature(), &reason);
                        break;
                    }
                    transpose => transpose.unwrap(),
                };
                let x: Vec<f32> = (0..rows * columns).map(|place| place as f32).collect();
                let mut y = vec![f32::NAN; x.len()];
                let run = || with_spinning_workers(|| transpose.run(&x, &mut y));
                pool.install(run).unwrap();
                for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                    let (found, expected) = (y[j * rows + i], x[i * columns + j]);
                    let name = variant.name;
                    assert_eq!(found, expected, "{name}, {rows}x{columns}: {i}, {j}; {threads}");
                }
            }
        }
    }
}

#[test]
fn slices_of_other_lengths_are_refused() {
    let transpose = Transpose::new([3, 4]).unwrap();
    for [x, y] in [[11, 12], [12, 13], [0, 0]] {
        let error = transpose.run(&vec![0.0; x], &mut vec![0.0; y]).unwrap_err();
        assert!(matches!(error, Error::Length { expected: 12, .. }), "{error}");
    }
    let huge = Transpose::new([usize::MAX, 2]).unwrap();
    assert!(huge.run(&[], &mut []).is_err());
}

//! Every variant of `VARIANTS`, by the suite of the sparse products.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{UprightLayer, dense_height, reference};
use crate::kernels::sparse_product::suite::{self, Case, UnderTest};
use crate::sparse::UprightSparse;

impl UnderTest for UprightSparse {
    fn draw(case: &Case, rng: &mut ChaCha8Rng) -> Self {
        let mut dense = Array2::zeros((case.rows, case.inner));
        for strip in 0..case.rows.div_ceil(case.group) {
            // Strips that are empty and full among those of the given density.
            let density = match strip % 5 {
                3 => 0.0,
                4 => 1.0,
                _ => case.density,
            };
            for column in 0..case.inner {
                if rng.random_bool(density) {
                    for row in strip * case.group..case.rows.min((strip + 1) * case.group) {
                        dense[[row, column]] = rng.random_range(-1.0..1.0_f32);
                    }
                }
            }
        }
        Self::from_dense(dense.view(), case.group).unwrap()
    }

    fn reference(layer: &UprightLayer<'_>, x: &[f32], n: usize) -> Vec<f32> {
        reference::run(layer, x, n)
    }
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    let shapes = |height: usize| {
        let rows = [0, 1, height - 1, height, height + 1, 4 * height, 5 * height + 3];
        let of = |rows| [0, 1, 5, 37].map(|inner| [rows, inner]);
        rows.into_iter().flat_map(of).collect()
    };
    let columns = [0, 1, 2, 7, 8, 9, 16, 17, 24, 25, 32, 33, 48, 49, 65];
    suite::around_all_edges::<UprightSparse>(&[4, 8, 9, 16, 1, 3, 5, 11], shapes, &columns);
}

#[test]
fn blocks_of_k_and_panels_of_x_join() {
    // More rows of X than a second-level cache holds for one tile; more of X than it holds; both.
    for variant in suite::of_many_columns::<UprightSparse>() {
        let cases =
            [(24, 60_000, 50, 8), (300, 1300, 219, 8), (70, 60_000, 10, 16), (70, 60_000, 10, 11)];
        for (rows, inner, n, group) in cases {
            let case = Case { rows, inner, group, density: 0.02, n };
            suite::check(variant, &case, 2, |x| x[1000] = f32::NAN);
        }
    }
}

#[test]
fn columns_between_two_lines_reach_nothing() {
    let case = Case { rows: 19, inner: 21, group: 8, density: 0.5, n: 0 };
    suite::columns_between_two_lines_reach_nothing::<UprightSparse>(case);
}

#[test]
fn rows_are_found_where_tables_say() {
    let case = Case { rows: 21, inner: 30, group: 8, density: 0.5, n: 35 };
    suite::rows_are_found_where_tables_say::<UprightSparse>(case);
}

#[test]
fn nan_and_infinity_reach_what_they_should_and_nothing_else() {
    for height in [4, 8, 16] {
        let case = Case { rows: 5 * height + 3, inner: 40, group: height, density: 0.3, n: 19 };
        suite::nan_and_infinity_reach_what_they_should::<UprightSparse>(case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_shape_and_pattern_agrees(
        rows in 0..80_usize, inner in 0..200_usize, group in 1..18_usize, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        suite::any_variant::<UprightSparse>(&Case { rows, inner, group, density, n }, seed);
    }
}

#[test]
fn all_threads_compute_what_one_does() {
    for n in [20, 400] {
        let case = Case { rows: 1003, inner: 1600, group: 8, density: 0.6, n };
        suite::all_threads_compute_what_one_does::<UprightSparse>(case);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    suite::what_does_not_fit_is_refused::<UprightSparse>();
}

#[test]
fn dense_strips_leave_no_row_alone_where_nine_rows_take_it_along() {
    let heights = [8, 9, 10, 17, 18, 20, 27, 30, 72, 100].map(dense_height);
    assert_eq!(heights, [8, 9, 8, 9, 9, 8, 9, 8, 8, 8]);
}

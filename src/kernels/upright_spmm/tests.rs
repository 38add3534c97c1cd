//! Every variant of `VARIANTS`, by the suite of the sparse products, and every variant on GPUs.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{UprightLayer, dense_height, gpu, reference};
use crate::kernels::gpu::{Operands, devices};
use crate::kernels::sparse_product::suite::{self, Case, UnderTest};
use crate::kernels::sparse_product::suite_on_gpus::{self, UnderTestOnGpus};
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

impl UnderTestOnGpus for UprightSparse {
    type Design = gpu::Design;
    const ONE_COLUMN: gpu::Design = gpu::Design::Vector;
    const GPU_VARIANTS: &'static [gpu::Variant] = gpu::VARIANTS;
    const PACK_WITH: suite_on_gpus::PackWith<Self, gpu::Design> = gpu::pack_with;
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

#[test]
fn every_variant_on_gpus_computes_what_the_reference_does_around_all_edges() {
    suite_on_gpus::around_all_edges::<UprightSparse>(&[2, 4, 8, 16], |height| {
        let rows = [0, 1, height - 1, height + 1, 4 * height];
        rows.into_iter().flat_map(|rows| [0, 1, 67].map(|inner| [rows, inner])).collect()
    });
}

#[test]
fn teams_and_strips_join_on_gpus() {
    for (rows, inner, group, density) in
        [(65, 1000, 8, 0.4), (3, 7000, 4, 0.9), (130, 320, 16, 0.05), (40, 100, 2, 1.0)]
    {
        for n in [1, 36] {
            let case = Case { rows, inner, group, density, n };
            suite_on_gpus::check::<UprightSparse>(&case, 2, |_| ());
        }
    }
}

#[test]
fn nan_and_infinity_reach_what_they_should_on_gpus() {
    let case = Case { rows: 43, inner: 40, group: 8, density: 0.3, n: 8 };
    suite_on_gpus::nan_and_infinity_reach_what_they_should::<UprightSparse>(case);
}

#[test]
fn weights_larger_than_a_buffer_run_in_panels_on_gpus() {
    // 2.1 MB of weights: more than the shim binds. The last rows are stored dense.
    for n in [1, 2] {
        let case = Case { rows: 70, inner: 7600, group: 8, density: 1.0, n };
        suite_on_gpus::check::<UprightSparse>(&case, 4, |_| ());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_shape_and_pattern_agrees_on_gpus(
        rows in 0..80_usize, inner in 0..200_usize, height in 1..5_u32, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        for n in [1, n] {
            let case = Case { rows, inner, group: 1 << height, density, n };
            suite_on_gpus::check::<UprightSparse>(&case, seed, |_| ());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_on_gpus() {
    let odd = UprightSparse::from_dense(Array2::ones((6, 3)).view(), 3).unwrap();
    let weights = UprightSparse::from_dense(Array2::ones((16, 3)).view(), 8).unwrap();
    let layer = UprightLayer { weights: &weights, bias: None, relu: false };
    for gpu in devices() {
        let refusal = |layer: &UprightLayer<'_>, shape, n| {
            gpu::pack(gpu, layer, &Operands::plain(shape, n).unwrap()).unwrap_err().to_string()
        };
        let odd = UprightLayer { weights: &odd, ..layer };
        assert!(refusal(&odd, [6, 3], 1).contains("a group height of 2, 4, 8 or 16"));
        assert!(refusal(&layer, [17, 3], 2).contains("operands of 3 and 16 rows"));
        let bias = [0.0; 4];
        let biased = UprightLayer { bias: Some(&bias), ..layer };
        assert!(refusal(&biased, [16, 3], 1).contains("a bias of 16 values"));
        let one = gpu::pack(gpu, &layer, &Operands::plain([16, 3], 1).unwrap()).unwrap();
        assert!(one.name().ends_with("_n1"), "{}", one.name());
    }
}

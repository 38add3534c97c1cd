//! Every variant of `VARIANTS`, by the suite of the sparse products, and every variant on GPUs.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{GroupLayer, gpu, reference};
use crate::kernels::gpu::{Operands, devices};
use crate::kernels::sparse_product::suite::{self, Case, UnderTest};
use crate::kernels::sparse_product::suite_on_gpus::{self, UnderTestOnGpus};
use crate::sparse::GroupSparse;

impl UnderTest for GroupSparse {
    fn draw(case: &Case, rng: &mut ChaCha8Rng) -> Self {
        let mut dense = Array2::zeros((case.rows, case.inner));
        for row in 0..case.rows {
            // Rows that are empty and full among those of the given density.
            let density = match row % 5 {
                3 => 0.0,
                4 => 1.0,
                _ => case.density,
            };
            for group in 0..case.inner.div_ceil(case.group) {
                if rng.random_bool(density) {
                    let end = case.inner.min((group + 1) * case.group);
                    for column in group * case.group..end {
                        dense[[row, column]] = rng.random_range(-1.0..1.0_f32);
                    }
                }
            }
        }
        Self::from_dense(dense.view(), case.group).unwrap()
    }

    fn reference(layer: &GroupLayer<'_>, x: &[f32], n: usize) -> Vec<f32> {
        reference::run(layer, x, n)
    }
}

impl UnderTestOnGpus for GroupSparse {
    type Design = gpu::Design;
    const ONE_COLUMN: gpu::Design = gpu::Design::Vector;
    const GPU_VARIANTS: &'static [gpu::Variant] = gpu::VARIANTS;
    const PACK_WITH: suite_on_gpus::PackWith<Self, gpu::Design> = gpu::pack_with;
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    let shapes = |width: usize| {
        let inner = [0, 1, width - 1, width, width + 1, 4 * width, 5 * width + 1, 67, 101];
        let of = |inner| [0, 1, 2, 7, 31].map(|rows| [rows, inner]);
        inner.into_iter().flat_map(of).collect()
    };
    let columns = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65];
    suite::around_all_edges::<GroupSparse>(&[2, 4, 8, 16, 1, 3, 5, 11], shapes, &columns);
}

#[test]
fn blocks_of_rows_and_pieces_of_columns_join() {
    for variant in suite::available::<GroupSparse>() {
        let n = suite::columns_for(variant, 40);
        for rows in [255, 256, 257, 511, 512, 513, 1100] {
            let case = Case { rows, inner: 1000, group: 8, density: 0.4, n };
            suite::check(variant, &case, 2, |_| ());
        }
    }
}

#[test]
fn a_large_x_is_read_the_same() {
    // More floats than a core caches, for few blocks and for many; the last tile is not full.
    for variant in suite::of_many_columns::<GroupSparse>() {
        for rows in [300, 1600] {
            let case = Case { rows, inner: 1300, group: 8, density: 0.05, n: 219 };
            suite::check(variant, &case, 5, |x| x[1000] = f32::NAN);
        }
    }
}

#[test]
fn columns_between_two_lines_reach_nothing() {
    let case = Case { rows: 9, inner: 21, group: 8, density: 0.5, n: 0 };
    suite::columns_between_two_lines_reach_nothing::<GroupSparse>(case);
}

#[test]
fn rows_are_found_where_tables_say() {
    let case = Case { rows: 21, inner: 30, group: 8, density: 0.5, n: 35 };
    suite::rows_are_found_where_tables_say::<GroupSparse>(case);
}

#[test]
fn nan_and_infinity_reach_what_they_should_and_nothing_else() {
    for width in [2, 4, 8, 16] {
        let case = Case { rows: 20, inner: 5 * width + 3, group: width, density: 0.3, n: 19 };
        suite::nan_and_infinity_reach_what_they_should::<GroupSparse>(case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_shape_and_pattern_agrees(
        rows in 0..80_usize, inner in 0..200_usize, group in 1..18_usize, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        suite::any_variant::<GroupSparse>(&Case { rows, inner, group, density, n }, seed);
    }
}

#[test]
fn all_threads_compute_what_one_does() {
    let case = Case { rows: 1500, inner: 1600, group: 8, density: 0.6, n: 20 };
    suite::all_threads_compute_what_one_does::<GroupSparse>(case);
}

#[test]
fn what_does_not_fit_is_refused() {
    suite::what_does_not_fit_is_refused::<GroupSparse>();
}

#[test]
fn every_variant_on_gpus_computes_what_the_reference_does_around_all_edges() {
    suite_on_gpus::around_all_edges::<GroupSparse>(&[2, 4, 8, 16], |width| {
        let inner = [0, 1, width - 1, width + 1, 4 * width, 67];
        inner.into_iter().flat_map(|inner| [0, 1, 37].map(|rows| [rows, inner])).collect()
    });
}

#[test]
fn blocks_rows_and_chunks_join_on_gpus() {
    for (rows, inner, group, density) in
        [(65, 1000, 8, 0.4), (3, 7000, 4, 0.9), (130, 320, 16, 0.05), (40, 100, 2, 1.0)]
    {
        for n in [1, 36] {
            let case = Case { rows, inner, group, density, n };
            suite_on_gpus::check::<GroupSparse>(&case, 2, |_| ());
        }
    }
}

#[test]
fn nan_and_infinity_reach_what_they_should_on_gpus() {
    let case = Case { rows: 40, inner: 8 * 5 + 3, group: 8, density: 0.3, n: 8 };
    suite_on_gpus::nan_and_infinity_reach_what_they_should::<GroupSparse>(case);
}

#[test]
fn weights_larger_than_a_buffer_run_in_panels_on_gpus() {
    // 2.1 MB of weights: more than the shim binds.
    for n in [1, 2] {
        let case = Case { rows: 70, inner: 7600, group: 8, density: 1.0, n };
        suite_on_gpus::check::<GroupSparse>(&case, 4, |_| ());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_shape_and_pattern_agrees_on_gpus(
        rows in 0..80_usize, inner in 0..200_usize, width in 1..5_u32, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        for n in [1, n] {
            let case = Case { rows, inner, group: 1 << width, density, n };
            suite_on_gpus::check::<GroupSparse>(&case, seed, |_| ());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_on_gpus() {
    let odd = GroupSparse::from_dense(Array2::ones((3, 6)).view(), 3).unwrap();
    let weights = GroupSparse::from_dense(Array2::ones((3, 16)).view(), 8).unwrap();
    let layer = GroupLayer { weights: &weights, bias: None, relu: false };
    for gpu in devices() {
        let refusal = |layer: &GroupLayer<'_>, shape, n| {
            gpu::pack(gpu, layer, &Operands::plain(shape, n).unwrap()).unwrap_err().to_string()
        };
        let odd = GroupLayer { weights: &odd, ..layer };
        assert!(refusal(&odd, [3, 6], 1).contains("a group width of 2, 4, 8 or 16"));
        assert!(refusal(&layer, [3, 17], 2).contains("operands of 16 and 3 rows"));
        let bias = [0.0; 4];
        let biased = GroupLayer { bias: Some(&bias), ..layer };
        assert!(refusal(&biased, [3, 16], 1).contains("a bias of 3 values"));
        let packed = gpu::pack(gpu, &layer, &Operands::plain([3, 16], 2).unwrap()).unwrap();
        let error = packed.run(gpu, &[0.0; 31], &mut [0.0; 6]).unwrap_err().to_string();
        assert!(error.contains("128 bytes of x"), "{error}");
        let one = gpu::pack(gpu, &layer, &Operands::plain([3, 16], 1).unwrap()).unwrap();
        assert!(one.name().ends_with("_n1"), "{}", one.name());
    }
}

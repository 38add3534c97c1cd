//! Every variant of `VARIANTS`, by the suite of the sparse products, and every variant on GPUs.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{CsrLayer, CsrSpmm, gpu, reference};
use crate::kernels::PackedProduct;
use crate::kernels::layout::{ColumnLayout, Input, Output, RowTable, Rows};
use crate::kernels::sparse_product::suite::{self, Case, UnderTest};
use crate::kernels::sparse_product::suite_on_gpus::{self, UnderTestOnGpus};
use crate::sparse::Csr;

impl UnderTest for Csr {
    fn draw(case: &Case, rng: &mut ChaCha8Rng) -> Self {
        let mut dense = Array2::<f32>::zeros((case.rows, case.inner));
        for (row, mut weights) in dense.rows_mut().into_iter().enumerate() {
            // Empty and full rows among the others.
            let density = [case.density, case.density, 0.0, 1.0][row % 4];
            for weight in &mut weights {
                if rng.random_bool(density) {
                    *weight = rng.random_range(-1.0..1.0);
                }
            }
        }
        Self::from_dense(dense.view()).unwrap()
    }

    fn reference(layer: &CsrLayer<'_>, x: &[f32], n: usize) -> Vec<f32> {
        reference::run(layer, x, n)
    }
}

impl UnderTestOnGpus for Csr {
    type Design = gpu::Design;
    const ONE_COLUMN: gpu::Design = gpu::Design::Vector;
    const GPU_VARIANTS: &'static [gpu::Variant] = gpu::VARIANTS;
    const PACK_WITH: suite_on_gpus::PackWith<Self, gpu::Design> = gpu::pack_with;
}

/// Weights one by one: groups of one.
fn case([rows, inner, n]: [usize; 3], density: f64) -> Case {
    Case { rows, inner, group: 1, density, n }
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    let shapes = |_| {
        let of = |rows| [0, 1, 3, 4, 5, 67].map(|inner| [rows, inner]);
        [0, 1, 4, 9].into_iter().flat_map(of).collect()
    };
    let columns = [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130];
    suite::around_all_edges::<Csr>(&[1], shapes, &columns);
}

#[test]
fn columns_between_two_lines_reach_nothing() {
    suite::columns_between_two_lines_reach_nothing::<Csr>(case([9, 21, 0], 0.5));
}

#[test]
fn rows_are_found_where_tables_say() {
    suite::rows_are_found_where_tables_say::<Csr>(case([21, 30, 35], 0.5));
    suite::rows_are_found_where_tables_say::<Csr>(case([21, 30, 1], 0.5));
}

#[test]
fn nan_and_infinity_reach_what_they_should_and_nothing_else() {
    for n in [1, 40] {
        suite::nan_and_infinity_reach_what_they_should::<Csr>(case([9, 50, n], 0.3));
    }
}

#[test]
fn all_threads_compute_what_one_does() {
    for shape in [[3000, 1000, 1], [301, 1000, 40]] {
        suite::all_threads_compute_what_one_does::<Csr>(case(shape, 0.9));
    }
}

#[test]
fn results_between_other_floats_are_the_same_by_all_threads() {
    const UNTOUCHED: f32 = -77.0;
    let (rows, inner, n) = (300, 400, 60);
    let dense = Array2::from_shape_fn((rows, inner), |(row, column)| {
        if (row * 31 + column * 17) % 3 == 0 { (row % 7) as f32 - 3.0 } else { 0.0 }
    });
    let weights = Csr::from_dense(dense.view()).unwrap();
    let packed = CsrSpmm::new(&CsrLayer { weights: &weights, bias: None, relu: true }, n).unwrap();
    let x: Vec<f32> = (0..inner * n).map(|place| (place % 13) as f32 - 6.0).collect();
    let mut plain = vec![f32::NAN; rows * n];
    packed.run(&x, n, &mut plain).unwrap();
    // Of every ten columns eight are kept, and a row of Y has room for more.
    let (lines, stride) = (ColumnLayout::lines(10, 8, 9), 60);
    let turned = RowTable::new((0..rows).map(|row| (rows - 1 - row) * stride).collect());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for at in [Rows::Every(stride), Rows::At(&turned)] {
            // The last row ends with its last line.
            let mut values = vec![UNTOUCHED; (rows - 1) * stride + 53];
            let y = Output { values: &mut values, rows: at, columns: lines };
            pool.install(|| packed.run_at(Input::plain(&x, n), n, y)).unwrap();
            for (row, column) in (0..rows).flat_map(|row| (0..n).map(move |column| (row, column))) {
                let place = at.start(row) + column / 10 * 9 + column % 10;
                if column % 10 < 8 {
                    assert_eq!(values[place], plain[row * n + column], "{row}, {column}");
                    values[place] = UNTOUCHED;
                }
            }
            assert!(values.iter().all(|&value| value == UNTOUCHED));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_shape_and_pattern_agrees(
        rows in 0..40_usize, inner in 0..120_usize, n in 0..100_usize, density in 0.0..1.0_f64,
        seed in any::<u64>(),
    ) {
        suite::any_variant::<Csr>(&case([rows, inner, n], density), seed);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    suite::what_does_not_fit_is_refused::<Csr>();
}

#[test]
fn gpus_compute_what_the_reference_does_around_all_edges() {
    for rows in [0, 1, 9] {
        for inner in [0, 1, 67] {
            for n in [0, 1, 31, 33] {
                suite_on_gpus::check::<Csr>(&case([rows, inner, n], 0.3), 1, |_| ());
            }
        }
    }
    for n in [1, 40] {
        suite_on_gpus::check::<Csr>(&case([301, 1000, n], 0.9), 2, |_| ());
        suite_on_gpus::check::<Csr>(&case([9, 50, n], 0.3), 3, |x| x[7] = f32::NAN);
    }
}

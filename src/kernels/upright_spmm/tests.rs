//! The one conformance suite: every variant of `VARIANTS` on the same hostile cases, against the reference.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{UprightLayer, UprightSpmm, VARIANTS, Variant, by_name, dense_height, reference};
use crate::error::Error;
use crate::kernels::PackedProduct;
use crate::kernels::layout::{ColumnLayout, Input, Output, RowTable, Rows};
use crate::seed;
use crate::sparse::UprightSparse;
use crate::test_support;

/// A case: the weights' shape, height and density, and the columns.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    inner: usize,
    height: usize,
    density: f64,
    n: usize,
}

fn weights(case: &Case, rng: &mut ChaCha8Rng) -> UprightSparse {
    let mut dense = Array2::zeros((case.rows, case.inner));
    for strip in 0..case.rows.div_ceil(case.height) {
        // Strips that are empty and full among those of the given density.
        let density = match strip % 5 {
            3 => 0.0,
            4 => 1.0,
            _ => case.density,
        };
        for column in 0..case.inner {
            if rng.random_bool(density) {
                for row in strip * case.height..case.rows.min((strip + 1) * case.height) {
                    dense[[row, column]] = rng.random_range(-1.0..1.0_f32);
                }
            }
        }
    }
    UprightSparse::from_dense(dense.view(), case.height).unwrap()
}

/// Runs one variant on one case; Y is full of NaN before. `spoil` changes X after it is drawn.
fn check(variant: &'static Variant, case: &Case, seed: u64, spoil: impl Fn(&mut [f32])) {
    let mut rng = seed::stream(seed, "upright_spmm", &[]);
    let weights = weights(case, &mut rng);
    let mut x: Vec<f32> = (0..case.inner * case.n).map(|_| rng.random_range(-1.0..1.0)).collect();
    spoil(&mut x);
    let bias: Vec<f32> = (0..case.rows).map(|_| rng.random_range(-1.0..1.0)).collect();
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = UprightLayer { weights: &weights, bias, relu };
        let expected = reference::run(&layer, &x, case.n);
        let mut found = vec![f32::NAN; case.rows * case.n];
        UprightSpmm::with(variant, &layer).unwrap().run(&x, case.n, &mut found).unwrap();
        // Sums of K products below 1 in f32: K roundings of half a unit in the last place at most.
        let tolerance = 1e-6 * (case.inner as f32 + 10.0);
        for (place, (&expected, &found)) in expected.iter().zip(&found).enumerate() {
            let same = expected == found || (expected.is_nan() && found.is_nan());
            let near = (expected - found).abs() <= tolerance;
            let name = variant.name;
            assert!(same || near, "{name} {case:?} at {place}: {found}, not {expected}");
        }
    }
}

/// The variants that this processor has; the others are reported as skipped.
fn available() -> Vec<&'static Variant> {
    let empty = UprightSparse::from_dense(Array2::zeros((0, 0)).view(), 8).unwrap();
    let layer = UprightLayer { weights: &empty, bias: None, relu: false };
    let has = |variant: &&'static Variant| {
        let has = (variant.design.pack)(&layer).is_some();
        if !has {
            let reason = format!("{} cannot run here", variant.name);
            test_support::skip(variant.target.feature(), &reason);
        }
        has
    };
    VARIANTS.iter().filter(has).collect()
}

fn of_many_columns() -> impl Iterator<Item = &'static Variant> {
    available().into_iter().filter(|variant| !variant.design.one_column())
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    for variant in available() {
        let columns: &[usize] = match variant.design.one_column() {
            true => &[1],
            false => &[0, 1, 2, 7, 8, 9, 16, 17, 24, 25, 32, 33, 48, 49, 65],
        };
        for height in [4, 8, 9, 16, 1, 3, 5, 11] {
            for rows in [0, 1, height - 1, height, height + 1, 4 * height, 5 * height + 3] {
                for inner in [0, 1, 5, 37] {
                    for &n in columns {
                        for density in [0.0, 0.3, 1.0] {
                            check(variant, &Case { rows, inner, height, density, n }, 1, |_| ());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_of_k_and_panels_of_x_join() {
    // More rows of X than a second-level cache holds for one tile; more of X than it holds; both.
    for variant in of_many_columns() {
        let cases =
            [(24, 60_000, 50, 8), (300, 1300, 219, 8), (70, 60_000, 10, 16), (70, 60_000, 10, 11)];
        for (rows, inner, n, height) in cases {
            let case = Case { rows, inner, height, density: 0.02, n };
            check(variant, &case, 2, |x| x[1000] = f32::NAN);
        }
    }
}

#[test]
fn columns_between_two_lines_reach_nothing() {
    let mut rng = seed::stream(6, "upright_spmm", &[]);
    let case = Case { rows: 19, inner: 21, height: 8, density: 0.5, n: 0 };
    let weights = weights(&case, &mut rng);
    let layer = UprightLayer { weights: &weights, bias: None, relu: false };
    for variant in of_many_columns() {
        let packed = UprightSpmm::with(variant, &layer).unwrap();
        let of = |kept| [0, 1, 5].map(|dropped| (kept, dropped));
        let all = [1, 3, 4, 8, 9, 12, 13, 16, 20, 24, 27, 32, 40, 48, 56].map(of);
        for (kept, dropped) in all.into_iter().flatten() {
            let (computed, pitch) = (kept + dropped, kept + 2);
            let (n, stride) = (3 * computed + kept, 4 * pitch);
            let mut x: Vec<f32> =
                (0..case.inner * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let expected = reference::run(&layer, &x, n);
            for (place, x) in x.iter_mut().enumerate() {
                if place % n % computed >= kept {
                    *x = f32::NAN;
                }
            }
            let mut y = vec![-7.0; case.rows * stride];
            let columns = ColumnLayout::lines(computed, kept, pitch);
            let output = Output { values: &mut y, rows: Rows::Every(stride), columns };
            packed.run_at(Input::plain(&x, n), n, output).unwrap();
            for (place, &found) in y.iter().enumerate() {
                let (row, line, column) =
                    (place / stride, place % stride / pitch, place % stride % pitch);
                let expected =
                    if column < kept { expected[row * n + line * computed + column] } else { -7.0 };
                let name = variant.name;
                assert!((found - expected).abs() < 1e-5, "{name} {columns:?}: {found} at {place}");
            }
        }
    }
}

#[test]
fn rows_are_found_where_tables_say() {
    let mut rng = seed::stream(7, "upright_spmm", &[]);
    let case = Case { rows: 21, inner: 30, height: 8, density: 0.5, n: 0 };
    let weights = weights(&case, &mut rng);
    let layer = UprightLayer { weights: &weights, bias: None, relu: false };
    for variant in available() {
        let n = if variant.design.one_column() { 1 } else { 35 };
        let x: Vec<f32> = (0..case.inner * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        let expected = reference::run(&layer, &x, n);
        // The rows of both lie in reverse, some floats apart.
        let at = |rows: usize| (0..rows).rev().map(|row| row * (n + 3)).collect::<Vec<_>>();
        let mut scattered = vec![f32::NAN; case.inner * (n + 3)];
        for (row, start) in at(case.inner).into_iter().enumerate() {
            scattered[start..start + n].copy_from_slice(&x[row * n..(row + 1) * n]);
        }
        let (from, to) = (RowTable::new(at(case.inner)), RowTable::new(at(case.rows)));
        let mut y = vec![-7.0; case.rows * (n + 3)];
        let input = Input { values: &scattered, rows: Rows::At(&from) };
        let columns = ColumnLayout::contiguous(n);
        let output = Output { values: &mut y, rows: Rows::At(&to), columns };
        UprightSpmm::with(variant, &layer).unwrap().run_at(input, n, output).unwrap();
        for (row, start) in at(case.rows).into_iter().enumerate() {
            for column in 0..n {
                let difference = y[start + column] - expected[row * n + column];
                assert!(difference.abs() < 1e-5, "{}: row {row}, column {column}", variant.name);
            }
            assert!(y[start + n..start + n + 3].iter().all(|&between| between == -7.0));
        }
    }
}

#[test]
fn nan_and_infinity_reach_what_they_should_and_nothing_else() {
    for variant in available() {
        let n = if variant.design.one_column() { 1 } else { 19 };
        for height in [4, 8, 16] {
            let case = Case { rows: 5 * height + 3, inner: 40, height, density: 0.3, n };
            for place in [0, n, case.inner * n / 2, case.inner * n - 1] {
                check(variant, &case, 3, |x| x[place] = f32::NAN);
                check(variant, &case, 3, |x| x[place] = f32::INFINITY);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_shape_and_pattern_agrees(
        rows in 0..80_usize, inner in 0..200_usize, height in 1..18_usize, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        let empty = UprightSparse::from_dense(Array2::zeros((0, 0)).view(), 8).unwrap();
        let layer = UprightLayer { weights: &empty, bias: None, relu: false };
        for variant in VARIANTS.iter().filter(|v| !v.design.one_column() || n == 1) {
            if (variant.design.pack)(&layer).is_some() {
                check(variant, &Case { rows, inner, height, density, n }, seed, |_| ());
            }
        }
    }
}

#[test]
fn all_threads_compute_what_one_does() {
    let mut rng = seed::stream(4, "upright_spmm", &[]);
    for n in [1, 20, 400] {
        let case = Case { rows: 1003, inner: 1600, height: 8, density: 0.6, n };
        let weights = weights(&case, &mut rng);
        let layer = UprightLayer { weights: &weights, bias: None, relu: true };
        let x: Vec<f32> = (0..case.inner * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        for variant in available().into_iter().filter(|v| v.design.one_column() == (n == 1)) {
            let packed = UprightSpmm::with(variant, &layer).unwrap();
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut y = vec![f32::NAN; case.rows * n];
                pool.install(|| packed.run(&x, n, &mut y)).unwrap();
                y
            };
            assert_eq!(run(1), run(3), "{}", variant.name);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let weights = UprightSparse::from_dense(Array2::ones((16, 3)).view(), 8).unwrap();
    let layer = UprightLayer { weights: &weights, bias: None, relu: false };
    let packed = UprightSpmm::new(&layer, 2).unwrap();
    for (x, n, y) in [(6, 2, 31), (5, 2, 32), (3, 2, 32)] {
        assert!(packed.run(&vec![0.0; x], n, &mut vec![0.0; y]).is_err(), "{n}");
    }
    let one = UprightSpmm::new(&layer, 1).unwrap();
    assert!(one.variant().design.one_column());
    let error = one.run(&[0.0; 6], 2, &mut [0.0; 32]).unwrap_err().to_string();
    assert!(error.contains("expected 1 column, got 2"), "{error}");
    let bias = [0.0; 4];
    let error = UprightSpmm::new(&UprightLayer { bias: Some(&bias), ..layer }, 1).unwrap_err();
    let Error::Length { argument: "a bias", expected: 16, found: 4, .. } = error else {
        panic!("{error}")
    };
    let unknown = by_name("upright_spmm_f32_mmx").unwrap_err();
    assert!(matches!(unknown, Error::Unknown { ref known, .. } if known.len() == VARIANTS.len()));
}

#[test]
fn dense_strips_leave_no_row_alone_where_nine_rows_take_it_along() {
    let heights = [8, 9, 10, 17, 18, 20, 27, 30, 72, 100].map(dense_height);
    assert_eq!(heights, [8, 9, 8, 9, 9, 8, 9, 8, 8, 8]);
}

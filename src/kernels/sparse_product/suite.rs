//! The conformance suite of the sparse products: every variant of a format on the same hostile cases, against the
//! reference.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Kernel, SparseFormat, SparseLayer, SparseProduct, Variant, by_name};
use crate::error::Error;
use crate::kernels::PackedProduct;
use crate::kernels::layout::{ColumnLayout, Input, Output, RowTable, Rows};
use crate::seed;
use crate::test_support;

/// A format of which the suite can draw weights, and its product by definition.
pub(in crate::kernels) trait UnderTest: SparseFormat {
    /// Weights of a case, with rows or strips that are empty and full among those of its density.
    fn draw(case: &Case, rng: &mut ChaCha8Rng) -> Self;

    /// What the product computes, by plain loops.
    fn reference(layer: &SparseLayer<'_, Self>, x: &[f32], n: usize) -> Vec<f32>;
}

/// The weights' shape, group (its width or height; no matter where there are no groups) and density, and the columns.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Case {
    pub rows: usize,
    pub inner: usize,
    pub group: usize,
    pub density: f64,
    pub n: usize,
}

/// So many numbers of -1 to 1.
fn drawn(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn layer<F>(weights: &F) -> SparseLayer<'_, F> {
    SparseLayer { weights, bias: None, relu: false }
}

/// Runs one variant on one case; Y is full of NaN before. `spoil` changes X after it is drawn.
pub(in crate::kernels) fn check<F: UnderTest>(
    variant: &'static Variant<F>,
    case: &Case,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
) {
    check_with::<F>(variant.name, case, seed, spoil, |layer, x, y| {
        SparseProduct::with(variant, layer).unwrap().run(x, case.n, y).unwrap();
    });
}

/// As [`check`], of whatever runs a layer.
pub(in crate::kernels) fn check_with<F: UnderTest>(
    name: &str,
    case: &Case,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
    run: impl Fn(&SparseLayer<'_, F>, &[f32], &mut [f32]),
) {
    let mut rng = seed::stream(seed, F::OPERATION, &[]);
    let weights = F::draw(case, &mut rng);
    let mut x = drawn(case.inner * case.n, &mut rng);
    spoil(&mut x);
    let bias = drawn(case.rows, &mut rng);
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = SparseLayer { weights: &weights, bias, relu };
        let expected = F::reference(&layer, &x, case.n);
        let mut found = vec![f32::NAN; case.rows * case.n];
        run(&layer, &x, &mut found);
        // Sums of K products below 1 in f32: K roundings of half a unit in the last place at most.
        let tolerance = 1e-6 * (case.inner as f32 + 10.0);
        for (place, (&expected, &found)) in expected.iter().zip(&found).enumerate() {
            let same = expected == found || (expected.is_nan() && found.is_nan());
            let near = (expected - found).abs() <= tolerance;
            assert!(same || near, "{name} {case:?} at {place}: {found}, not {expected}");
        }
    }
}

/// The variants that this processor has; the others are reported as skipped.
pub(in crate::kernels) fn available<F: SparseFormat>() -> Vec<&'static Variant<F>> {
    let has = |variant: &&'static Variant<F>| {
        let has = variant.target.available();
        if !has {
            let reason = format!("{} cannot run here", variant.name);
            test_support::skip(variant.target.feature(), &reason);
        }
        has
    };
    F::VARIANTS.iter().filter(has).collect()
}

/// Those of them that take any number of columns.
pub(in crate::kernels) fn of_many_columns<F: SparseFormat>()
-> impl Iterator<Item = &'static Variant<F>> {
    available().into_iter().filter(|variant| !variant.design.one_column())
}

/// `n`, or 1 for a variant of one column.
pub(in crate::kernels) fn columns_for<F: SparseFormat>(variant: &Variant<F>, n: usize) -> usize {
    if variant.design.one_column() { 1 } else { n }
}

/// Every variant on sizes around the edges of its tiles.
pub(in crate::kernels) fn around_all_edges<F: UnderTest>(
    groups: &[usize],
    shapes: impl Fn(usize) -> Vec<[usize; 2]>,
    columns: &[usize],
) {
    for variant in available::<F>() {
        let columns = if variant.design.one_column() { &[1] } else { columns };
        for &group in groups {
            for [rows, inner] in shapes(group) {
                for &n in columns {
                    for density in [0.0, 0.3, 1.0] {
                        check(variant, &Case { rows, inner, group, density, n }, 1, |_| ());
                    }
                }
            }
        }
    }
}

/// Every variant that takes a case's columns, on that case.
pub(in crate::kernels) fn any_variant<F: UnderTest>(case: &Case, seed: u64) {
    let takes = |variant: &&Variant<F>| case.n == 1 || !variant.design.one_column();
    let here = F::VARIANTS.iter().filter(|variant| variant.target.available());
    here.filter(takes).for_each(|variant| check(variant, case, seed, |_| ()));
}

/// Y's columns go to lines, and what lies between two lines of X, or of Y, is no part of the product.
pub(in crate::kernels) fn columns_between_two_lines_reach_nothing<F: UnderTest>(case: Case) {
    let mut rng = seed::stream(6, F::OPERATION, &[]);
    let weights = F::draw(&case, &mut rng);
    let layer = layer(&weights);
    for variant in of_many_columns() {
        let packed = SparseProduct::with(variant, &layer).unwrap();
        let of = |kept| [0, 1, 5].map(|dropped| (kept, dropped));
        let all = [1, 3, 4, 8, 9, 12, 13, 16, 20, 24, 27, 32, 40, 48, 56].map(of);
        for (kept, dropped) in all.into_iter().flatten() {
            let (computed, pitch) = (kept + dropped, kept + 2);
            let (n, stride) = (3 * computed + kept, 4 * pitch);
            let mut x = drawn(case.inner * n, &mut rng);
            let expected = F::reference(&layer, &x, n);
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

/// Rows of X and of Y that lie in reverse, some floats apart, are found by tables.
pub(in crate::kernels) fn rows_are_found_where_tables_say<F: UnderTest>(case: Case) {
    let mut rng = seed::stream(7, F::OPERATION, &[]);
    let weights = F::draw(&case, &mut rng);
    let layer = layer(&weights);
    for variant in available() {
        let n = columns_for(variant, case.n);
        let x = drawn(case.inner * n, &mut rng);
        let expected = F::reference(&layer, &x, n);
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
        SparseProduct::with(variant, &layer).unwrap().run_at(input, n, output).unwrap();
        for (row, start) in at(case.rows).into_iter().enumerate() {
            for column in 0..n {
                let difference = y[start + column] - expected[row * n + column];
                assert!(difference.abs() < 1e-5, "{}: row {row}, column {column}", variant.name);
            }
            assert!(y[start + n..start + n + 3].iter().all(|&between| between == -7.0));
        }
    }
}

/// A NaN or an infinity reaches the rows that store what it is multiplied with, and no others.
pub(in crate::kernels) fn nan_and_infinity_reach_what_they_should<F: UnderTest>(case: Case) {
    for variant in available::<F>() {
        let case = Case { n: columns_for(variant, case.n), ..case };
        for place in [0, case.n, case.inner * case.n / 2, case.inner * case.n - 1] {
            check(variant, &case, 3, |x| x[place] = f32::NAN);
            check(variant, &case, 3, |x| x[place] = f32::INFINITY);
        }
    }
}

/// Three threads compute the very bits that one does.
pub(in crate::kernels) fn all_threads_compute_what_one_does<F: UnderTest>(case: Case) {
    let mut rng = seed::stream(4, F::OPERATION, &[]);
    let weights = F::draw(&case, &mut rng);
    let layer = SparseLayer { relu: true, ..layer(&weights) };
    for variant in available() {
        let n = columns_for(variant, case.n);
        let x = drawn(case.inner * n, &mut rng);
        let packed = SparseProduct::with(variant, &layer).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut y = vec![f32::NAN; case.rows * n];
            pool.install(|| packed.run(&x, n, &mut y)).unwrap();
            y
        };
        assert_eq!(run(1), run(3), "{}", variant.name);
    }
}

/// Slices and a bias of other lengths, several columns for a variant of one, and a name that no variant has.
pub(in crate::kernels) fn what_does_not_fit_is_refused<F: UnderTest>() {
    let case = Case { rows: 16, inner: 3, group: 8, density: 1.0, n: 2 };
    let weights = F::draw(&case, &mut seed::stream(8, F::OPERATION, &[]));
    let layer = layer(&weights);
    let packed = SparseProduct::new(&layer, 2).unwrap();
    for (x, n, y) in [(6, 2, 31), (5, 2, 32), (3, 2, 32), (1, usize::MAX / 2, 0)] {
        assert!(packed.run(&vec![0.0; x], n, &mut vec![0.0; y]).is_err(), "{n}");
    }
    let one = SparseProduct::new(&layer, 1).unwrap();
    if one.variant().design.one_column() {
        let error = one.run(&[0.0; 6], 2, &mut [0.0; 32]).unwrap_err().to_string();
        assert!(error.contains("expected 1 column, got 2"), "{error}");
    }
    let bias = [0.0; 4];
    let error = SparseProduct::new(&SparseLayer { bias: Some(&bias), ..layer }, 1).unwrap_err();
    let Error::Length { argument: "a bias", expected: 16, found: 4, .. } = error else {
        panic!("{error}")
    };
    let unknown = by_name::<F>("spmm_f32_mmx").unwrap_err();
    let variants = F::VARIANTS.len();
    assert!(matches!(unknown, Error::Unknown { ref known, .. } if known.len() == variants));
}

#[test]
fn a_variant_whose_instructions_are_missing_packs_nothing() {
    fn pack_agrees<F: UnderTest>() {
        let case = Case { rows: 0, inner: 0, group: 8, density: 0.0, n: 0 };
        let weights = F::draw(&case, &mut seed::stream(1, F::OPERATION, &[]));
        for variant in F::VARIANTS {
            let packed: Option<Box<dyn Kernel>> = (variant.design.pack)(&layer(&weights));
            assert_eq!(packed.is_some(), variant.target.available(), "{}", variant.name);
        }
    }
    pack_agrees::<crate::sparse::GroupSparse>();
    pack_agrees::<crate::sparse::UprightSparse>();
    pack_agrees::<crate::sparse::Csr>();
}

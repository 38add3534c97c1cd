//! Every variant of `VARIANTS` on the same hostile cases, against plain loops.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;

use super::{CsrLayer, CsrSpmm, VARIANTS, gpu, reference};
use crate::error::Error;
use crate::kernels::PackedProduct;
use crate::kernels::gpu::{Operands, devices};
use crate::kernels::layout::{ColumnLayout, Input, Output, RowTable, Rows};
use crate::seed;
use crate::sparse::Csr;

/// Gives a name and y for each candidate, from a layer and x.
type Candidates<'a> = dyn Fn(&CsrLayer<'_>, &[f32]) -> Vec<(String, Vec<f32>)> + 'a;

/// Draws a case, and compares what each of `run`'s candidates computes with plain loops.
fn check_with(
    [rows, inner, n]: [usize; 3],
    density: f64,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
    run: &Candidates<'_>,
) {
    let mut rng = seed::stream(seed, "csr_spmm", &[]);
    let mut dense = Array2::<f32>::zeros((rows, inner));
    for (row, mut weights) in dense.rows_mut().into_iter().enumerate() {
        let density = [density, density, 0.0, 1.0][row % 4]; // empty and full rows among the others
        for weight in &mut weights {
            if rng.random_bool(density) {
                *weight = rng.random_range(-1.0..1.0);
            }
        }
    }
    let weights = Csr::from_dense(dense.view()).unwrap();
    let mut x: Vec<f32> = (0..inner * n).map(|_| rng.random_range(-1.0..1.0)).collect();
    spoil(&mut x);
    let bias: Vec<f32> = (0..rows).map(|_| rng.random_range(-1.0..1.0)).collect();
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = CsrLayer { weights: &weights, bias, relu };
        let expected = reference::run(&layer, &x, n);
        for (name, y) in run(&layer, &x) {
            for (place, (&expected, &found)) in expected.iter().zip(&y).enumerate() {
                let same = expected == found || (expected.is_nan() && found.is_nan());
                let near = (expected - found).abs() <= 1e-6 * (inner as f32 + 10.0);
                assert!(same || near, "{name} {rows}x{inner}x{n} at {place}: {found}, {expected}");
            }
        }
    }
}

fn check(shape: [usize; 3], density: f64, threads: usize, seed: u64, spoil: impl Fn(&mut [f32])) {
    let [rows, _, n] = shape;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    check_with(shape, density, seed, spoil, &|layer, x| {
        let mut all = Vec::new();
        for variant in VARIANTS {
            let packed = match CsrSpmm::with(variant, layer) {
                Err(Error::Unavailable { reason, .. }) => {
                    crate::test_support::skip(variant.target.feature(), &reason);
                    continue;
                }
                packed => packed.unwrap(),
            };
            let mut y = vec![f32::NAN; rows * n];
            pool.install(|| packed.run(x, n, &mut y)).unwrap();
            all.push((variant.name.to_owned(), y));
        }
        all
    });
}

fn check_on_gpus(shape: [usize; 3], density: f64, seed: u64, spoil: impl Fn(&mut [f32])) {
    let [rows, inner, n] = shape;
    check_with(shape, density, seed, spoil, &|layer, x| {
        let mut all = Vec::new();
        for gpu in devices() {
            let own = gpu::VARIANTS.iter().filter(|variant| {
                variant.target == gpu.language()
                    && (n == 1 || variant.design != gpu::Design::Vector)
            });
            for variant in own {
                let operands = Operands::plain([rows, inner], n).unwrap();
                let packed = gpu::pack_with(gpu, variant, layer, &operands).unwrap();
                let mut y = vec![f32::NAN; rows * n];
                packed.run(gpu, x, &mut y).unwrap();
                all.push((variant.name.to_owned(), y));
            }
        }
        all
    });
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    for rows in [0, 1, 4, 9] {
        for inner in [0, 1, 3, 4, 5, 67] {
            for n in [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130] {
                for density in [0.0, 0.3, 1.0] {
                    check([rows, inner, n], density, 1, 1, |_| ());
                }
            }
        }
    }
}

#[test]
fn threads_and_hostile_values_agree() {
    for n in [1, 40] {
        check([if n == 1 { 3000 } else { 301 }, 1000, n], 0.9, 3, 2, |_| ());
        check([9, 50, n], 0.3, 1, 3, |x| x[7] = f32::NAN);
        check([9, 50, n], 0.3, 1, 4, |x| x[7] = f32::INFINITY);
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
    let packed = CsrSpmm::new(&CsrLayer { weights: &weights, bias: None, relu: true }).unwrap();
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
        check([rows, inner, n], density, 1, seed, |_| ());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let weights = Csr::from_dense(Array2::ones((3, 4)).view()).unwrap();
    let bias = [0.0; 2];
    let layer = CsrLayer { weights: &weights, bias: Some(&bias), relu: false };
    let error = CsrSpmm::new(&layer).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "a bias", expected: 3, found: 2, .. }),
        "{error}"
    );
    let packed = CsrSpmm::new(&CsrLayer { bias: None, ..layer }).unwrap();
    assert!(packed.run(&[0.0; 7], 2, &mut [0.0; 6]).is_err());
    assert!(packed.run(&[0.0; 8], 2, &mut [0.0; 5]).is_err());
}

#[test]
fn gpus_compute_what_the_reference_does_around_all_edges() {
    for rows in [0, 1, 9] {
        for inner in [0, 1, 67] {
            for n in [0, 1, 31, 33] {
                check_on_gpus([rows, inner, n], 0.3, 1, |_| ());
            }
        }
    }
    for n in [1, 40] {
        check_on_gpus([301, 1000, n], 0.9, 2, |_| ());
        check_on_gpus([9, 50, n], 0.3, 3, |x| x[7] = f32::NAN);
    }
}

//! Every variant of `VARIANTS` on the same hostile cases, against plain loops.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;

use super::{CsrSpmm, Layer, VARIANTS, reference};
use crate::error::Error;
use crate::seed;
use crate::sparse::Csr;

fn check(
    [rows, inner, n]: [usize; 3],
    density: f64,
    threads: usize,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
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
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = Layer { weights: &weights, bias, relu };
        let expected = reference::run(&layer, &x, n);
        for variant in VARIANTS {
            let packed = match CsrSpmm::with(variant, &layer) {
                Err(Error::Unavailable { reason, .. }) => {
                    crate::requirement::skip(variant.needs, &reason);
                    continue;
                }
                packed => packed.unwrap(),
            };
            let mut y = vec![f32::NAN; rows * n];
            pool.install(|| packed.run(&x, n, &mut y)).unwrap();
            for (place, (&expected, &found)) in expected.iter().zip(&y).enumerate() {
                let same = expected == found || (expected.is_nan() && found.is_nan());
                let near = (expected - found).abs() <= 1e-6 * (inner as f32 + 10.0);
                let name = variant.name;
                assert!(same || near, "{name} {rows}x{inner}x{n} at {place}: {found}, {expected}");
            }
        }
    }
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
    let layer = Layer { weights: &weights, bias: Some(&bias), relu: false };
    let error = CsrSpmm::new(&layer).unwrap_err().to_string();
    assert!(error.contains("a bias of 3 entries"), "{error}");
    let packed = CsrSpmm::new(&Layer { bias: None, ..layer }).unwrap();
    assert!(packed.run(&[0.0; 7], 2, &mut [0.0; 6]).is_err());
    assert!(packed.run(&[0.0; 8], 2, &mut [0.0; 5]).is_err());
}

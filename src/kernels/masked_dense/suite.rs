//! Every variant of `VARIANTS` on the same hostile cases, against plain loops. Dead inputs hold NaN, and
//! dead outputs a value that must still be there afterwards.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;

use super::{DenseLibrary, Layer, MaskedDense, Nodes, VARIANTS, reference};
use crate::error::{Error, Result};
use crate::seed;

/// A library by plain loops: what is checked is how the kernel hands over to one.
struct Loops;

impl DenseLibrary for Loops {
    fn name(&self) -> String {
        "plain loops".into()
    }

    fn multiply(&self, [m, k, n]: [usize; 3], w: &[f32], x: &[f32], y: &mut [f32]) -> Result<()> {
        assert_eq!((w.len(), x.len(), y.len()), (m * k, k * n, m * n));
        for (place, y) in y.iter_mut().enumerate() {
            let (row, column) = (place / n, place % n);
            let products = (0..k).map(|k_| w[row * k + k_] * x[k_ * n + column]);
            *y = products.sum();
        }
        Ok(())
    }
}

const UNTOUCHED: f32 = -77.0;

fn check(
    [m, k, n]: [usize; 3],
    alive: f64,
    compacted: [bool; 2],
    threads: usize,
    seed: u64,
    poison: Option<f32>,
) {
    let mut rng = seed::stream(seed, "masked_dense", &[]);
    let mut living =
        |total: usize| -> Vec<usize> { (0..total).filter(|_| rng.random_bool(alive)).collect() };
    let (inputs, outputs) = (living(k), living(m));
    let weights = Array2::<f32>::from_shape_fn((m, k), |_| rng.random_range(-1.0..1.0));
    let bias: Vec<f32> = (0..m).map(|_| rng.random_range(-1.0..1.0)).collect();
    let rows = |nodes: &Vec<usize>, total, compacted| if compacted { nodes.len() } else { total };
    let mut x = vec![f32::NAN; rows(&inputs, k, compacted[0]) * n];
    for (index, &node) in inputs.iter().enumerate() {
        let row = if compacted[0] { index } else { node };
        x[row * n..(row + 1) * n].fill_with(|| rng.random_range(-1.0..1.0));
    }
    if let (Some(poison), Some(first)) = (poison, x.iter_mut().find(|value| !value.is_nan())) {
        *first = poison;
    }
    let library: Arc<dyn DenseLibrary> = Arc::new(Loops);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = Layer {
            weights: weights.view(),
            inputs: Nodes { living: &inputs, compacted: compacted[0] },
            outputs: Nodes { living: &outputs, compacted: compacted[1] },
            bias,
            relu,
        };
        let mut expected = vec![UNTOUCHED; rows(&outputs, m, compacted[1]) * n];
        let fresh = expected.clone();
        reference::run(&layer, &x, n, &mut expected);
        for variant in VARIANTS.iter().filter(|variant| n == 1 || !variant.one_column()) {
            let packed = match MaskedDense::with(variant, &layer, n, Some(&library)) {
                Err(Error::Unavailable { reason, .. }) => {
                    crate::requirement::skip(variant.needs, &reason);
                    continue;
                }
                packed => packed.unwrap(),
            };
            let mut found = fresh.clone();
            pool.install(|| packed.run(&x, &mut found)).unwrap();
            for (place, (&expected, &found)) in expected.iter().zip(&found).enumerate() {
                let same = expected == found || (expected.is_nan() && found.is_nan());
                let near = (expected - found).abs() <= 2e-6 * (k as f32 + 10.0);
                let name = variant.name;
                assert!(same || near, "{name} {m}x{k}x{n} at {place}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    for m in [0, 1, 7, 8, 9, 33] {
        for k in [0, 1, 3, 4, 15, 16, 17, 50] {
            for n in [0, 1, 2, 17, 40] {
                for alive in [0.0, 0.5, 1.0] {
                    for compacted in [[false, false], [false, true], [true, false], [true, true]] {
                        check([m, k, n], alive, compacted, 1, 1, None);
                    }
                }
            }
        }
    }
}

#[test]
fn threads_and_hostile_values_agree() {
    for n in [1, 33] {
        check([1700, 1600, n], 0.95, [false, false], 3, 2, None);
        check([20, 30, n], 0.7, [false, true], 1, 3, Some(f32::INFINITY));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_shape_and_mask_agrees(
        m in 0..50_usize, k in 0..80_usize, n in 0..70_usize, alive in 0.0..1.0_f64,
        compacted in any::<[bool; 2]>(), seed in any::<u64>(),
    ) {
        check([m, k, n], alive, compacted, 1, seed, None);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let weights = Array2::<f32>::ones((3, 4));
    let nodes = |living| Nodes { living, compacted: false };
    let layer = |inputs, outputs| Layer {
        weights: weights.view(),
        inputs: nodes(inputs),
        outputs: nodes(outputs),
        bias: None,
        relu: false,
    };
    let refusal = |layer: &Layer<'_>| MaskedDense::new(layer, 1, None).unwrap_err().to_string();
    assert!(refusal(&layer(&[0, 4], &[0])).contains("ascending inputs below 4"));
    assert!(refusal(&layer(&[1, 0], &[0])).contains("ascending inputs"));
    assert!(refusal(&layer(&[0], &[1, 1])).contains("ascending outputs below 3"));
    let fits = layer(&[0, 3], &[1]);
    let bias = [0.0; 1];
    assert!(refusal(&Layer { bias: Some(&bias), ..fits }).contains("a bias of 3 entries"));
    let packed = MaskedDense::new(&fits, 1, None).unwrap();
    assert!(packed.variant().one_column());
    assert!(packed.run(&[0.0; 2], &mut [0.0; 3]).is_err());
    let large = MaskedDense::new(&fits, 600, None).unwrap();
    assert!(!large.variant().name.contains("library"), "{}", large.variant().name);
    let library: Arc<dyn DenseLibrary> = Arc::new(Loops);
    let large = MaskedDense::new(&fits, 600, Some(&library)).unwrap();
    let ours = crate::device::cpu::Avx512::new().is_some();
    assert!(ours != large.variant().name.contains("library"), "{}", large.variant().name);
}

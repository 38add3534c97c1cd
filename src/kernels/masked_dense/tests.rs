//! Every variant of `VARIANTS` on the same hostile cases, against plain loops. Dead inputs hold NaN, and
//! dead outputs a value that must still be there afterwards.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;

use super::{MaskedDense, MaskedLayer, Nodes, VARIANTS, gpu, reference};
use crate::error::Error;
use crate::kernels::gpu::devices;
use crate::kernels::library_gemm::{DenseLibrary, tests::Loops};
use crate::seed;

const UNTOUCHED: f32 = -77.0;

/// A variant's name, its tolerance for sums of k products below 1, and the y that it computed.
type Computed = (String, f32, Vec<f32>);

/// What every candidate computes from a layer, x and a y to start from.
type Candidates<'a> = dyn Fn(&MaskedLayer<'_>, &[f32], &[f32]) -> Vec<Computed> + 'a;

/// Runs every candidate on one case: `run` is given a layer, x and a y to start from.
fn check_with(
    [m, k, n]: [usize; 3],
    alive: f64,
    compacted: [bool; 2],
    seed: u64,
    poison: Option<f32>,
    run: &Candidates<'_>,
) {
    let mut rng = seed::stream(seed, "masked_dense", &[]);
    let mut kept_nodes =
        |total: usize| -> Vec<usize> { (0..total).filter(|_| rng.random_bool(alive)).collect() };
    let (inputs, outputs) = (kept_nodes(k), kept_nodes(m));
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
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = MaskedLayer {
            weights: weights.view(),
            inputs: Nodes { kept: &inputs, compacted: compacted[0] },
            outputs: Nodes { kept: &outputs, compacted: compacted[1] },
            bias,
            relu,
        };
        let fresh = vec![UNTOUCHED; rows(&outputs, m, compacted[1]) * n];
        let mut expected = fresh.clone();
        reference::run(&layer, &x, n, &mut expected);
        for (name, tolerance, found) in run(&layer, &x, &fresh) {
            for (place, (&expected, &found)) in expected.iter().zip(&found).enumerate() {
                let same = expected == found || (expected.is_nan() && found.is_nan());
                let near = (expected - found).abs() <= tolerance;
                assert!(same || near, "{name} {m}x{k}x{n} at {place}: {found}, not {expected}");
            }
        }
    }
}

fn check(
    shape: [usize; 3],
    alive: f64,
    compacted: [bool; 2],
    threads: usize,
    seed: u64,
    poison: Option<f32>,
) {
    let [_, k, n] = shape;
    let library: Arc<dyn DenseLibrary> = Arc::new(Loops);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    check_with(shape, alive, compacted, seed, poison, &|layer, x, fresh| {
        let mut all = Vec::new();
        for variant in VARIANTS.iter().filter(|variant| n == 1 || !variant.one_column()) {
            let packed = match MaskedDense::with(variant, layer, n, Some(&library)) {
                Err(Error::Unavailable { reason, .. }) => {
                    crate::test_support::skip(variant.target.feature(), &reason);
                    continue;
                }
                packed => packed.unwrap(),
            };
            let mut found = fresh.to_vec();
            pool.install(|| packed.run(x, &mut found)).unwrap();
            all.push((variant.name.to_owned(), 2e-6 * (k as f32 + 10.0), found));
        }
        all
    });
}

fn check_on_gpus(
    shape: [usize; 3],
    alive: f64,
    compacted: [bool; 2],
    seed: u64,
    poison: Option<f32>,
) {
    let [_, k, n] = shape;
    check_with(shape, alive, compacted, seed, poison, &|layer, x, fresh| {
        let mut all = Vec::new();
        for gpu in devices() {
            let own = gpu::VARIANTS.iter().filter(|variant| {
                variant.target == gpu.language()
                    && (n == 1 || variant.design != gpu::Design::Vector)
            });
            for variant in own {
                let packed = gpu::pack_layer(gpu, Some(variant), layer, n).unwrap();
                let mut found = fresh.to_vec();
                packed.run(gpu, x, &mut found).unwrap();
                // TF32 has 10 bits of mantissa: each factor is off by 2^-11 at most.
                let rounding = if variant.name.contains("_tf32_") { 1e-3 } else { 2e-6 };
                all.push((variant.name.to_owned(), rounding * (k as f32 + 10.0), found));
            }
        }
        all
    });
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
    let nodes = |kept| Nodes { kept, compacted: false };
    let layer = |inputs, outputs| MaskedLayer {
        weights: weights.view(),
        inputs: nodes(inputs),
        outputs: nodes(outputs),
        bias: None,
        relu: false,
    };
    let refusal =
        |layer: &MaskedLayer<'_>| MaskedDense::new(layer, 1, None).unwrap_err().to_string();
    assert!(refusal(&layer(&[0, 4], &[0])).contains("ascending inputs below 4"));
    assert!(refusal(&layer(&[1, 0], &[0])).contains("ascending inputs"));
    assert!(refusal(&layer(&[0], &[1, 1])).contains("ascending outputs below 3"));
    let fits = layer(&[0, 3], &[1]);
    let bias = [0.0; 1];
    let error = MaskedDense::new(&MaskedLayer { bias: Some(&bias), ..fits }, 1, None).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "a bias", expected: 3, found: 1, .. }),
        "{error}"
    );
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

#[test]
fn every_variant_on_gpus_computes_what_the_reference_does_around_all_edges() {
    for m in [0, 1, 17, 70] {
        for k in [0, 1, 5, 16, 50] {
            for n in [0, 1, 4, 17] {
                for alive in [0.0, 0.6, 1.0] {
                    for compacted in [[false, false], [true, true]] {
                        check_on_gpus([m, k, n], alive, compacted, 1, None);
                    }
                }
            }
        }
    }
}

#[test]
fn tiles_panels_and_parts_join_on_gpus() {
    // Several tiles each way; parts of K; more weights than the shim binds at once.
    for shape in [[140, 70, 132], [20, 1100, 3], [9, 4000, 1], [70, 5000, 1], [300, 1000, 5]] {
        check_on_gpus(shape, 0.9, [false, true], 2, None);
    }
    check_on_gpus([40, 33, 20], 1.0, [true, true], 3, Some(f32::INFINITY));
}

#[test]
fn a_layer_larger_than_a_binding_is_split_on_gpus() {
    // AlexNet's ip6: 151 MB, where a software Vulkan binds 128 MiB at once.
    let (m, k) = (4096, 9216);
    let weights = Array2::from_shape_fn((m, k), |(row, column)| ((row + column) % 5) as f32 - 2.0);
    let (inputs, outputs): (Vec<usize>, Vec<usize>) = ((0..k).collect(), (0..m).collect());
    let layer = MaskedLayer {
        weights: weights.view(),
        inputs: Nodes { kept: &inputs, compacted: true },
        outputs: Nodes { kept: &outputs, compacted: true },
        bias: None,
        relu: false,
    };
    let x: Vec<f32> = (0..k).map(|place| (place % 7) as f32 - 3.0).collect();
    // Small integers: every sum is exact.
    let mut expected = vec![0.0; m];
    reference::run(&layer, &x, 1, &mut expected);
    for gpu in devices().into_iter().filter(|gpu| gpu.limits().buffer_bytes > 1 << 20) {
        let packed = gpu::pack_layer(gpu, None, &layer, 1).unwrap();
        let mut found = vec![f32::NAN; m];
        packed.run(gpu, &x, &mut found).unwrap();
        assert!(expected == found, "{}", gpu.name());
    }
}

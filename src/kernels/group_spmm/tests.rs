//! The one conformance suite: every variant of `VARIANTS` on the same hostile cases, against the
//! reference.

use ndarray::Array2;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Columns, GroupLayer, GroupSpmm, VARIANTS, Variant, by_name, gpu, reference};
use crate::device::gpu::Gpu;
use crate::error::Error;
use crate::kernels::PackedProduct;
use crate::kernels::gpu::{Operands, devices};
use crate::kernels::layout::{ColumnLayout, Input, Output, Rows};
use crate::seed;
use crate::sparse::GroupSparse;
use crate::test_support;

/// A case: the weights' shape, width and density, and the columns.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    inner: usize,
    width: usize,
    density: f64,
    n: usize,
}

fn weights(case: &Case, rng: &mut ChaCha8Rng) -> GroupSparse {
    let mut dense = Array2::zeros((case.rows, case.inner));
    for row in 0..case.rows {
        // Rows that are empty and full among those of the given density.
        let density = match row % 5 {
            3 => 0.0,
            4 => 1.0,
            _ => case.density,
        };
        for group in 0..case.inner.div_ceil(case.width) {
            if rng.random_bool(density) {
                let end = case.inner.min((group + 1) * case.width);
                for column in group * case.width..end {
                    dense[[row, column]] = rng.random_range(-1.0..1.0_f32);
                }
            }
        }
    }
    GroupSparse::from_dense(dense.view(), case.width).unwrap()
}

/// Runs one variant on one case; Y is full of NaN before. `spoil` changes X after it is drawn.
fn check(variant: &'static Variant, case: &Case, seed: u64, spoil: impl Fn(&mut [f32])) {
    check_with(variant.name, case, seed, spoil, |layer, x, y| {
        GroupSpmm::with(variant, layer).unwrap().run(x, case.n, y).unwrap();
    });
}

/// As [`check`], for a variant on a GPU.
fn check_on(
    gpu: &dyn Gpu,
    variant: &'static gpu::Variant,
    case: &Case,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
) {
    check_with(variant.name, case, seed, spoil, |layer, x, y| {
        let operands = Operands::plain(layer.weights.shape(), case.n).unwrap();
        gpu::pack_with(gpu, variant, layer, &operands).unwrap().run(gpu, x, y).unwrap();
    });
}

fn check_with(
    name: &str,
    case: &Case,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
    run: impl Fn(&GroupLayer<'_>, &[f32], &mut [f32]),
) {
    let mut rng = seed::stream(seed, "group_spmm", &[]);
    let weights = weights(case, &mut rng);
    let mut x: Vec<f32> = (0..case.inner * case.n).map(|_| rng.random_range(-1.0..1.0)).collect();
    spoil(&mut x);
    let bias: Vec<f32> = (0..case.rows).map(|_| rng.random_range(-1.0..1.0)).collect();
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let layer = GroupLayer { weights: &weights, bias, relu };
        let expected = reference::run(&layer, &x, case.n);
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
fn available() -> Vec<&'static Variant> {
    let empty = GroupSparse::from_dense(Array2::zeros((0, 0)).view(), 8).unwrap();
    let layer = GroupLayer { weights: &empty, bias: None, relu: false };
    let has = |variant: &&'static Variant| {
        let has = (variant.design.pack)(&layer).is_some();
        if !has {
            test_support::skip(
                variant.target.feature(),
                &format!("{} cannot run here", variant.name),
            );
        }
        has
    };
    VARIANTS.iter().filter(has).collect()
}

fn columns_of(variant: &Variant) -> &'static [usize] {
    match variant.design.columns {
        Columns::One => &[1],
        Columns::Any(_) => &[0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65],
    }
}

#[test]
fn every_variant_computes_what_the_reference_does_around_all_edges() {
    for variant in available() {
        for width in [2, 4, 8, 16, 1, 3, 5, 11] {
            for inner in [0, 1, width - 1, width, width + 1, 4 * width, 5 * width + 1, 67, 101] {
                for rows in [0, 1, 2, 7, 31] {
                    for &n in columns_of(variant) {
                        for density in [0.0, 0.3, 1.0] {
                            check(variant, &Case { rows, inner, width, density, n }, 1, |_| ());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_of_rows_and_pieces_of_columns_join() {
    for variant in available() {
        let n = if variant.design.columns == Columns::One { 1 } else { 40 };
        for rows in [255, 256, 257, 511, 512, 513, 1100] {
            let case = Case { rows, inner: 1000, width: 8, density: 0.4, n };
            check(variant, &case, 2, |_| ());
        }
    }
}

#[test]
fn a_large_x_is_read_the_same() {
    // More floats than a core caches, for few blocks and for many; the last tile is not full.
    for variant in available().into_iter().filter(|variant| variant.design.columns != Columns::One)
    {
        for rows in [300, 1600] {
            let case = Case { rows, inner: 1300, width: 8, density: 0.05, n: 219 };
            check(variant, &case, 5, |x| x[1000] = f32::NAN);
        }
    }
}

#[test]
fn columns_between_two_lines_reach_nothing() {
    let mut rng = seed::stream(6, "group_spmm", &[]);
    let case = Case { rows: 9, inner: 21, width: 8, density: 0.5, n: 0 };
    let weights = weights(&case, &mut rng);
    let layer = GroupLayer { weights: &weights, bias: None, relu: false };
    for variant in available().into_iter().filter(|variant| variant.design.columns != Columns::One)
    {
        let packed = GroupSpmm::with(variant, &layer).unwrap();
        let of = |kept| [0, 1, 5].map(|dropped| (kept, dropped));
        let all = [1, 3, 4, 8, 9, 12, 13, 16, 20, 24, 27, 32, 40].map(of);
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
fn nan_and_infinity_reach_what_they_should_and_nothing_else() {
    for variant in available() {
        let n = if variant.design.columns == Columns::One { 1 } else { 19 };
        for width in [2, 4, 8, 16] {
            let case = Case { rows: 20, inner: 5 * width + 3, width, density: 0.3, n };
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
        rows in 0..80_usize, inner in 0..200_usize, width in 1..18_usize, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        for variant in VARIANTS.iter().filter(|v| v.design.columns != Columns::One || n == 1) {
            let empty = GroupSparse::from_dense(Array2::zeros((0, 0)).view(), 8).unwrap();
            if (variant.design.pack)(&GroupLayer { weights: &empty, bias: None, relu: false }).is_some() {
                check(variant, &Case { rows, inner, width, density, n }, seed, |_| ());
            }
        }
    }
}

#[test]
fn all_threads_compute_what_one_does() {
    let mut rng = seed::stream(4, "group_spmm", &[]);
    let case = Case { rows: 1500, inner: 1600, width: 8, density: 0.6, n: 20 };
    let weights = weights(&case, &mut rng);
    let layer = GroupLayer { weights: &weights, bias: None, relu: true };
    for variant in available() {
        let n = if variant.design.columns == Columns::One { 1 } else { case.n };
        let x: Vec<f32> = (0..case.inner * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        let packed = GroupSpmm::with(variant, &layer).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut y = vec![f32::NAN; case.rows * n];
            pool.install(|| packed.run(&x, n, &mut y)).unwrap();
            y
        };
        assert_eq!(run(1), run(3), "{}", variant.name);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let weights = GroupSparse::from_dense(Array2::ones((3, 16)).view(), 8).unwrap();
    let layer = GroupLayer { weights: &weights, bias: None, relu: false };
    let packed = GroupSpmm::new(&layer, 2).unwrap();
    for (x, n, y) in [(32, 2, 5), (31, 2, 6), (16, 2, 6), (usize::MAX / 2, 0, 0)] {
        let x = vec![0.0; if x > 100 { 1 } else { x }];
        assert!(packed.run(&x, n, &mut vec![0.0; y]).is_err(), "{n}");
    }
    let one = GroupSpmm::new(&layer, 1).unwrap();
    assert_eq!(one.variant().design.columns, Columns::One);
    let error = one.run(&[0.0; 32], 2, &mut [0.0; 6]).unwrap_err().to_string();
    assert!(error.contains("expected 1 column, got 2"), "{error}");
    let bias = [0.0; 4];
    let error = GroupSpmm::new(&GroupLayer { bias: Some(&bias), ..layer }, 1).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "a bias", expected: 3, found: 4, .. }),
        "{error}"
    );
    let unknown = by_name("group_spmm_f32_mmx_n1").unwrap_err();
    assert!(matches!(unknown, Error::Unknown { ref known, .. } if known.len() == VARIANTS.len()));
}

/// Every device with every variant that is written for it.
fn on_gpus() -> Vec<(&'static dyn Gpu, &'static gpu::Variant)> {
    let pairs = devices().into_iter().flat_map(|gpu| {
        let own = gpu::VARIANTS.iter().filter(|variant| variant.target == gpu.language());
        own.map(move |variant| (gpu, variant))
    });
    pairs.collect()
}

fn columns_on(variant: &gpu::Variant) -> &'static [usize] {
    if variant.design == gpu::Design::Vector { &[1] } else { &[0, 1, 4, 17, 32, 131] }
}

#[test]
fn every_variant_on_gpus_computes_what_the_reference_does_around_all_edges() {
    for (gpu, variant) in on_gpus() {
        for width in [2, 4, 8, 16] {
            for inner in [0, 1, width - 1, width + 1, 4 * width, 67] {
                for rows in [0, 1, 37] {
                    for &n in columns_on(variant) {
                        check_on(
                            gpu,
                            variant,
                            &Case { rows, inner, width, density: 0.3, n },
                            1,
                            |_| (),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_rows_and_chunks_join_on_gpus() {
    for (gpu, variant) in on_gpus() {
        for (rows, inner, width, density) in
            [(65, 1000, 8, 0.4), (3, 7000, 4, 0.9), (130, 320, 16, 0.05), (40, 100, 2, 1.0)]
        {
            let n = if variant.design == gpu::Design::Vector { 1 } else { 36 };
            check_on(gpu, variant, &Case { rows, inner, width, density, n }, 2, |_| ());
        }
    }
}

#[test]
fn nan_and_infinity_reach_what_they_should_on_gpus() {
    for (gpu, variant) in on_gpus() {
        let n = if variant.design == gpu::Design::Vector { 1 } else { 8 };
        let case = Case { rows: 40, inner: 8 * 5 + 3, width: 8, density: 0.3, n };
        for place in [0, n, case.inner * n / 2, case.inner * n - 1] {
            check_on(gpu, variant, &case, 3, |x| x[place] = f32::NAN);
            check_on(gpu, variant, &case, 3, |x| x[place] = f32::INFINITY);
        }
    }
}

#[test]
fn weights_larger_than_a_buffer_run_in_panels_on_gpus() {
    for (gpu, variant) in on_gpus() {
        // 2.1 MB of weights: more than the shim binds.
        let n = if variant.design == gpu::Design::Vector { 1 } else { 2 };
        let case = Case { rows: 70, inner: 7600, width: 8, density: 1.0, n };
        check_on(gpu, variant, &case, 4, |_| ());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_shape_and_pattern_agrees_on_gpus(
        rows in 0..80_usize, inner in 0..200_usize, width in 1..5_u32, density in 0.0..1.0_f64,
        n in 0..80_usize, seed in any::<u64>(),
    ) {
        for (gpu, variant) in on_gpus() {
            let n = if variant.design == gpu::Design::Vector { 1 } else { n };
            check_on(gpu, variant, &Case { rows, inner, width: 1 << width, density, n }, seed, |_| ());
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

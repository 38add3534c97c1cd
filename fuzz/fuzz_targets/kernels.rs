//! Every CPU variant of the products computes what plain loops do, whatever the shape, and touches no memory
//! but its own: each slice is as long as it must be and not a float longer.
#![no_main]

use ndarray::Array2;
use scalpel::error::Error;
use scalpel::kernels::csr_spmm;
use scalpel::kernels::group_spmm::{self, Columns, GroupLayer, GroupSpmm};
use scalpel::kernels::masked_dense::{self, MaskedDense, MaskedLayer, Nodes};
use scalpel::sparse::{Csr, GroupSparse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [m, k, n, width, pattern @ ..] = bytes else { return };
    let (m, k, n) = (usize::from(*m % 40), usize::from(*k), 1 + usize::from(*n % 80));
    let width = [1, 2, 3, 4, 8, 16][usize::from(*width) % 6];
    if pattern.is_empty() {
        return;
    }
    let weights = Array2::from_shape_fn((m, k), |(row, column)| {
        let place = row * k.div_ceil(width) + column / width;
        let kept = pattern[place / 8 % pattern.len()] >> (place % 8) & 1 == 1;
        if kept { 1.0 + ((row * 7 + column * 3) % 11) as f32 } else { 0.0 }
    });
    let x: Vec<f32> = (0..k * n).map(|place| (place % 13) as f32 - 6.0).collect();
    let bias: Vec<f32> = (0..m).map(|row| row as f32).collect();
    let groups = GroupSparse::from_dense(weights.view(), width).expect("a width above 0");
    let layer = GroupLayer { weights: &groups, bias: Some(&bias), relu: true };
    let expected = group_spmm::reference::run(&layer, &x, n);
    let check = |name: &str, y: &[f32]| {
        for (expected, found) in expected.iter().zip(y) {
            // Whole numbers below 2^24: exact in any order.
            assert!(
                expected == found,
                "{name}, {m}x{k}, n = {n}, width {width}: {found}, not {expected}"
            );
        }
    };
    for variant in
        group_spmm::VARIANTS.iter().filter(|v| (n == 1) || v.design.columns != Columns::One)
    {
        let kernel = match GroupSpmm::with(variant, &layer) {
            Err(Error::Unavailable { .. }) => continue,
            kernel => kernel.expect("a layer that every variant takes"),
        };
        let mut y = vec![f32::NAN; m * n];
        kernel.run(&x, n, &mut y).expect("operands of the right lengths");
        check(variant.name, &y);
    }
    let csr = Csr::from_dense(weights.view()).expect("few weights");
    let layer = csr_spmm::CsrLayer { weights: &csr, bias: Some(&bias), relu: true };
    for variant in csr_spmm::VARIANTS {
        let kernel = match csr_spmm::CsrSpmm::with(variant, &layer) {
            Err(Error::Unavailable { .. }) => continue,
            kernel => kernel.expect("a layer that every variant takes"),
        };
        let mut y = vec![f32::NAN; m * n];
        kernel.run(&x, n, &mut y).expect("operands of the right lengths");
        check(variant.name, &y);
    }
    masked(&weights, &bias, n, pattern);
});

/// Every variant of the dense product of the nodes that a pattern keeps, among all nodes and alone.
fn masked(weights: &Array2<f32>, bias: &[f32], n: usize, pattern: &[u8]) {
    let (m, k) = weights.dim();
    let kept = |count: usize, from: usize| -> Vec<usize> {
        let bit = |node: usize| pattern[(node / 8 + from) % pattern.len()] >> (node % 8) & 1 == 1;
        (0..count).filter(|&node| bit(node)).collect()
    };
    let (inputs, outputs) = (kept(k, 1), kept(m, 2));
    let compacted = [pattern[0] & 1 == 1, pattern[0] & 2 == 2];
    let layer = MaskedLayer {
        weights: weights.view(),
        inputs: Nodes { kept: &inputs, compacted: compacted[0] },
        outputs: Nodes { kept: &outputs, compacted: compacted[1] },
        bias: Some(bias),
        relu: true,
    };
    let rows = if compacted[0] { inputs.len() } else { k };
    let x: Vec<f32> = (0..rows * n).map(|place| (place % 13) as f32 - 6.0).collect();
    // Rows of other nodes stay as they are.
    let untouched = vec![-1.0_f32; if compacted[1] { outputs.len() } else { m } * n];
    let mut expected = untouched.clone();
    masked_dense::reference::run(&layer, &x, n, &mut expected);
    for variant in masked_dense::VARIANTS.iter().filter(|v| n == 1 || !v.one_column()) {
        let kernel = match MaskedDense::with(variant, &layer, n, None) {
            Err(Error::Unavailable { .. }) => continue,
            kernel => kernel.expect("a layer that every variant takes"),
        };
        let mut y = untouched.clone();
        kernel.run(&x, &mut y).expect("operands of the right lengths");
        assert!(expected == y, "{}, {m}x{k}, n = {n}: {y:?}, not {expected:?}", variant.name);
    }
}

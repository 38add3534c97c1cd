//! Every CPU variant of the sparse products computes what plain loops do, whatever the shape, and touches no memory
//! but its own: each slice is as long as it must be and not a float longer.
#![no_main]

use ndarray::Array2;
use scalpel::error::Error;
use scalpel::kernels::csr_spmm;
use scalpel::kernels::group_spmm::{self, Columns, GroupSpmm, GroupLayer};
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
    for variant in group_spmm::VARIANTS.iter().filter(|v| (n == 1) || v.columns != Columns::One) {
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
});

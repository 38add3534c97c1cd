//! Every CPU variant of the products computes what plain loops do, whatever the shape, and touches no memory
//! but its own: each slice is as long as it must be and not a float longer.
#![no_main]

use ndarray::{Array2, ArrayView2, s};
use scalpel::error::Error;
use scalpel::kernels::SparseVariant;
use scalpel::kernels::convolution::{self, ConvLayer, Convolution, Geometry};
use scalpel::kernels::group_spmm;
use scalpel::kernels::layout::ImageLayout;
use scalpel::kernels::masked_dense::{self, MaskedDense, MaskedLayer, Nodes};
use scalpel::kernels::pool_eltwise::{self, Op, PoolEltwise, Window};
use scalpel::kernels::sparse_product::{SparseFormat, SparseLayer, SparseProduct};
use scalpel::kernels::transpose::{self, Transpose};
use scalpel::kernels::upright_spmm;
use scalpel::sparse::{Csr, GroupSparse, Pattern, UprightSparse};

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
    let layer = SparseLayer { weights: &groups, bias: Some(&bias), relu: true };
    let expected = group_spmm::reference::run(&layer, &x, n);
    sparse(&layer, &x, n, &expected);
    let csr = Csr::from_dense(weights.view()).expect("few weights");
    sparse(&SparseLayer { weights: &csr, bias: Some(&bias), relu: true }, &x, n, &expected);
    transposed(&x, [k, n]);
    masked(&weights, &bias, n, pattern);
    upright(&weights.slice(s![.., ..k.min(60)]), width, &bias, n);
    convolved(&weights.slice(s![..m.min(20), ..k.min(80)]), width, &bias[..m.min(20)], pattern);
    pooled(m, k, pattern);
});

/// Every variant for a format of sparse weights.
fn sparse<F: SparseFormat>(layer: &SparseLayer<'_, F>, x: &[f32], n: usize, expected: &[f32]) {
    for variant in F::VARIANTS.iter().filter(|v| n == 1 || !v.design.one_column()) {
        let kernel = match SparseProduct::with(variant, layer) {
            Err(Error::Unavailable { .. }) => continue,
            kernel => kernel.expect("a layer that every variant takes"),
        };
        let [m, k] = kernel.shape();
        let mut y = vec![f32::NAN; m * n];
        kernel.run(x, n, &mut y).expect("operands of the right lengths");
        // Whole numbers below 2^24: exact in any order.
        assert!(expected == y, "{}, {m}x{k}, n = {n}: {y:?}, not {expected:?}", variant.name);
    }
}

/// Every variant of the transposition.
fn transposed(x: &[f32], [rows, columns]: [usize; 2]) {
    for variant in transpose::VARIANTS {
        let kernel = match Transpose::with(variant, [rows, columns]) {
            Err(Error::Unavailable { .. }) => continue,
            kernel => kernel.expect("any shape"),
        };
        let mut y = vec![f32::NAN; x.len()];
        kernel.run(x, &mut y).expect("operands of the right lengths");
        let moved = |place: usize| y[place % columns * rows + place / columns];
        let same = (0..x.len()).all(|place| moved(place) == x[place]);
        assert!(same, "{}, {rows}x{columns}: {y:?}", variant.name);
    }
}

/// Every variant for upright groups, on the transposed pattern.
fn upright(weights: &ArrayView2<'_, f32>, height: usize, bias: &[f32], n: usize) {
    let (k, m) = weights.dim();
    let weights = UprightSparse::from_dense(weights.t(), height).expect("a height above 0");
    let bias: Vec<f32> = (0..m).map(|row| bias.get(row).copied().unwrap_or(1.0)).collect();
    let layer = SparseLayer { weights: &weights, bias: Some(&bias), relu: true };
    let x: Vec<f32> = (0..k * n).map(|place| (place % 13) as f32 - 6.0).collect();
    sparse(&layer, &x, n, &upright_spmm::reference::run(&layer, &x, n));
}

/// Every variant of both patterns under a convolution whose sizes the pattern draws.
fn convolved(weights: &ArrayView2<'_, f32>, width: usize, bias: &[f32], pattern: &[u8]) {
    let draw = |place: usize, below: usize| usize::from(pattern[place % pattern.len()]) % below;
    let side = 1 + draw(1, 3);
    let (m, k) = weights.dim();
    let channels = k / (side * side);
    let geometry = Geometry {
        channels,
        height: side + draw(2, 5),
        width: side + draw(3, 20),
        side,
        stride: 1 + draw(4, 2),
        padding: draw(5, 3),
    };
    let matrix = weights.slice(s![.., ..channels * side * side]).to_owned();
    let pixels = channels * geometry.height * geometry.width;
    let x: Vec<f32> = (0..pixels).map(|place| (place % 13) as f32 - 6.0).collect();
    let groups = [GroupSparse::from_dense(matrix.view(), width).expect("a width above 0")];
    let upright = [UprightSparse::from_dense(matrix.view(), width).expect("a height above 0")];
    for (own, weights) in [
        (Pattern::Groups, convolution::Weights::Groups(&groups)),
        (Pattern::Upright, convolution::Weights::Upright(&upright)),
    ] {
        let layer = ConvLayer { geometry, weights, bias: Some(bias), relu: true };
        let expected = convolution::reference::run(&layer, &x).expect("sizes that fit");
        assert_eq!(expected.len() % m.max(1), 0);
        for variant in SparseVariant::all(own) {
            if variant.one_column() || !variant.runs_here() {
                continue;
            }
            let packed = Convolution::with(variant, &layer).expect("a layer of its pattern");
            let mut y = vec![f32::NAN; expected.len()];
            packed.run(&x, 1, &mut y).expect("operands of the right lengths");
            assert!(expected == y, "{} {geometry:?}: {y:?}, not {expected:?}", variant.name());
        }
    }
}

/// Every variant of what lies between products, from one padded image to another.
fn pooled(channels: usize, width: usize, pattern: &[u8]) {
    let draw = |place: usize, below: usize| usize::from(pattern[place % pattern.len()]) % below;
    let shape = [channels % 7, 1 + draw(6, 9), 1 + width % 40];
    let size = 1 + draw(7, 3);
    let window = Window { size, stride: 1 + draw(8, 3), padding: draw(9, 1 + size / 2) };
    let (scale, shift) = (vec![2.0; shape[0]], vec![-1.0; shape[0]]);
    for op in [
        Op::Max(window),
        Op::Average(window),
        Op::MaxAffine { window, scale: &scale, shift: &shift },
        Op::Affine { scale: &scale, shift: &shift, relu: true },
        Op::Copy { relu: true },
    ] {
        let [rows, columns] = op.output([shape[1], shape[2]]);
        if rows * columns == 0 || shape[0] == 0 {
            continue; // refused, as the tests say
        }
        let output = [shape[0], rows, columns];
        let maps =
            [ImageLayout::padded(shape, draw(10, 3)), ImageLayout::padded(output, draw(11, 3))];
        let floats = shape.iter().product::<usize>();
        let plain: Vec<f32> = (0..floats).map(|place| (place % 13) as f32 - 6.0).collect();
        let expected = pool_eltwise::reference::run(&op, shape, &plain);
        let mut x = vec![f32::NAN; maps[0].floats(shape, 1)];
        each_pixel(&maps[0], shape).zip(&plain).for_each(|(place, &pixel)| x[place] = pixel);
        for variant in pool_eltwise::VARIANTS {
            let kernel = match PoolEltwise::with(variant, &op, shape, maps) {
                Err(Error::Unavailable { .. }) => continue,
                kernel => kernel.expect("windows that fit"),
            };
            let mut y = vec![-7.0; maps[1].floats(output, 1)];
            kernel.run(&x, &mut y).expect("slices as long as the maps");
            for (place, &expected) in each_pixel(&maps[1], output).zip(&expected) {
                let near = (y[place] - expected).abs() <= 1e-5 * expected.abs().max(1.0);
                assert!(near, "{} {op:?} at {place}: {}, not {expected}", variant.name, y[place]);
                y[place] = -7.0;
            }
            assert!(
                y.iter().all(|&value| value == -7.0),
                "{} {op:?}: beside the image",
                variant.name
            );
        }
    }
}

/// The place of each pixel of an image in a map, in the order of a plain image.
fn each_pixel(
    map: &ImageLayout,
    [channels, height, width]: [usize; 3],
) -> impl Iterator<Item = usize> + use<> {
    let map = *map;
    (0..channels * height * width).map(move |pixel| {
        let (channel, row, column) =
            (pixel / (height * width), pixel / width % height, pixel % width);
        map.offset + channel * map.channel_stride + row * map.row_stride + column
    })
}

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

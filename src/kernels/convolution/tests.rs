//! Every variant of `group_spmm` under the convolution, on hostile shapes, against plain loops.

use std::sync::Arc;

use ndarray::{Array2, Axis};
use proptest::prelude::*;
use rand::RngExt;

use super::library::tests::LoopsConv;
use super::{ConvLayer, ConvLibrary, Convolution, Geometry, Weights, gpu, reference};
use crate::device::gpu::{Gpu, download, upload};
use crate::error::Error;
use crate::kernels::SparseVariant;
use crate::kernels::gpu::devices;
use crate::kernels::layout::ImageLayout;
use crate::kernels::library_gemm::{DenseLibrary, tests::Loops};
use crate::kernels::pool_eltwise;
use crate::kernels::sparse_product::by_name;
use crate::seed;
use crate::sparse::{Csr, GroupSparse, Pattern, UprightSparse};
use crate::test_support;

/// A case: sizes, the groups' (inputs, outputs), and of how many images.
#[derive(Clone, Debug)]
struct Case {
    geometry: Geometry,
    groups: Vec<(usize, usize)>,
    width: usize,
    density: f64,
    images: usize,
}

fn geometry(sizes: [usize; 6]) -> Geometry {
    let [channels, height, width, side, stride, padding] = sizes;
    Geometry { channels, height, width, side, stride, padding }
}

/// Gives a name and y for each candidate, from a layer, x and the floats of y.
type Candidates<'a> = dyn Fn(&ConvLayer<'_>, &[f32], usize) -> Vec<(String, Vec<f32>)> + 'a;

/// Draws a case, and compares what each of `run`'s candidates computes with plain loops. `spoil`
/// changes x after it is drawn.
fn check_with(
    case: &Case,
    pattern: Pattern,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
    run: &Candidates<'_>,
) {
    let geometry = case.geometry;
    let mut rng = seed::stream(seed, "convolution", &[]);
    let mut weights = |&(inputs, outputs): &(usize, usize)| {
        let columns = inputs * geometry.side * geometry.side;
        let mut dense = Array2::<f32>::zeros((outputs, columns));
        let [height, width] = match pattern {
            Pattern::Groups => [1, case.width],
            Pattern::Upright => [case.width, 1],
        };
        for mut strip in dense.axis_chunks_iter_mut(Axis(0), height) {
            for mut group in strip.axis_chunks_iter_mut(Axis(1), width) {
                if rng.random_bool(case.density) {
                    group.iter_mut().for_each(|weight| *weight = rng.random_range(-1.0..1.0));
                }
            }
        }
        dense
    };
    let matrices: Vec<Array2<f32>> = case.groups.iter().map(&mut weights).collect();
    let groups = matrices.iter().map(|m| GroupSparse::from_dense(m.view(), case.width).unwrap());
    let groups: Vec<GroupSparse> = groups.collect();
    let upright = matrices.iter().map(|m| UprightSparse::from_dense(m.view(), case.width).unwrap());
    let upright: Vec<UprightSparse> = upright.collect();
    let outputs: usize = case.groups.iter().map(|group| group.1).sum();
    let bias: Vec<f32> = (0..outputs).map(|_| rng.random_range(-1.0..1.0)).collect();
    let pixels = geometry.channels * geometry.height * geometry.width;
    let mut x: Vec<f32> = (0..case.images * pixels).map(|_| rng.random_range(-1.0..1.0)).collect();
    spoil(&mut x);
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let weights = match pattern {
            Pattern::Groups => Weights::Groups(&groups),
            Pattern::Upright => Weights::Upright(&upright),
        };
        let layer = ConvLayer { geometry, weights, bias, relu };
        let expected: Vec<f32> =
            x.chunks(pixels).flat_map(|image| reference::run(&layer, image).unwrap()).collect();
        for (name, found) in run(&layer, &x, expected.len()) {
            let tolerance =
                1e-6 * ((geometry.channels * geometry.side * geometry.side) as f32 + 10.0);
            for (place, (&expected, &found)) in expected.iter().zip(&found).enumerate() {
                let same = expected == found || (expected.is_nan() && found.is_nan());
                let near = (expected - found).abs() <= tolerance;
                assert!(same || near, "{name} {case:?} at {place}: {found}, not {expected}");
            }
        }
    }
}

/// The dense matrices of a layer's groups.
fn dense_of(layer: &ConvLayer<'_>) -> Vec<Array2<f32>> {
    match layer.weights {
        Weights::Groups(groups) => groups.iter().map(GroupSparse::to_dense).collect(),
        Weights::Upright(groups) => groups.iter().map(UprightSparse::to_dense).collect(),
        Weights::Dense(groups) => groups.iter().map(|group| group.to_owned()).collect(),
        Weights::Csr(groups) => groups.iter().map(Csr::to_dense).collect(),
    }
}

/// Runs every variant on one case; y is full of NaN before. Of finite numbers alone, dense and compressed
/// weights must give the same: whether a NaN meets a weight of 0 depends on how it is stored.
fn check(case: &Case, seed: u64, spoil: impl Fn(&mut [f32])) {
    for pattern in [Pattern::Groups, Pattern::Upright] {
        check_pattern(case, pattern, seed, &spoil);
    }
}

/// What a variant computes; none where the processor lacks its instructions, or it takes one column alone.
fn run_variant(
    variant: SparseVariant,
    layer: &ConvLayer<'_>,
    case: &Case,
    x: &[f32],
    floats: usize,
) -> Option<(String, Vec<f32>)> {
    let name = variant.name();
    if !variant.runs_here() {
        test_support::skip(name, "this processor lacks its instructions");
        return None;
    }
    let convolution = Convolution::with(variant, layer).unwrap();
    let mut found = vec![f32::NAN; floats];
    if convolution.run(x, case.images, &mut found).is_err() {
        // A variant of one column refuses a larger image.
        assert!(variant.one_column(), "{name} refuses {case:?}");
        return None;
    }
    Some((name.to_owned(), found))
}

fn check_pattern(case: &Case, pattern: Pattern, seed: u64, spoil: impl Fn(&mut [f32])) {
    check_with(case, pattern, seed, spoil, &|layer, x, floats| {
        let run = |variant, layer: &ConvLayer<'_>| run_variant(variant, layer, case, x, floats);
        let own = SparseVariant::all(pattern).into_iter();
        let mut all: Vec<_> = own.filter_map(|variant| run(variant, layer)).collect();
        let dense = dense_of(layer);
        let views: Vec<_> = dense.iter().map(|dense| dense.view()).collect();
        let csr: Vec<Csr> = views.iter().map(|&view| Csr::from_dense(view).unwrap()).collect();
        let finite = x.iter().all(|pixel| pixel.is_finite());
        let others = if finite { vec![Weights::Csr(&csr), Weights::Dense(&views)] } else { vec![] };
        if finite {
            // Strips of which every group is stored.
            let dense = ConvLayer { weights: Weights::Dense(&views), ..*layer };
            let full = SparseVariant::all(Pattern::Upright).into_iter();
            all.extend(full.filter_map(|variant| run(variant, &dense)));
        }
        let own =
            others.into_iter().map(|weights| Convolution::new(&ConvLayer { weights, ..*layer }));
        let library: Arc<dyn DenseLibrary> = Arc::new(Loops);
        let dense = ConvLayer { weights: Weights::Dense(&views), ..*layer };
        let theirs = finite.then(|| Convolution::with_library(&library, &dense));
        let library: Arc<dyn ConvLibrary> = Arc::new(LoopsConv);
        let whole = finite.then(|| Convolution::with_conv_library(&library, &dense));
        for convolution in own.chain(theirs).chain(whole) {
            let convolution = convolution.unwrap();
            let mut found = vec![f32::NAN; floats];
            convolution.run(x, case.images, &mut found).unwrap();
            all.push((format!("{:?}", convolution.variant()), found));
            all.push(("a padded map".into(), between_maps(&convolution, case, x)));
        }
        all
    });
}

/// Runs a convolution from the images' maps into others with a border, which must stay as it is. Maps and results lie
/// further apart than they are long.
fn between_maps(convolution: &Convolution, case: &Case, x: &[f32]) -> Vec<f32> {
    let output = convolution.output();
    let to = ImageLayout::padded(output, 2);
    let to = ImageLayout { image_stride: to.image_stride + 3, ..to };
    let input = x.len() / case.images;
    let map_stride = Convolution::map_floats(&case.geometry).max(input) + 5;
    let mut maps = vec![0.0; case.images * map_stride];
    for (image, map) in x.chunks(input).zip(maps.chunks_mut(map_stride)) {
        if convolution.is_split() || Convolution::input_map(&case.geometry).is_some() {
            convolution.split(image, map).unwrap();
        } else {
            map[..input].copy_from_slice(image);
        }
    }
    let mut bordered = vec![-77.0; case.images * to.image_stride];
    convolution.run_maps(&maps, map_stride, case.images, &mut bordered, &to).unwrap();
    let border = bordered.iter().filter(|&&value| value == -77.0).count();
    let pixels = case.images * output.iter().product::<usize>();
    assert_eq!(border, bordered.len() - pixels);
    let mut y = Vec::new();
    for image in bordered.chunks(to.image_stride) {
        for (channel, row) in (0..output[0]).flat_map(|c| (0..output[1]).map(move |r| (c, r))) {
            let start = to.offset + channel * to.channel_stride + row * to.row_stride;
            y.extend(&image[start..start + output[2]]);
        }
    }
    y
}

/// Runs a case on every GPU, with its weights in groups of both patterns, dense and in compressed rows, from an image
/// that the device itself puts into its padded map. A NaN in x is for the groups alone: the dense
/// product multiplies it by the zeros between them.
fn check_on_gpus(case: &Case, seed: u64, nan: Option<usize>) {
    for pattern in [Pattern::Groups, Pattern::Upright] {
        check_pattern_on_gpus(case, pattern, seed, nan);
    }
}

fn check_pattern_on_gpus(case: &Case, pattern: Pattern, seed: u64, nan: Option<usize>) {
    let spoil = |x: &mut [f32]| {
        if let Some(place) = nan {
            x[place] = f32::NAN;
        }
    };
    check_with(case, pattern, seed, spoil, &|layer, x, floats| {
        let dense = dense_of(layer);
        let views: Vec<_> = dense.iter().map(|dense| dense.view()).collect();
        let csr: Vec<Csr> = views.iter().map(|&view| Csr::from_dense(view).unwrap()).collect();
        let mut all = Vec::new();
        for gpu in devices() {
            let mut formats = vec![match layer.weights {
                Weights::Groups(groups) => Weights::Groups(groups),
                Weights::Upright(groups) => Weights::Upright(groups),
                Weights::Dense(_) | Weights::Csr(_) => continue,
            }];
            if nan.is_none() {
                formats.extend([Weights::Dense(&views), Weights::Csr(&csr)]);
            }
            for weights in formats {
                let ConvLayer { geometry, bias, relu, .. } = *layer;
                let layer = ConvLayer { geometry, weights, bias, relu };
                let found = on_gpu(gpu, &layer, case.images, x, floats).unwrap();
                all.push((format!("{} {weights:?}", gpu.name()), found));
            }
        }
        all
    });
}

fn on_gpu(
    gpu: &dyn Gpu,
    layer: &ConvLayer<'_>,
    images: usize,
    x: &[f32],
    floats: usize,
) -> crate::error::Result<Vec<f32>> {
    let Geometry { channels, height, width, padding, .. } = layer.geometry;
    let input = [channels, height, width];
    let inside = ImageLayout::padded(input, padding);
    let outputs = layer.weights.shapes().iter().map(|shape| shape[0]).sum();
    let [rows, columns] = layer.geometry.output()?;
    let image = upload(gpu, x)?;
    let map = gpu.allocate(4 * gpu::input_map(&layer.geometry).image_stride * images)?;
    let y = upload(gpu, &vec![f32::NAN; floats])?;
    let copy = pool_eltwise::Op::Copy { relu: false };
    let copy =
        pool_eltwise::gpu::pack(gpu, &copy, input, images, [&ImageLayout::plain(input), &inside])?;
    let packed = gpu::pack(gpu, layer, images, &ImageLayout::plain([outputs, rows, columns]))?;
    copy.bind(gpu, &image, &map)?.enqueue(gpu)?;
    packed.bind(gpu, &map, &y)?.enqueue(gpu)?;
    download(gpu, &y, floats)
}

/// Sizes as [`geometry`] takes them, and groups.
type Sizes = ([usize; 6], Vec<(usize, usize)>);

/// The shapes of the five networks' convolutions, in small, and others.
fn cases() -> Vec<Sizes> {
    vec![
        ([1, 12, 12, 5, 1, 0], vec![(1, 6)]),       // LeNet-5's first
        ([3, 16, 16, 5, 1, 2], vec![(3, 5)]),       // ConvNet's, NIN's
        ([7, 9, 9, 1, 1, 0], vec![(7, 4)]),         // NIN's 1x1
        ([3, 39, 39, 11, 4, 0], vec![(3, 8)]),      // AlexNet's first
        ([6, 8, 8, 5, 1, 2], vec![(3, 4), (3, 4)]), // AlexNet's second, of two groups
        ([6, 7, 5, 3, 1, 1], vec![(2, 1), (4, 6)]), // groups that pruning left uneven
        ([4, 5, 5, 3, 1, 1], vec![(0, 3), (4, 2)]), // one of them without inputs
        ([4, 5, 5, 3, 1, 1], vec![(4, 0)]),         // without outputs
        ([5, 4, 4, 4, 1, 0], vec![(5, 3)]),         // one output pixel
        ([2, 9, 11, 3, 2, 1], vec![(2, 3)]),
        ([2, 10, 7, 2, 3, 2], vec![(2, 3)]), // padding wider than the stride's rest
        ([1, 3, 1, 3, 1, 1], vec![(1, 2)]),  // an image of one column
        ([1, 1, 1, 5, 1, 2], vec![(1, 2)]),  // a kernel larger than its image
    ]
}

fn case((sizes, groups): Sizes, images: usize) -> Case {
    Case { geometry: geometry(sizes), groups, width: 8, density: 0.4, images }
}

#[test]
fn the_networks_convolutions_in_small_agree() {
    for one in cases() {
        check(&case(one.clone(), 1), 1, |_| ());
        check(&case(one, 3), 1, |_| ());
    }
}

#[test]
fn the_networks_convolutions_in_small_agree_on_gpus() {
    for (index, one) in cases().into_iter().enumerate() {
        check_on_gpus(&case(one.clone(), 1), 1, None);
        let width = [2, 4, 8, 16][index % 4];
        check_on_gpus(&Case { width, ..case(one, 3) }, 2, None);
    }
    let larger = ([20, 14, 14, 3, 1, 1], vec![(20, 45)]);
    check_on_gpus(&case(larger.clone(), 2), 3, None);
    check_on_gpus(&case(larger, 2), 3, Some(300));
}

#[test]
fn nan_reaches_the_pixels_around_it_and_no_others() {
    // The dropped columns see pixels of two image rows: none of that may be kept.
    for place in [0, 5, 6, 29, 30, 59] {
        for stride in [1, 2] {
            let case = Case {
                geometry: geometry([2, 5, 6, 3, stride, 1]),
                groups: vec![(2, 5)],
                width: 4,
                density: 0.5,
                images: 1,
            };
            check(&case, 2, |x| x[place] = f32::NAN);
            check(&case, 2, |x| x[place] = f32::INFINITY);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_convolution_agrees(
        first in (0..4_usize, 0..5_usize), second in (0..3_usize, 0..4_usize),
        height in 1..12_usize, width in 1..12_usize, side in 1..6_usize, stride in 1..5_usize,
        padding in 0..4_usize, group_width in 1..10_usize, density in 0.0..1.0_f64,
        images in 1..3_usize, seed in any::<u64>(),
    ) {
        let sizes = [first.0 + second.0, height, width, side, stride, padding];
        let case = Case {
            geometry: geometry(sizes), groups: vec![first, second], width: group_width, density, images,
        };
        prop_assume!(case.geometry.output().is_ok() && first.0 + second.0 > 0);
        check(&case, seed, |_| ());
    }
}

#[test]
fn threads_change_nothing() {
    let geometry = geometry([16, 20, 20, 3, 1, 1]);
    let dense = Array2::from_shape_fn((300, 144), |(row, column)| (row % 7 + column % 3) as f32);
    let groups = [GroupSparse::from_dense(dense.view(), 8).unwrap()];
    let layer = ConvLayer { geometry, weights: Weights::Groups(&groups), bias: None, relu: true };
    let convolution = Convolution::new(&layer).unwrap();
    let x: Vec<f32> = (0..5 * 16 * 400).map(|place| (place % 11) as f32 - 5.0).collect();
    let run = |threads: usize, images: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut y = vec![f32::NAN; images * 300 * 400];
        pool.install(|| convolution.run(&x[..images * 16 * 400], images, &mut y)).unwrap();
        y
    };
    assert_eq!(run(1, 5), run(3, 5));
    assert_eq!(run(1, 1), run(3, 1));
}

#[test]
fn what_does_not_fit_is_refused() {
    let groups = [GroupSparse::from_dense(Array2::ones((3, 18)).view(), 8).unwrap()];
    let weights = Weights::Groups(&groups);
    let layer = |sizes| ConvLayer { geometry: geometry(sizes), weights, bias: None, relu: false };
    let refusal = |layer: &ConvLayer<'_>| Convolution::new(layer).unwrap_err().to_string();
    assert!(refusal(&layer([2, 5, 5, 3, 0, 0])).contains("a stride of at least 1"));
    assert!(refusal(&layer([2, 2, 5, 3, 1, 0])).contains("a kernel that fits"));
    assert!(refusal(&layer([2, 5, 5, 0, 1, 0])).contains("a kernel that fits"));
    assert!(refusal(&layer([1, 5, 5, 3, 1, 0])).contains("for each of 1 channels"));
    assert!(refusal(&layer([3, 5, 5, 3, 1, 0])).contains("for each of 3 channels"));
    assert!(refusal(&layer([2, 5, 5, 4, 1, 0])).contains("weights with 16 columns"));
    let fits = layer([2, 5, 5, 3, 1, 0]);
    let bias = [0.0; 2];
    let error = Convolution::new(&ConvLayer { bias: Some(&bias), ..fits }).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "a bias", expected: 3, found: 2, .. }),
        "{error}"
    );
    let convolution = Convolution::new(&fits).unwrap();
    assert_eq!(convolution.output(), [3, 3, 3]);
    let error = convolution.run(&[0.0; 50], 1, &mut [0.0; 26]).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "y", expected: 27, found: 26, .. }),
        "{error}"
    );
    assert!(
        by_name::<GroupSparse>("group_spmm_f32_avx512_n48").is_ok()
            || cfg!(not(target_arch = "x86_64"))
    );
}

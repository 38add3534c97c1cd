//! Every operation on every device, between layouts of all kinds, against plain loops.

use rand::RngExt;

use super::{ImageLayout, Op, PoolEltwise, VARIANTS, Window, gpu, reference};
use crate::error::Error;
use crate::kernels::gpu::devices;
use crate::seed;

const UNTOUCHED: f32 = -77.0;

/// What runs an operation.
#[derive(Clone, Copy)]
enum On {
    Cpu,
    Gpus,
}

fn check(on: On, op: &Op<'_>, input: [usize; 3], images: usize, spoil: impl Fn(&mut [f32])) {
    let mut rng = seed::stream(1, "planes", &[]);
    let [channels, height, width] = input;
    let mut x: Vec<f32> =
        (0..images * channels * height * width).map(|_| rng.random_range(-2.0..2.0)).collect();
    spoil(&mut x);
    let expected = reference::run(op, input, &x);
    let [rows, columns] = op.output([height, width]);
    let output = [channels, rows, columns];
    // Features turned: a row of all images for each pixel.
    let turned = ImageLayout {
        offset: 0,
        image_stride: 1,
        channel_stride: rows * columns * images,
        row_stride: columns * images,
        pixel_stride: images,
    };
    for to in [ImageLayout::plain(output), ImageLayout::padded(output, 2), turned] {
        let untouched = || vec![UNTOUCHED; to.floats(output, images)];
        match on {
            On::Gpus => {
                for gpu in devices() {
                    let maps = [&ImageLayout::plain(input), &to];
                    let packed = gpu::pack(gpu, op, input, images, maps).unwrap();
                    let mut y = untouched();
                    packed.run(gpu, &x, &mut y).unwrap();
                    compare(&format!("{op:?} {}", gpu.name()), &expected, y, output, &to);
                }
            }
            On::Cpu => {
                for variant in VARIANTS {
                    let maps = [ImageLayout::plain(input), to];
                    let kernel = match PoolEltwise::with(variant, op, input, maps) {
                        Err(Error::Unavailable { reason, .. }) => {
                            crate::test_support::skip(variant.target.feature(), &reason);
                            continue;
                        }
                        kernel => kernel.unwrap(),
                    };
                    let mut y = untouched();
                    let pixels = channels * height * width;
                    for (index, image) in x.chunks(pixels).enumerate() {
                        kernel.run(image, &mut y[index * to.image_stride..]).unwrap();
                    }
                    compare(&format!("{op:?} {}", variant.name), &expected, y, output, &to);
                }
            }
        }
    }
}

/// Every pixel must lie at its place, and nothing between them be written.
fn compare(
    name: &str,
    expected: &[f32],
    mut y: Vec<f32>,
    [channels, rows, columns]: [usize; 3],
    to: &ImageLayout,
) {
    for (place, &expected) in expected.iter().enumerate() {
        let (pixel, plane) = (place % (rows * columns), place / (rows * columns));
        let at = to.offset
            + plane / channels * to.image_stride
            + plane % channels * to.channel_stride
            + pixel / columns * to.row_stride
            + pixel % columns * to.pixel_stride;
        let same = expected == y[at] || (expected.is_nan() && y[at].is_nan());
        let near = (expected - y[at]).abs() <= 1e-5 * (1.0 + expected.abs());
        assert!(same || near, "{name} at {place}: {}, not {expected}", y[at]);
        y[at] = UNTOUCHED;
    }
    assert!(y.iter().all(|&value| value == UNTOUCHED), "{name}: written between the planes");
}

/// Every operation of the five networks, and others, on planes of all widths.
fn check_all(on: On) {
    let pool = |size, stride, padding| Window { size, stride, padding };
    let (scale, shift) = ([0.5, -2.0, 1.0], [0.1, 0.0, -1.0]);
    let affine = |relu| Op::Affine { scale: &scale, shift: &shift, relu };
    for op in [
        Op::Max(pool(2, 2, 0)),
        Op::Max(pool(3, 2, 1)),
        Op::Max(pool(3, 2, 0)),
        Op::Average(pool(3, 2, 1)),
        Op::Average(pool(5, 1, 0)),
        Op::Norm { size: 3, alpha: 5e-5, beta: 0.75 },
        Op::Norm { size: 5, alpha: 0.5, beta: 0.75 },
        Op::Max(pool(3, 1, 1)),
        Op::Max(pool(3, 1, 0)),
        Op::Max(pool(2, 2, 1)),
        Op::Max(pool(4, 3, 2)),
        Op::MaxAffine { window: pool(3, 2, 0), scale: &scale, shift: &shift },
        Op::MaxAffine { window: pool(3, 2, 1), scale: &scale, shift: &shift },
        Op::Norm { size: 3, alpha: 0.5, beta: 0.6 },
        affine(false),
        affine(true),
        Op::Copy { relu: true },
        Op::Copy { relu: false },
    ] {
        check(on, &op, [3, 9, 7], 2, |_| ());
        check(on, &op, [3, 5, 5], 1, |x| x[7] = f32::NAN);
        check(on, &op, [3, 20, 19], 3, |x| x[30] = f32::INFINITY);
        check(on, &op, [3, 16, 33], 1, |x| x[500] = -f32::NAN);
        check(on, &op, [3, 6, 70], 1, |_| ());
        check(on, &op, [3, 8, 32], 1, |_| ());
    }
}

#[test]
fn every_operation_computes_what_the_reference_does_on_a_cpu() {
    check_all(On::Cpu);
}

#[test]
fn every_operation_computes_what_the_reference_does_on_gpus() {
    check_all(On::Gpus);
}

#[test]
fn gpus_copy_planes_of_more_blocks_than_a_side_of_a_grid_whole() {
    for gpu in devices().into_iter().filter(|gpu| gpu.limits().buffer_bytes > 1 << 20) {
        let shape = [1, 1, 256 * gpu.limits().grid as usize + 300];
        let plain = ImageLayout::plain(shape);
        let packed = gpu::pack(gpu, &Op::Copy { relu: false }, shape, 1, [&plain, &plain]).unwrap();
        let x: Vec<f32> = (0..shape[2]).map(|place| place as f32).collect();
        let mut y = vec![UNTOUCHED; x.len()];
        packed.run(gpu, &x, &mut y).unwrap();
        assert!(x == y, "{}", gpu.name());
    }
}

#[test]
fn channels_are_shared_among_threads() {
    let (input, op) = ([37, 120, 120], Op::Max(Window { size: 3, stride: 2, padding: 1 }));
    let x: Vec<f32> = (0..37 * 14_400_usize).map(|place| (place * 7919 % 1013) as f32).collect();
    let to = ImageLayout::padded([37, 60, 60], 1);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let kernel = PoolEltwise::new(&op, input, [ImageLayout::plain(input), to]).unwrap();
        let mut y = vec![UNTOUCHED; to.image_stride];
        pool.install(|| kernel.run(&x, &mut y)).unwrap();
        y
    };
    let serial = run(1);
    compare("one thread", &reference::run(&op, input, &x), serial.clone(), [37, 60, 60], &to);
    assert_eq!(serial, run(4));
}

#[test]
fn maps_that_a_cpu_does_not_take_are_refused() {
    let plain = ImageLayout::plain([2, 4, 4]);
    let copy = Op::Copy { relu: false };
    for maps in [
        [ImageLayout { pixel_stride: 2, ..plain }, plain],
        [plain, ImageLayout { channel_stride: 15, ..plain }],
    ] {
        let error = PoolEltwise::new(&copy, [2, 4, 4], maps).unwrap_err().to_string();
        assert!(error.contains("side by side"), "{error}");
    }
    let kernel = PoolEltwise::new(&copy, [2, 4, 4], [plain, plain]).unwrap();
    let error = kernel.run(&[0.0; 31], &mut [0.0; 32]).unwrap_err();
    assert!(
        matches!(error, Error::Length { argument: "x", expected: 32, found: 31, .. }),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_is_refused_for_gpus() {
    for gpu in devices() {
        let plain = ImageLayout::plain([2, 4, 4]);
        let refusal = |op: &Op<'_>| {
            gpu::pack(gpu, op, [2, 4, 4], 1, [&plain, &plain]).map(|_| ()).unwrap_err().to_string()
        };
        assert!(refusal(&Op::Max(Window { size: 5, stride: 1, padding: 0 })).contains("that fit"));
        assert!(refusal(&Op::Max(Window { size: 2, stride: 0, padding: 0 })).contains("a stride"));
        assert!(refusal(&Op::Max(Window { size: 2, stride: 1, padding: 2 })).contains("padded"));
        let affine = Op::Affine { scale: &[1.0], shift: &[1.0, 2.0], relu: false };
        assert!(refusal(&affine).contains("for 2 channels"));
    }
}

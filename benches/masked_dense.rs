//! Dense layers of which only the authors' nodes live: every variant of `masked_dense`, the library's
//! product on all nodes, in turns in one run.
//!
//! ```text
//! cargo bench --bench masked_dense
//! cargo bench --bench masked_dense -- 128     # one n
//! cargo bench --bench masked_dense -- 1 lenet # one n, the layers of that name
//! cargo bench --bench masked_dense -- --device cuda
//! ```
//!
//! All cores; `--threads 1` takes one. X and Y hold all nodes: gathering and scattering are part of
//! our time. The speedup is over the library's product of the whole layer, masked or not. On a GPU, the
//! library's product of the compacted sizes stands beside it, and on CUDA its TF32 ones.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ndarray::Array2;
use rand::RngExt;
use scalpel::baselines::{self, Product, Products, cuda::CudaLibraries, mkl::Mkl};
use scalpel::bench::breakeven::gpu;
use scalpel::device::cuda::Cuda;
use scalpel::device::gpu::Language;
use scalpel::error::Error;
use scalpel::kernels::library_gemm::DenseLibrary;
use scalpel::kernels::masked_dense::gpu as on_gpus;
use scalpel::kernels::masked_dense::{
    MaskedDense, MaskedLayer, Nodes, VARIANTS, Variant, reference,
};
use scalpel::kernels::registry::Isa;
use scalpel::options::{BenchArgs, JsonArg};
use scalpel::report::Table;
use scalpel::seed;
use scalpel::timing::{MeasureConfig, interleave_by, try_interleave};

/// The layers with the authors' kept nodes.
const LAYERS: [Kept; 5] = [
    ("lenet-300-100 ip1", [300, 784], [161, 784]),
    ("lenet-300-100 ip2", [100, 300], [64, 161]),
    ("lenet-5 ip1", [500, 800], [65, 288]),
    ("alexnet ip6", [4096, 9216], [3001, 9108]),
    ("alexnet ip7", [4096, 4096], [3029, 3001]),
];

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::parse();
    let (threads, json, arguments) = (given.run.thread_count(), given.run.json, given.words);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let device = given.run.device;
    if device != "cpu" {
        let (columns, layers) = chosen(&arguments, &[1, 16, 128, 1024])?;
        return on_gpu(&gpu::device(&device)?, &device, &columns, &layers, json);
    }
    let library = baselines::best(threads)?;
    // On threads of ours.
    let mkl: Option<Arc<dyn DenseLibrary>> =
        Mkl::load(1).ok().map(|mkl| mkl as Arc<dyn DenseLibrary>);
    let (columns, layers) = chosen(&arguments, &[1, 16, 64, 128, 512])?;
    let dense = format!("{} dense, us", library.name());
    for (name, [m, k], kept) in layers.iter().copied() {
        let mut rng = seed::stream(1, "masked_dense", &[m as u64, k as u64]);
        let weights = Array2::<f32>::from_shape_fn((m, k), |_| rng.random_range(-1.0..1.0));
        let (inputs, outputs) = (kept_nodes(kept[1], k), kept_nodes(kept[0], m));
        let layer = masked(&weights, &inputs, &outputs);
        for &n in &columns {
            let x: Vec<f32> = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut kernels = Vec::new();
            // The portable variant takes seconds for the largest.
            let large = m * k * n > 1_000_000_000;
            let fits = |variant: &&Variant| {
                (n == 1 || !variant.one_column()) && !(large && variant.target == Isa::Portable)
            };
            for variant in VARIANTS.iter().filter(fits) {
                match MaskedDense::with(variant, &layer, n, mkl.as_ref()) {
                    Err(Error::Unavailable { .. }) => {}
                    kernel => kernels.push(kernel?),
                }
            }
            verify(&layer, &kernels, &x, n)?;
            let mut theirs = library.dense(weights.view(), &x, n)?;
            let mut y = vec![vec![0.0_f32; m * n]; kernels.len()];
            let timings = {
                let mut turns: Vec<Box<dyn FnMut() -> Result<(), Error> + '_>> = Vec::new();
                for (kernel, y) in kernels.iter().zip(&mut y) {
                    let x = &x;
                    turns.push(Box::new(move || kernel.run(x, y)));
                }
                turns.push(Box::new(|| theirs.run()));
                let mut turns: Vec<_> = turns.iter_mut().map(|turn| &mut **turn as _).collect();
                let rounds = if large { 5 } else { 11 };
                try_interleave(&mut turns, MeasureConfig::new(rounds, Duration::from_millis(2)))?
            };
            let theirs = timings[kernels.len()].median;
            let header = ["layer", "n", "kernel", "us", &dense, "speedup", "weights left"];
            let mut table = Table::new(header);
            for (kernel, timing) in kernels.iter().zip(&timings) {
                table.row([
                    name.to_owned(),
                    n.to_string(),
                    kernel.variant().name.to_owned(),
                    format!("{:.1}", 1e6 * timing.median),
                    format!("{:.1}", 1e6 * theirs),
                    format!("{:.2}", theirs / timing.median),
                    format!("{:.2}", (kept[0] * kept[1]) as f64 / (m * k) as f64),
                ]);
            }
            // At once: a run may be cut.
            json.table(&format!("{name}, n = {n}, {threads} threads"), &table);
        }
    }
    Ok(())
}

/// Name, [outputs, inputs], and how many of each are kept.
type Kept = (&'static str, [usize; 2], [usize; 2]);

/// The n and the layers that are asked for, else all.
fn chosen(arguments: &[String], all: &[usize]) -> anyhow::Result<(Vec<usize>, Vec<Kept>)> {
    let mut arguments = arguments.iter();
    let columns = arguments.next().map_or(Ok(all.to_vec()), |n| n.parse().map(|n| vec![n]))?;
    let part = arguments.next().map_or("", String::as_str);
    Ok((columns, LAYERS.into_iter().filter(|(name, ..)| name.contains(part)).collect()))
}

/// Kept nodes spread evenly over all.
fn kept_nodes(kept: usize, total: usize) -> Vec<usize> {
    (0..kept).map(|index| index * total / kept).collect()
}

fn masked<'a>(
    weights: &'a Array2<f32>,
    inputs: &'a [usize],
    outputs: &'a [usize],
) -> MaskedLayer<'a> {
    let nodes = |kept| Nodes { kept, compacted: false };
    MaskedLayer {
        weights: weights.view(),
        inputs: nodes(inputs),
        outputs: nodes(outputs),
        bias: None,
        relu: false,
    }
}

/// Every variant of a GPU on the masked layer, the library on all nodes and on the compacted sizes.
fn on_gpu(
    device: &gpu::Device,
    name: &str,
    columns: &[usize],
    layers: &[Kept],
    json: JsonArg,
) -> anyhow::Result<()> {
    let gpu = &device.gpu;
    if let Some(ceilings) = device.ceilings()? {
        json.note(&format!("{}, at best: {ceilings}", gpu.name()));
    }
    let ordinal = name.split_once(':').map_or(Ok(0), |(_, number)| number.parse())?;
    let tensor = match gpu.language() {
        Language::Cuda => Some(CudaLibraries::new(Arc::new(Cuda::new(ordinal)?), true)?),
        Language::Wgsl => None,
    };
    let header = ["layer", "n", "kernel", "us", "GFLOP/s", "x all nodes", "x compacted"];
    for (name, [m, k], kept) in layers.iter().copied() {
        let mut rng = seed::stream(1, "masked_dense", &[m as u64, k as u64]);
        let weights = Array2::<f32>::from_shape_fn((m, k), |_| rng.random_range(-1.0..1.0));
        let (inputs, outputs) = (kept_nodes(kept[1], k), kept_nodes(kept[0], m));
        let layer = masked(&weights, &inputs, &outputs);
        let compacted = Array2::from_shape_fn((kept[0], kept[1]), |(row, column)| {
            weights[[outputs[row], inputs[column]]]
        });
        for &n in columns {
            let x: Vec<f32> = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let narrow_x: Vec<f32> =
                inputs.iter().flat_map(|&row| &x[row * n..(row + 1) * n]).copied().collect();
            let compared = n.min(2);
            let few: Vec<f32> = x.chunks(n).flat_map(|row| &row[..compared]).copied().collect();
            let mut expected = vec![0.0; m * compared];
            reference::run(&layer, &few, compared, &mut expected);
            let mut names: Vec<&str> = Vec::new();
            let mut products: Vec<Box<dyn Product>> = Vec::new();
            let own = on_gpus::VARIANTS.iter().filter(|variant| {
                variant.target == gpu.language()
                    && (n == 1 || variant.design != on_gpus::Design::Vector)
            });
            for variant in own {
                let pack = || on_gpus::pack_layer(&**gpu, Some(variant), &layer, n);
                let mut product = match gpu::candidate(gpu, pack, &x, m * n) {
                    Err(Error::Unavailable { .. }) => continue,
                    made => made?,
                };
                product.run()?;
                let y = product.result()?;
                let found = y.chunks(n).flat_map(|row| &row[..compared]);
                // TF32 rounds each factor to 11 bits: errors of some 2^-11, that add up as a random walk.
                let tensor = variant.name.contains("_tf32_");
                let tolerance = if tensor { 2e-3 * (k as f32).sqrt() } else { 2e-6 * k as f32 };
                for (expected, found) in expected.iter().zip(found) {
                    let near = (expected - found).abs() <= tolerance + 2e-5;
                    anyhow::ensure!(near, "{} computes {found}, not {expected}", variant.name);
                }
                names.push(variant.name);
                products.push(product);
            }
            let ours = names.len();
            names.extend(["the library, all nodes", "the library, compacted"]);
            products.push(device.libraries.products.dense(weights.view(), &x, n)?);
            products.push(device.libraries.products.dense(compacted.view(), &narrow_x, n)?);
            if let Some(tensor) = &tensor {
                names.extend([
                    "the library with TF32, all nodes",
                    "the library with TF32, compacted",
                ]);
                products.push(tensor.dense(weights.view(), &x, n)?);
                products.push(tensor.dense(compacted.view(), &narrow_x, n)?);
            }
            let mut turns: Vec<_> =
                products.iter_mut().map(|product| |calls: u32| product.seconds(calls)).collect();
            let mut turns: Vec<&mut dyn FnMut(u32) -> Result<f64, Error>> =
                turns.iter_mut().map(|turn| turn as _).collect();
            let config = MeasureConfig::new(11, Duration::from_millis(2));
            let timings = interleave_by(&mut turns, config)?;
            let mut table = Table::new(header);
            for (index, (kernel, timing)) in names.iter().zip(&timings).enumerate() {
                let all_nodes = index >= ours && (index - ours).is_multiple_of(2);
                let weights = if all_nodes { m * k } else { kept[0] * kept[1] };
                table.row([
                    name.to_owned(),
                    n.to_string(),
                    (*kernel).to_owned(),
                    format!("{:.2}", 1e6 * timing.median),
                    format!("{:.0}", 2.0 * (weights * n) as f64 / timing.median / 1e9),
                    format!("{:.2}", timings[ours].median / timing.median),
                    format!("{:.2}", timings[ours + 1].median / timing.median),
                ]);
            }
            json.table(&format!("{name}, n = {n}, {}", gpu.name()), &table);
        }
    }
    Ok(())
}

/// Compares every kernel with plain loops on the first columns.
fn verify(
    layer: &MaskedLayer<'_>,
    kernels: &[MaskedDense],
    x: &[f32],
    n: usize,
) -> anyhow::Result<()> {
    let compared = n.min(2);
    let narrow: Vec<f32> = x.chunks(n).flat_map(|row| &row[..compared]).copied().collect();
    let (m, k) = layer.weights.dim();
    let mut expected = vec![0.0; m * compared];
    reference::run(layer, &narrow, compared, &mut expected);
    for kernel in kernels {
        let mut y = vec![0.0; m * n];
        kernel.run(x, &mut y)?;
        let found = y.chunks(n).flat_map(|row| &row[..compared]);
        for (expected, found) in expected.iter().zip(found) {
            let near = (expected - found).abs() <= 2e-6 * (k as f32 + 10.0);
            anyhow::ensure!(near, "{} computes {found}, not {expected}", kernel.variant().name);
        }
    }
    Ok(())
}

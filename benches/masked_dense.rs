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
use scalpel::options::BenchArgs;
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

/// Name, [outputs, inputs], and how many of each are kept.
type Kept = (&'static str, [usize; 2], [usize; 2]);

/// Columns that are compared with plain loops.
const COMPARED: usize = 2;

/// A layer, its kept nodes, and activations for n columns.
struct Case {
    name: &'static str,
    n: usize,
    kept: [usize; 2],
    weights: Array2<f32>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    x: Vec<f32>,
}

impl Case {
    fn new((name, [m, k], kept): Kept, n: usize) -> Self {
        let mut rng = seed::stream(1, "masked_dense", &[m as u64, k as u64]);
        let weights = Array2::from_shape_fn((m, k), |_| rng.random_range(-1.0..1.0));
        let x = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        // Spread evenly over all.
        let nodes = |kept: usize, all: usize| (0..kept).map(|index| index * all / kept).collect();
        let (inputs, outputs) = (nodes(kept[1], k), nodes(kept[0], m));
        Self { name, n, kept, weights, inputs, outputs, x }
    }

    fn layer(&self) -> MaskedLayer<'_> {
        let nodes = |kept| Nodes { kept, compacted: false };
        MaskedLayer {
            weights: self.weights.view(),
            inputs: nodes(&self.inputs),
            outputs: nodes(&self.outputs),
            bias: None,
            relu: false,
        }
    }

    /// The first columns of a matrix of n.
    fn first_columns<'m>(&self, matrix: &'m [f32]) -> impl Iterator<Item = f32> + 'm {
        let compared = self.n.min(COMPARED);
        matrix.chunks(self.n).flat_map(move |row| &row[..compared]).copied()
    }

    /// The first columns of Y, by plain loops.
    fn expected(&self) -> Vec<f32> {
        let compared = self.n.min(COMPARED);
        let x: Vec<f32> = self.first_columns(&self.x).collect();
        let mut expected = vec![0.0; self.weights.nrows() * compared];
        reference::run(&self.layer(), &x, compared, &mut expected);
        expected
    }

    /// Compares what a kernel computed with what was expected.
    fn compare(
        &self,
        kernel: &str,
        y: &[f32],
        expected: &[f32],
        tolerance: f32,
    ) -> anyhow::Result<()> {
        for (expected, found) in expected.iter().zip(self.first_columns(y)) {
            let near = (expected - found).abs() <= tolerance;
            anyhow::ensure!(near, "{kernel} computes {found}, not {expected}");
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::parse();
    let (threads, json, arguments) = (given.run.thread_count(), given.run.json, given.words);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let name = given.run.device;
    if name == "cpu" {
        let library = baselines::best(threads)?;
        // On threads of ours.
        let mkl: Option<Arc<dyn DenseLibrary>> =
            Mkl::load(1).ok().map(|mkl| mkl as Arc<dyn DenseLibrary>);
        for case in chosen(&arguments, &[1, 16, 64, 128, 512])? {
            let title = format!("{}, n = {}, {threads} threads", case.name, case.n);
            // At once: a run may be cut.
            json.table(&title, &on_cpu(&case, &*library, mkl.as_ref())?);
        }
        return Ok(());
    }
    let device = gpu::device(&name)?;
    if let Some(ceilings) = device.ceilings()? {
        json.note(&format!("{}, at best: {ceilings}", device.gpu.name()));
    }
    let ordinal = name.split_once(':').map_or(Ok(0), |(_, number)| number.parse())?;
    let tensor = match device.gpu.language() {
        Language::Cuda => Some(CudaLibraries::new(Arc::new(Cuda::new(ordinal)?), true)?),
        Language::Wgsl => None,
    };
    for case in chosen(&arguments, &[1, 16, 128, 1024])? {
        let title = format!("{}, n = {}, {}", case.name, case.n, device.gpu.name());
        json.table(&title, &on_gpu(&case, &device, tensor.as_ref())?);
    }
    Ok(())
}

/// The n and the layers that are asked for, else all.
fn chosen(
    arguments: &[String],
    all: &[usize],
) -> anyhow::Result<impl Iterator<Item = Case> + use<>> {
    let mut arguments = arguments.iter();
    let columns = arguments.next().map_or(Ok(all.to_vec()), |n| n.parse().map(|n| vec![n]))?;
    let part = arguments.next().cloned().unwrap_or_default();
    let layers = LAYERS.into_iter().filter(move |(name, ..)| name.contains(&part));
    Ok(layers.flat_map(move |layer| columns.clone().into_iter().map(move |n| Case::new(layer, n))))
}

/// Every variant of the processor on the masked layer, beside the library on all nodes.
fn on_cpu(
    case: &Case,
    library: &dyn Products,
    mkl: Option<&Arc<dyn DenseLibrary>>,
) -> anyhow::Result<Table> {
    let Case { name, n, kept, ref weights, ref x, .. } = *case;
    let (m, k) = weights.dim();
    // The portable variant takes seconds for the largest.
    let large = m * k * n > 1_000_000_000;
    let fits = |variant: &&Variant| {
        (n == 1 || !variant.one_column()) && !(large && variant.target == Isa::Portable)
    };
    let mut kernels = Vec::new();
    for variant in VARIANTS.iter().filter(fits) {
        match MaskedDense::with(variant, &case.layer(), n, mkl) {
            Err(Error::Unavailable { .. }) => {}
            kernel => kernels.push(kernel?),
        }
    }
    let (expected, mut y) = (case.expected(), vec![vec![0.0_f32; m * n]; kernels.len()]);
    for (kernel, y) in kernels.iter().zip(&mut y) {
        kernel.run(x, y)?;
        case.compare(kernel.variant().name, y, &expected, 2e-6 * (k as f32 + 10.0))?;
    }
    let mut theirs = library.dense(weights.view(), x, n)?;
    let mut turns: Vec<Box<dyn FnMut() -> Result<(), Error> + '_>> = Vec::new();
    for (kernel, y) in kernels.iter().zip(&mut y) {
        turns.push(Box::new(move || kernel.run(x, y)));
    }
    turns.push(Box::new(|| theirs.run()));
    let mut turns: Vec<_> = turns.iter_mut().map(|turn| &mut **turn as _).collect();
    let config = MeasureConfig::new(if large { 5 } else { 11 }, Duration::from_millis(2));
    let timings = try_interleave(&mut turns, config)?;
    let theirs = timings[kernels.len()].median;
    let dense = format!("{} dense, us", library.name());
    let mut table = Table::new(["layer", "n", "kernel", "us", &dense, "speedup", "weights left"]);
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
    Ok(table)
}

/// Every variant of a GPU on the masked layer, by name.
fn variants_on_gpu(
    case: &Case,
    device: &gpu::Device,
) -> anyhow::Result<Vec<(&'static str, Box<dyn Product>)>> {
    let Case { n, ref weights, ref x, .. } = *case;
    let (m, k) = weights.dim();
    let (gpu, expected) = (&device.gpu, case.expected());
    let fits = |variant: &&on_gpus::Variant| {
        variant.target == gpu.language() && (n == 1 || variant.design != on_gpus::Design::Vector)
    };
    let mut products = Vec::new();
    for variant in on_gpus::VARIANTS.iter().filter(fits) {
        let pack = || on_gpus::pack_layer(&**gpu, Some(variant), &case.layer(), n);
        let mut product = match gpu::candidate(gpu, pack, x, m * n) {
            Err(Error::Unavailable { .. }) => continue,
            made => made?,
        };
        product.run()?;
        // TF32 rounds each factor to 11 bits: errors of some 2^-11, that add up as a random walk.
        let tensor = variant.name.contains("_tf32_");
        let tolerance = if tensor { 2e-3 * (k as f32).sqrt() } else { 2e-6 * k as f32 };
        case.compare(variant.name, &product.result()?, &expected, tolerance + 2e-5)?;
        products.push((variant.name, product));
    }
    Ok(products)
}

/// Every variant of a GPU on the masked layer, the library on all nodes and on the compacted sizes.
fn on_gpu(
    case: &Case,
    device: &gpu::Device,
    tensor: Option<&CudaLibraries>,
) -> anyhow::Result<Table> {
    let Case { name, n, kept, ref weights, ref x, .. } = *case;
    let compacted = Array2::from_shape_fn((kept[0], kept[1]), |(row, column)| {
        weights[[case.outputs[row], case.inputs[column]]]
    });
    let narrow_x: Vec<f32> =
        case.inputs.iter().flat_map(|&row| &x[row * n..(row + 1) * n]).copied().collect();
    let mut products = variants_on_gpu(case, device)?;
    let ours = products.len();
    let library = &device.libraries.products;
    products.push(("the library, all nodes", library.dense(weights.view(), x, n)?));
    products.push(("the library, compacted", library.dense(compacted.view(), &narrow_x, n)?));
    if let Some(tensor) = tensor {
        let all = tensor.dense(weights.view(), x, n)?;
        products.push(("the library with TF32, all nodes", all));
        let compacted = tensor.dense(compacted.view(), &narrow_x, n)?;
        products.push(("the library with TF32, compacted", compacted));
    }
    let mut turns: Vec<_> =
        products.iter_mut().map(|(_, product)| |calls: u32| product.seconds(calls)).collect();
    let mut turns: Vec<&mut dyn FnMut(u32) -> Result<f64, Error>> =
        turns.iter_mut().map(|turn| turn as _).collect();
    let timings = interleave_by(&mut turns, MeasureConfig::new(11, Duration::from_millis(2)))?;
    let mut table =
        Table::new(["layer", "n", "kernel", "us", "GFLOP/s", "x all nodes", "x compacted"]);
    for (index, ((kernel, _), timing)) in products.iter().zip(&timings).enumerate() {
        let all_nodes = index >= ours && (index - ours).is_multiple_of(2);
        let multiplied = if all_nodes { weights.len() } else { kept[0] * kept[1] };
        table.row([
            name.to_owned(),
            n.to_string(),
            (*kernel).to_owned(),
            format!("{:.2}", 1e6 * timing.median),
            format!("{:.0}", 2.0 * (multiplied * n) as f64 / timing.median / 1e9),
            format!("{:.2}", timings[ours].median / timing.median),
            format!("{:.2}", timings[ours + 1].median / timing.median),
        ]);
    }
    Ok(table)
}

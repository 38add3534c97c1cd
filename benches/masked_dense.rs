//! Dense layers of which only the authors' nodes live: every variant of `masked_dense`, the library's
//! product on all nodes, in turns in one run.
//!
//! ```text
//! cargo bench --bench masked_dense
//! cargo bench --bench masked_dense -- 128     # one n
//! ```
//!
//! One thread; `SCALPEL_THREADS=2` takes two. X and Y hold all nodes: gathering and scattering are part of
//! our time. The speedup is over the library's product of the whole layer, masked or not.

use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;
use rand::RngExt;
use scalpel::baselines::{self, mkl::Mkl};
use scalpel::error::Error;
use scalpel::kernels::masked_dense::{
    DenseLibrary, Layer, MaskedDense, Nodes, VARIANTS, Variant, reference,
};
use scalpel::measure::{Effort, try_interleave};
use scalpel::report::Table;
use scalpel::seed;

/// Name, [outputs, inputs], and how many of each the authors kept.
const LAYERS: [(&str, [usize; 2], [usize; 2]); 5] = [
    ("lenet-300-100 ip1", [300, 784], [161, 784]),
    ("lenet-300-100 ip2", [100, 300], [64, 161]),
    ("lenet-5 ip1", [500, 800], [65, 288]),
    ("alexnet ip6", [4096, 9216], [3001, 9108]),
    ("alexnet ip7", [4096, 4096], [3029, 3001]),
];

fn main() -> anyhow::Result<()> {
    let threads = std::env::var("SCALPEL_THREADS").map_or(Ok(1), |text| text.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let library = baselines::best(threads)?;
    let mkl: Option<Arc<dyn DenseLibrary>> =
        Mkl::load(threads).ok().map(|mkl| mkl as Arc<dyn DenseLibrary>);
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let columns: Vec<usize> = match wanted {
        Some(n) => vec![n.parse()?],
        None => vec![1, 16, 64, 128, 512],
    };
    let dense = format!("{} dense, us", library.name());
    let mut table = Table::new(["layer", "n", "kernel", "us", &dense, "speedup", "weights left"]);
    for (name, [m, k], kept) in LAYERS {
        let mut rng = seed::stream(1, "masked_dense", &[m as u64, k as u64]);
        let weights = Array2::<f32>::from_shape_fn((m, k), |_| rng.random_range(-1.0..1.0));
        // Kept nodes spread evenly over all.
        let living = |kept: usize, total: usize| -> Vec<usize> {
            (0..kept).map(|index| index * total / kept).collect()
        };
        let (inputs, outputs) = (living(kept[1], k), living(kept[0], m));
        let nodes = |living| Nodes { living, compacted: false };
        let layer = Layer {
            weights: weights.view(),
            inputs: nodes(&inputs),
            outputs: nodes(&outputs),
            bias: None,
            relu: false,
        };
        for &n in &columns {
            let x: Vec<f32> = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut kernels = Vec::new();
            // The portable variant takes seconds for the largest.
            let large = m * k * n > 1_000_000_000;
            let fits = |variant: &&Variant| {
                (n == 1 || !variant.one_column()) && !(large && variant.needs == "nothing")
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
                try_interleave(&mut turns, Effort { rounds, turn: Duration::from_millis(2) })?
            };
            let dense = timings[kernels.len()].median;
            for (kernel, timing) in kernels.iter().zip(&timings) {
                table.row([
                    name.to_owned(),
                    n.to_string(),
                    kernel.variant().name.to_owned(),
                    format!("{:.1}", 1e6 * timing.median),
                    format!("{:.1}", 1e6 * dense),
                    format!("{:.2}", dense / timing.median),
                    format!("{:.2}", (kept[0] * kept[1]) as f64 / (m * k) as f64),
                ]);
            }
        }
    }
    println!("\n{threads} threads\n\n{}", table.markdown());
    Ok(())
}

/// Compares every kernel with plain loops on the first columns.
fn verify(layer: &Layer<'_>, kernels: &[MaskedDense], x: &[f32], n: usize) -> anyhow::Result<()> {
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

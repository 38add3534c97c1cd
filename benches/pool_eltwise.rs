//! The poolings and normalisations of the five networks: every variant that this processor has, in turns in
//! one run, at batch 1.
//!
//! ```text
//! cargo bench --bench pool_eltwise              # all networks
//! cargo bench --bench pool_eltwise -- convnet   # one
//! ```
//!
//! One thread. GB/s are of what has to be read and written once. Each is compared with plain loops before it
//! is timed.

use anyhow::ensure;
use scalpel::error::Error;
use scalpel::kernels::layout::ImageLayout;
use scalpel::kernels::pool_eltwise::{Op, PoolEltwise, VARIANTS, reference};
use scalpel::network::{self, Layer, zoo};
use scalpel::options::BenchArgs;
use scalpel::report::Table;
use scalpel::timing::{MeasureConfig, try_interleave};

/// What moves windows in the layer at `index`. A maximum takes the batch normalisation before it along, of
/// those scales and shifts.
fn non_gemm<'a>(layers: &[Layer], index: usize, [scale, shift]: [&'a [f32]; 2]) -> Option<Op<'a>> {
    let previous = index.checked_sub(1).map(|before| &layers[before].op);
    match &layers[index].op {
        network::Op::MaxPool(pool) if matches!(previous, Some(network::Op::BatchNorm(_))) => {
            Some(Op::MaxAffine { window: pool.into(), scale, shift })
        }
        network::Op::MaxPool(pool) => Some(Op::Max(pool.into())),
        network::Op::AveragePool(pool) => Some(Op::Average(pool.into())),
        network::Op::LocalResponseNorm(norm) => {
            let (alpha, beta) = (norm.alpha as f32, norm.beta as f32);
            Some(Op::Norm { size: norm.size, alpha, beta })
        }
        _ => None,
    }
}

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::on_cpu()?;
    let threads = given.run.thread_count();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let wanted = given.first();
    let mut table = Table::new(["network", "layer", "input", "kernel", "us", "GB/s"]);
    for name in zoo::NAMES.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name)) {
        let network = zoo::by_name(name)?;
        let shapes = network.shapes()?;
        for (index, layer) in network.layers.iter().enumerate() {
            let (input, output) = (network.input_of(index, &shapes), shapes[index]);
            let scale: Vec<f32> = [0.5, -2.0].into_iter().cycle().take(input[0]).collect();
            let shift = vec![0.25; input[0]];
            let Some(op) = non_gemm(&network.layers, index, [&scale, &shift]) else { continue };
            let pixels: usize = input.iter().product();
            let x: Vec<f32> =
                (0..pixels).map(|place| (place * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
            let expected = reference::run(&op, input, &x);
            let mut candidates = Vec::new();
            for variant in VARIANTS {
                let maps = [ImageLayout::plain(input), ImageLayout::plain(output)];
                let kernel = match PoolEltwise::with(variant, &op, input, maps) {
                    Err(Error::Unavailable { .. }) => continue,
                    kernel => kernel?,
                };
                let mut y = vec![f32::NAN; expected.len()];
                kernel.run(&x, &mut y)?;
                for (expected, found) in expected.iter().zip(&y) {
                    let near = (expected - found).abs() <= 1e-5 * (1.0 + expected.abs());
                    ensure!(near, "{} computes {found}, not {expected}", variant.name);
                }
                candidates.push((kernel, y));
            }
            let mut calls: Vec<_> =
                candidates.iter_mut().map(|(kernel, y)| || kernel.run(&x, y)).collect();
            let mut calls: Vec<&mut dyn FnMut() -> Result<(), Error>> =
                calls.iter_mut().map(|call| call as _).collect();
            let timings = try_interleave(&mut calls, MeasureConfig::DEFAULT)?;
            for ((kernel, y), timing) in candidates.iter().zip(timings) {
                table.row([
                    name.to_owned(),
                    layer.name.clone(),
                    format!("{input:?}"),
                    kernel.variant().name.to_owned(),
                    format!("{:.2}", 1e6 * timing.median),
                    format!("{:.1}", 4e-9 * (pixels + y.len()) as f64 / timing.median),
                ]);
            }
        }
    }
    given.run.json.table(&format!("{threads} threads, batch 1"), &table);
    Ok(())
}

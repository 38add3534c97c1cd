//! Images in rows to features in rows: every variant that this processor has, in turns in one run.
//!
//! ```text
//! cargo bench --bench transpose -- --threads 1        # batches of 16 and 128
//! cargo bench --bench transpose -- 64 --threads 1     # of 64
//! ```
//!
//! All threads, unless `--threads` says otherwise. GB/s are of what has to be read and written once.

use anyhow::ensure;
use scalpel::error::Error;
use scalpel::kernels::transpose::{Transpose, VARIANTS};
use scalpel::options::BenchArgs;
use scalpel::report::Table;
use scalpel::timing::{MeasureConfig, try_interleave};

/// Features: LeNet-300-100's pixels, what LeNet-5 and AlexNet have before their first dense layer.
const FEATURES: [usize; 3] = [784, 800, 9216];

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::on_cpu()?;
    let threads = given.run.thread_count();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let batches = given.first().map_or(Ok(vec![16, 128]), |n| n.parse().map(|n| vec![n]))?;
    let mut table = Table::new(["batch", "features", "kernel", "us", "GB/s"]);
    for batch in batches {
        for features in FEATURES {
            let x: Vec<f32> = (0..batch * features).map(|place| place as f32).collect();
            let mut candidates = Vec::new();
            for variant in VARIANTS {
                let kernel = match Transpose::with(variant, [batch, features]) {
                    Err(Error::Unavailable { .. }) => continue,
                    kernel => kernel?,
                };
                let mut y = vec![f32::NAN; x.len()];
                kernel.run(&x, &mut y)?;
                let moved = |place: usize| y[place % features * batch + place / features];
                ensure!((0..x.len()).all(|place| moved(place) == x[place]), "{}", variant.name);
                candidates.push((kernel, y));
            }
            let mut calls: Vec<_> =
                candidates.iter_mut().map(|(kernel, y)| || kernel.run(&x, y)).collect();
            let mut calls: Vec<&mut dyn FnMut() -> Result<(), Error>> =
                calls.iter_mut().map(|call| call as _).collect();
            let timings = try_interleave(&mut calls, MeasureConfig::DEFAULT)?;
            for ((kernel, _), timing) in candidates.iter().zip(timings) {
                table.row([
                    batch.to_string(),
                    features.to_string(),
                    kernel.variant().name.to_owned(),
                    format!("{:.2}", 1e6 * timing.median),
                    format!("{:.1}", 8e-9 * x.len() as f64 / timing.median),
                ]);
            }
        }
    }
    given.run.json.table(&format!("{threads} threads"), &table);
    Ok(())
}

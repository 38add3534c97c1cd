//! The convolutions of the five networks with group-sparse weights, beside libtorch's dense ones
//! (oneDNN) and dense ones on a library's product, in turns in one run, at batch 1.
//!
//! ```text
//! cargo bench --bench convolution                # all networks
//! cargo bench --bench convolution -- alexnet     # one
//! ```
//!
//! All cores; `--threads 1` takes one. Groups are of 8 weights. Copying the image into its
//! padded map is part of our time. Each convolution is compared with libtorch's before it is timed.

use std::time::Duration;

use anyhow::{Context, ensure};
use ndarray::Array2;
use rand::RngExt;
use scalpel::baselines::dense_libraries;
use scalpel::kernels::convolution::{ConvLayer, Convolution, Geometry, Weights};
use scalpel::network::{Op, zoo};
use scalpel::options::BenchArgs;
use scalpel::report::Table;
use scalpel::seed;
use scalpel::sparse::GroupSparse;
use scalpel::timing::{MeasureConfig, geometric_mean, try_interleave};
use tch::{Kind, Tensor};

const DENSITIES: [f64; 3] = [0.1, 0.2, 0.4];
const WIDTH: usize = 8;

/// One layer at one density.
struct Case {
    ours: Convolution,
    /// The same weights, dense, on each library's product.
    libraries: Vec<Convolution>,
    weights: Tensor,
    x: Vec<f32>,
    geometry: Geometry,
    groups: usize,
    nnz: usize,
    total: usize,
}

impl Case {
    /// Random weights for `outputs` channels in equal groups.
    fn new(
        geometry: Geometry,
        outputs: usize,
        groups: usize,
        density: f64,
    ) -> anyhow::Result<Self> {
        let mut rng = seed::stream(1, "convolution", &[outputs as u64, geometry.channels as u64]);
        let columns = geometry.channels / groups * geometry.side * geometry.side;
        let mut dense = Array2::<f32>::zeros((outputs, columns));
        for mut row in dense.rows_mut() {
            for group in 0..columns.div_ceil(WIDTH) {
                if rng.random_bool(density) {
                    for column in group * WIDTH..columns.min((group + 1) * WIDTH) {
                        row[column] = rng.random_range(-1.0..1.0);
                    }
                }
            }
        }
        let share = outputs / groups;
        let sparse: Vec<GroupSparse> = (0..groups)
            .map(|group| {
                let rows = ndarray::s![group * share..(group + 1) * share, ..];
                GroupSparse::from_dense(dense.slice(rows), WIDTH)
            })
            .collect::<Result<_, _>>()?;
        let layer =
            ConvLayer { geometry, weights: Weights::Groups(&sparse), bias: None, relu: false };
        let ours = Convolution::new(&layer)?;
        let views: Vec<_> = (0..groups)
            .map(|group| dense.slice(ndarray::s![group * share..(group + 1) * share, ..]))
            .collect();
        let layer = ConvLayer { weights: Weights::Dense(&views), ..layer };
        let libraries = dense_libraries()?;
        let libraries = libraries.iter().map(|library| Convolution::with_library(library, &layer));
        let libraries = libraries.collect::<Result<Vec<_>, _>>()?;
        let pixels = geometry.channels * geometry.height * geometry.width;
        let x = (0..pixels).map(|_| rng.random_range(-1.0..1.0)).collect();
        let [outputs, channels, side] =
            [outputs, geometry.channels / groups, geometry.side].map(|size| size as i64);
        let values = dense.as_slice().context("row-major weights")?;
        let weights = Tensor::from_slice(values).view([outputs, channels, side, side]);
        let nnz = sparse.iter().map(GroupSparse::nnz).sum();
        Ok(Self { ours, libraries, weights, x, geometry, groups, nnz, total: dense.len() })
    }

    /// Seconds of ours, of libtorch's dense convolution, and of that on the fastest library's product.
    fn measure(&self) -> anyhow::Result<([f64; 2], Option<f64>)> {
        let Geometry { channels, height, width, stride, padding, .. } = self.geometry;
        let [channels, height, width, stride, padding, groups] =
            [channels, height, width, stride, padding, self.groups].map(|size| size as i64);
        let image = Tensor::from_slice(&self.x).view([1, channels, height, width]);
        let dense =
            || image.f_conv2d::<Tensor>(&self.weights, None, [stride], [padding], [1], groups);
        let expected: Vec<f32> = Vec::try_from(&dense()?.flatten(0, -1).to_kind(Kind::Float))?;
        let inner = self.total / self.ours.output()[0];
        type Turn<'a> = Box<dyn FnMut() -> anyhow::Result<()> + 'a>;
        let mut turns: Vec<Turn<'_>> = vec![Box::new(|| Ok(dense().map(drop)?))];
        for convolution in std::iter::once(&self.ours).chain(&self.libraries) {
            let mut y = vec![f32::NAN; expected.len()];
            convolution.run(&self.x, 1, &mut y)?;
            for (expected, found) in expected.iter().zip(&y) {
                let near = (expected - found).abs() <= 2e-6 * (inner as f32 + 10.0);
                ensure!(near, "{} computes {found}, not {expected}", convolution.label());
            }
            turns.push(Box::new(move || Ok(convolution.run(&self.x, 1, &mut y)?)));
        }
        let mut turns: Vec<_> = turns.iter_mut().map(|turn| &mut **turn as _).collect();
        let timings = try_interleave::<anyhow::Error>(
            &mut turns,
            MeasureConfig::new(15, Duration::from_millis(3)),
        )?;
        let libraries = timings[2..].iter().map(|timing| timing.median);
        Ok(([timings[1].median, timings[0].median], libraries.min_by(f64::total_cmp)))
    }
}

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::on_cpu()?;
    let threads = given.run.thread_count();
    tch::set_num_threads(i32::try_from(threads)?);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let _inference = tch::no_grad_guard();
    let wanted = given.first();
    let header = [
        "network",
        "layer",
        "[M, K]",
        "density",
        "kernel",
        "ours, us",
        "dense, us",
        "library, us",
        "GFLOP/s",
        "dense GFLOP/s",
        "speedup",
    ];
    let mut table = Table::new(header);
    let mut speedups = [const { Vec::new() }; DENSITIES.len()];
    for name in zoo::NAMES.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name)) {
        let network = zoo::by_name(name)?;
        let shapes = network.shapes()?;
        for (index, layer) in network.layers.iter().enumerate() {
            let Op::Conv(conv) = &layer.op else { continue };
            let input = network.input_of(index, &shapes);
            let [channels, height, width] = input;
            let (side, stride, padding) = (conv.kernel, conv.stride, conv.padding);
            let geometry = Geometry { channels, height, width, side, stride, padding };
            let groups = network.groups_of(index, input)?.len();
            for (density, speedups) in DENSITIES.into_iter().zip(&mut speedups) {
                let case = Case::new(geometry, conv.outputs, groups, density)?;
                let ([ours, dense], library) = case.measure()?;
                let pixels = case.ours.output()[1] * case.ours.output()[2];
                let rate = |weights: usize, seconds: f64| {
                    format!("{:.1}", 2.0 * (weights * pixels) as f64 / seconds / 1e9)
                };
                speedups.push(dense / ours);
                table.row([
                    name.to_owned(),
                    layer.name.clone(),
                    format!("{}x{}", conv.outputs, case.total / conv.outputs),
                    format!("{:.3}", case.nnz as f64 / case.total as f64),
                    case.ours.variant().unwrap_or_default().to_owned(),
                    format!("{:.1}", 1e6 * ours),
                    format!("{:.1}", 1e6 * dense),
                    library.map_or(String::new(), |seconds| format!("{:.1}", 1e6 * seconds)),
                    rate(case.nnz, ours),
                    rate(case.total, dense),
                    format!("{:.2}", dense / ours),
                ]);
            }
        }
    }
    given.run.json.table(&format!("{threads} threads, batch 1, W = {WIDTH}"), &table);
    for (density, speedups) in DENSITIES.into_iter().zip(&speedups) {
        let mean = geometric_mean(speedups);
        given.run.json.note(&format!("density {density}: {mean:.2}x, geometric mean"));
    }
    Ok(())
}

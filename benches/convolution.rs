//! The convolutions of the five networks with sparse weights in groups of either pattern, beside libtorch's dense ones
//! (oneDNN) and dense ones on a library's product, in turns in one run.
//!
//! ```text
//! cargo bench --bench convolution                        # all networks, batch 1, both patterns
//! cargo bench --bench convolution -- alexnet             # one network
//! cargo bench --bench convolution -- alexnet 16          # and batch size
//! cargo bench --bench convolution -- all 16 upright      # one pattern: groups (1 x 8) or upright (8 x 1)
//! ```
//!
//! All cores; `--threads 1` takes one. Groups are of 8 weights. Copying the image into its
//! padded map is part of our time. Each convolution is compared with libtorch's before it is timed.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use ndarray::{Array2, ArrayView2, Axis};
use rand::RngExt;
use scalpel::baselines::dense_libraries;
use scalpel::kernels::convolution::{ConvLayer, Convolution, Geometry, Weights};
use scalpel::network::{Network, Op, zoo};
use scalpel::options::BenchArgs;
use scalpel::report::Table;
use scalpel::seed;
use scalpel::sparse::{GroupSparse, Pattern, UprightSparse};
use scalpel::timing::{MeasureConfig, geometric_mean, try_interleave};
use scalpel::torch::MemoryFormat;
use tch::{Kind, Tensor};

const DENSITIES: [f64; 3] = [0.1, 0.2, 0.4];
/// Weights in a group.
const GROUP: usize = 8;

/// A convolution of a network.
struct Layer {
    name: String,
    geometry: Geometry,
    outputs: usize,
    /// Groups of channels.
    groups: usize,
}

impl Layer {
    /// All of a network.
    fn all(network: &Network) -> scalpel::error::Result<Vec<Self>> {
        let shapes = network.shapes()?;
        let mut layers = Vec::new();
        for (index, layer) in network.layers.iter().enumerate() {
            let Op::Conv(conv) = &layer.op else { continue };
            let input = network.input_of(index, &shapes);
            let [channels, height, width] = input;
            let (side, stride, padding) = (conv.kernel, conv.stride, conv.padding);
            layers.push(Self {
                name: layer.name.clone(),
                geometry: Geometry { channels, height, width, side, stride, padding },
                outputs: conv.outputs,
                groups: network.groups_of(index, input)?.len(),
            });
        }
        Ok(layers)
    }

    /// Rows and columns of its weights.
    fn shape(&self) -> [usize; 2] {
        let Geometry { channels, side, .. } = self.geometry;
        [self.outputs, channels / self.groups * side * side]
    }

    /// Random weights in groups of a pattern, of which a share of about `density` is there.
    fn weights(&self, pattern: Pattern, density: f64) -> Array2<f32> {
        let [rows, columns] = self.shape();
        let mut rng = seed::stream(1, "convolution", &[rows as u64, columns as u64]);
        let [height, width] = match pattern {
            Pattern::Groups => [1, GROUP],
            Pattern::Upright => [GROUP, 1],
        };
        // Strips start anew with each group of channels.
        let share = rows / self.groups;
        let strips = share.div_ceil(height);
        let is_there =
            Array2::from_shape_simple_fn((self.groups * strips, columns.div_ceil(width)), || {
                rng.random_bool(density)
            });
        Array2::from_shape_fn((rows, columns), |(row, column)| {
            let strip = row / share * strips + row % share / height;
            if is_there[[strip, column / width]] { rng.random_range(-1.0..1.0) } else { 0.0 }
        })
    }
}

/// Without bias and activation, as libtorch's.
fn conv_layer(geometry: Geometry, weights: Weights<'_>) -> ConvLayer<'_> {
    ConvLayer { geometry, weights, bias: None, relu: false }
}

/// One layer at one density.
struct Case<'a> {
    layer: &'a Layer,
    batch: usize,
    ours: Convolution,
    /// The same weights, dense, on each library's product.
    libraries: Vec<Convolution>,
    weights: Tensor,
    x: Vec<f32>,
    nnz: usize,
}

impl<'a> Case<'a> {
    fn new(layer: &'a Layer, pattern: Pattern, density: f64, batch: usize) -> anyhow::Result<Self> {
        let geometry = layer.geometry;
        let dense = layer.weights(pattern, density);
        let views: Vec<ArrayView2<'_, f32>> =
            dense.axis_chunks_iter(Axis(0), layer.outputs / layer.groups).collect();
        let (ours, nnz) = match pattern {
            Pattern::Groups => {
                let stored = views.iter().map(|&view| GroupSparse::from_dense(view, GROUP));
                let stored = stored.collect::<Result<Vec<_>, _>>()?;
                let nnz: usize = stored.iter().map(GroupSparse::nnz).sum();
                (Convolution::new(&conv_layer(geometry, Weights::Groups(&stored)))?, nnz)
            }
            Pattern::Upright => {
                let stored = views.iter().map(|&view| UprightSparse::from_dense(view, GROUP));
                let stored = stored.collect::<Result<Vec<_>, _>>()?;
                let nnz: usize = stored.iter().map(UprightSparse::nnz).sum();
                (Convolution::new(&conv_layer(geometry, Weights::Upright(&stored)))?, nnz)
            }
        };
        let libraries = dense_libraries()?;
        let libraries = libraries
            .iter()
            .map(|library| {
                Convolution::with_library(library, &conv_layer(geometry, Weights::Dense(&views)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let pixels = batch * geometry.channels * geometry.height * geometry.width;
        let mut rng = seed::stream(1, "images", &[pixels as u64]);
        let x = (0..pixels).map(|_| rng.random_range(-1.0..1.0)).collect();
        let sizes = [layer.outputs, geometry.channels / layer.groups, geometry.side, geometry.side];
        let values = dense.as_slice().context("row-major weights")?;
        let weights = Tensor::from_slice(values).view(sizes.map(|size| size as i64));
        Ok(Self { layer, batch, ours, libraries, weights, x, nnz })
    }

    /// Seconds of ours, of libtorch's dense convolution, and of that on the fastest library's product.
    fn measure(&self) -> anyhow::Result<([f64; 2], Option<f64>)> {
        let Geometry { channels, height, width, stride, padding, .. } = self.layer.geometry;
        let [batch, channels, height, width, stride, padding, groups] =
            [self.batch, channels, height, width, stride, padding, self.layer.groups]
                .map(|size| size as i64);
        let image = Tensor::from_slice(&self.x).view([batch, channels, height, width]);
        // As in the whole networks, libtorch has its values in the order that it computes the fastest with.
        let operands = MemoryFormat::ALL
            .iter()
            .map(|format| Ok([format.of(&image)?, format.of(&self.weights)?]))
            .collect::<Result<Vec<_>, scalpel::error::Error>>()?;
        let dense = |[image, weights]: &[Tensor; 2]| {
            image.f_conv2d::<Tensor>(weights, None, [stride], [padding], [1], groups)
        };
        let expected = dense(&operands[0])?.flatten(0, -1).to_kind(Kind::Float);
        let expected: Vec<f32> = Vec::try_from(&expected)?;
        let [_, inner] = self.layer.shape();
        type Turn<'a> = Box<dyn FnMut() -> anyhow::Result<()> + 'a>;
        let mut turns: Vec<Turn<'_>> = Vec::new();
        for operands in &operands {
            turns.push(Box::new(move || Ok(dense(operands).map(drop)?)));
        }
        for convolution in std::iter::once(&self.ours).chain(&self.libraries) {
            let mut y = vec![f32::NAN; expected.len()];
            convolution.run(&self.x, self.batch, &mut y)?;
            for (expected, found) in expected.iter().zip(&y) {
                let near = (expected - found).abs() <= 2e-6 * (inner as f32 + 10.0);
                ensure!(near, "{} computes {found}, not {expected}", convolution.label());
            }
            turns.push(Box::new(move || Ok(convolution.run(&self.x, self.batch, &mut y)?)));
        }
        let mut turns: Vec<_> = turns.iter_mut().map(|turn| &mut **turn as _).collect();
        let timings = try_interleave::<anyhow::Error>(
            &mut turns,
            MeasureConfig::new(15, Duration::from_millis(3)),
        )?;
        let times: Vec<f64> = timings.iter().map(|timing| timing.median).collect();
        let (dense, [ours, libraries @ ..]) = times.split_at(operands.len()) else {
            bail!("ours was not measured");
        };
        let fastest = |times: &[f64]| times.iter().copied().min_by(f64::total_cmp);
        Ok(([*ours, fastest(dense).context("libtorch's times")?], fastest(libraries)))
    }
}

/// What was asked for: networks, images in a batch, patterns.
fn asked(words: &[String]) -> anyhow::Result<(Vec<&'static str>, usize, Vec<Pattern>)> {
    let networks = match words.first().map(String::as_str) {
        None | Some("all") => zoo::NAMES.to_vec(),
        Some(wanted) => {
            let found = zoo::NAMES.into_iter().find(|name| *name == wanted);
            let expected =
                || format!("{wanted} is neither all nor one of {}", zoo::NAMES.join(", "));
            vec![found.with_context(expected)?]
        }
    };
    let batch = words.get(1).map_or(Ok(1), |batch| {
        let images = batch.parse().ok().filter(|&images| images > 0);
        images.with_context(|| format!("{batch} is no number of images, such as 16"))
    })?;
    let patterns = match words.get(2) {
        None => Pattern::value_variants().to_vec(),
        Some(name) => vec![Pattern::from_str(name, false).map_err(anyhow::Error::msg)?],
    };
    Ok((networks, batch, patterns))
}

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::on_cpu()?;
    let threads = given.run.thread_count();
    // libtorch allocates its results anew; from now on the process keeps what is freed.
    scalpel::torch::device("cpu")?;
    tch::set_num_threads(i32::try_from(threads)?);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let _inference = tch::no_grad_guard();
    let (networks, batch, patterns) = asked(&given.words)?;
    for pattern in patterns {
        let mut table = Table::new([
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
        ]);
        let mut speedups = [const { Vec::new() }; DENSITIES.len()];
        for &name in &networks {
            for layer in Layer::all(&zoo::by_name(name)?)? {
                for (density, speedups) in DENSITIES.into_iter().zip(&mut speedups) {
                    let case = Case::new(&layer, pattern, density, batch)?;
                    let ([ours, dense], library) = case.measure()?;
                    table.row(row(name, &case, [ours, dense], library));
                    speedups.push(dense / ours);
                }
            }
        }
        let title = format!("{threads} threads, batch {batch}, {} of {GROUP}", pattern.name());
        given.run.json.table(&title, &table);
        for (density, speedups) in DENSITIES.into_iter().zip(&speedups) {
            let mean = geometric_mean(speedups);
            given.run.json.note(&format!("density {density}: {mean:.2}x, geometric mean"));
        }
    }
    Ok(())
}

/// A case's line of the table.
fn row(network: &str, case: &Case<'_>, seconds: [f64; 2], library: Option<f64>) -> [String; 11] {
    let [ours, dense] = seconds;
    let [rows, columns] = case.layer.shape();
    let [_, height, width] = case.ours.output();
    let rate = |weights: usize, seconds: f64| {
        format!("{:.1}", 2.0 * (weights * case.batch * height * width) as f64 / seconds / 1e9)
    };
    [
        network.to_owned(),
        case.layer.name.clone(),
        format!("{rows}x{columns}"),
        format!("{:.3}", case.nnz as f64 / (rows * columns) as f64),
        case.ours.variant().unwrap_or_default().to_owned(),
        format!("{:.1}", 1e6 * ours),
        format!("{:.1}", 1e6 * dense),
        library.map_or(String::new(), |seconds| format!("{:.1}", 1e6 * seconds)),
        rate(case.nnz, ours),
        rate(rows * columns, dense),
        format!("{:.2}", dense / ours),
    ]
}

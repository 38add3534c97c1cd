//! Every variant of `group_spmm`, or of `upright_spmm`, that this processor has, beside the fastest library's dense
//! product and a library's sparse one, in turns in one run.
//!
//! ```text
//! cargo bench --bench group_spmm                     # the sweep's shapes
//! cargo bench --bench group_spmm -- 300x784 64       # one shape, one N
//! cargo bench --bench group_spmm -- 300x784 64 4     # groups of 4
//! cargo bench --bench group_spmm -- 300x784 64 8 upright
//! cargo bench --bench group_spmm -- --device cuda    # a GPU's variants: cuda, cuda:1 or wgpu
//! ```
//!
//! All cores; `--threads 1` takes one. GFLOP/s are useful ones: 2 * nnz * N over the time, and
//! 2 * M * K * N for the dense product. Each product is compared with plain loops before it is timed.

use anyhow::Context;
use clap::{Parser, ValueEnum};
use scalpel::baselines::Libraries;
use scalpel::bench::breakeven::{COLUMNS, Case, DENSITIES, SHAPES, gpu, measure, variants};
use scalpel::kernels::GpuSparseVariant;
use scalpel::options::BenchArgs;
use scalpel::report::{BreakevenPoint, Table};
use scalpel::sparse::Pattern;
use scalpel::timing::geometric_mean;

/// What was asked for: shapes, N, weights in a group and their pattern; all shapes and N where none was.
struct Asked {
    shapes: Vec<[usize; 2]>,
    columns: Vec<usize>,
    width: usize,
    pattern: Pattern,
}

impl Asked {
    fn new(words: &[String], on_gpu: bool) -> anyhow::Result<Self> {
        let (shapes, columns) = match on_gpu {
            false => (SHAPES.to_vec(), COLUMNS.to_vec()),
            true => (gpu::SHAPES.to_vec(), gpu::COLUMNS.to_vec()),
        };
        Ok(Self {
            shapes: words
                .first()
                .map_or(Ok(shapes), |text| shape(text).map(|shape| vec![shape]))?,
            columns: words.get(1).map_or(Ok(columns), |n| n.parse().map(|n| vec![n]))?,
            width: words.get(2).map_or(Ok(8), |width| width.parse())?,
            pattern: match words.get(3) {
                None => Pattern::Groups,
                Some(name) => Pattern::from_str(name, false).map_err(anyhow::Error::msg)?,
            },
        })
    }
}

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::parse();
    let (threads, json) = (given.run.thread_count(), given.run.json);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let device = match given.run.device.as_str() {
        "cpu" => None,
        name => Some(gpu::device(name)?),
    };
    let Asked { shapes, columns, width, pattern } = Asked::new(&given.words, device.is_some())?;
    let contest = match device {
        None => Contest::Cpu(Libraries::load(threads)?, threads),
        Some(device) => {
            if let Some(ceilings) = device.ceilings()? {
                json.note(&format!("{}, at best: {ceilings}", device.gpu.name()));
            }
            Contest::Gpu(device)
        }
    };
    for n in columns {
        let title = format!("N = {n}, {} of {width}, {}", pattern.name(), contest.name());
        let mut best = Vec::new();
        for &shape in &shapes {
            let mut table = Table::new(HEADER);
            for density in DENSITIES {
                let points =
                    contest.measure(&Case::new(shape, pattern, width, density, n)?, pattern)?;
                best.extend(points.iter().max_by(|a, b| a.gflops.total_cmp(&b.gflops)).cloned());
                points.into_iter().for_each(|point| table.row(row(point)));
            }
            // At once: a run may be cut.
            json.table(&title, &table);
        }
        let mean = |ratio: &dyn Fn(&_) -> f64| {
            geometric_mean(&best.iter().map(ratio).collect::<Vec<f64>>())
        };
        json.note(&format!(
            "the fastest variant, geometric means: {:.2}x dense, {:.2}x CSR, rate {:.2} of dense",
            mean(&BreakevenPoint::over_dense),
            mean(&BreakevenPoint::over_csr),
            mean(&|point| point.gflops / point.dense_gflops)
        ));
    }
    Ok(())
}

const HEADER: [&str; 8] =
    ["M x K", "density", "kernel", "GFLOP/s", "dense", "CSR", "x dense", "x CSR"];

/// A point's line of the table.
fn row(point: BreakevenPoint) -> Vec<String> {
    let (over_dense, over_csr) = (point.over_dense(), point.over_csr());
    let rates = [point.gflops, point.dense_gflops, point.csr_gflops];
    let rates = rates.map(|rate| format!("{rate:.1}"));
    let ratios = [over_dense, over_csr].map(|ratio| format!("{ratio:.2}"));
    let name = [point.shape, format!("{:.3}", point.density), point.kernel];
    name.into_iter().chain(rates).chain(ratios).collect()
}

/// Where the contest takes place.
enum Contest {
    Cpu(Libraries, usize),
    Gpu(gpu::Device),
}

impl Contest {
    fn name(&self) -> String {
        match self {
            Self::Cpu(libraries, threads) => format!("{threads} threads, {}", libraries.name()),
            Self::Gpu(device) => format!("{}, {}", device.gpu.name(), device.libraries.name()),
        }
    }

    fn measure(
        &self,
        case: &Case,
        pattern: Pattern,
    ) -> scalpel::error::Result<Vec<BreakevenPoint>> {
        match self {
            Self::Cpu(libraries, _) => {
                let mut here = variants(pattern, None, case.n);
                here.retain(|variant| variant.runs_here());
                measure(case, &here, libraries)
            }
            Self::Gpu(device) => {
                let language = device.gpu.language();
                let all = GpuSparseVariant::all(pattern, language, case.n);
                gpu::measure(case, device, Some(&all))
            }
        }
    }
}

fn shape(text: &str) -> anyhow::Result<[usize; 2]> {
    let (m, k) =
        text.split_once('x').with_context(|| format!("{text} is no shape like 300x784"))?;
    Ok([m.parse()?, k.parse()?])
}

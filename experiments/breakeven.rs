//! Where group sparsity pays: a sweep over shapes, densities, group widths and N, ours beside the best
//! library's dense and sparse products.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Parser;
use scalpel::baselines;
use scalpel::bench::breakeven;
use scalpel::report::{BreakevenPoint, Environment, ResultsTree, breakeven_of, breakeven_table};

#[derive(Parser)]
#[command(about = "Measures where group-sparse weights are faster than dense ones")]
struct Cli {
    /// Rows x columns of the weights, such as 300x784; several, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = shape)]
    shape: Vec<[usize; 2]>,
    /// Shares of the groups that are stored, such as 0.08,0.2,0.4
    #[arg(long, value_delimiter = ',')]
    density: Vec<f64>,
    /// Columns of the activations, such as 1,64
    #[arg(long, value_delimiter = ',')]
    columns: Vec<usize>,
    /// Weights in a group, such as 4,8
    #[arg(long, value_delimiter = ',')]
    width: Vec<usize>,
    /// Threads of every candidate
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// What runs the products: cpu, cuda, cuda:1 and so on, or wgpu (SCALPEL_WGPU_ADAPTER chooses)
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Hold our kernels to an instruction set: avx512, avx2 or portable
    #[arg(long)]
    isa: Option<String>,
    /// Where results go
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Print an array of points instead of a table
    #[arg(long)]
    json: bool,
}

fn shape(text: &str) -> anyhow::Result<[usize; 2]> {
    let expected = || anyhow!("{text} is no shape such as 300x784");
    let (rows, columns) = text.split_once('x').ok_or_else(expected)?;
    Ok([rows.parse().map_err(|_| expected())?, columns.parse().map_err(|_| expected())?])
}

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let threads = usize::from(cli.threads);
    let on_gpu = cli.device != "cpu";
    anyhow::ensure!(!on_gpu || cli.isa.is_none(), "--isa is of the CPU, not of {}", cli.device);
    let mut sweep = breakeven::sweep(threads);
    if on_gpu {
        sweep.device = Some(cli.device.clone());
        sweep.shapes = breakeven::gpu::SHAPES.to_vec();
        sweep.columns = breakeven::gpu::COLUMNS.to_vec();
        sweep.mkl_instructions = None;
    }
    fn replace<T>(default: &mut Vec<T>, given: Vec<T>) {
        if !given.is_empty() {
            *default = given;
        }
    }
    replace(&mut sweep.shapes, cli.shape);
    replace(&mut sweep.densities, cli.density);
    replace(&mut sweep.columns, cli.columns);
    replace(&mut sweep.widths, cli.width);
    sweep.isa = cli.isa;

    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()?;
    let tree = ResultsTree::at(&cli.results);
    let report = |point: &BreakevenPoint| {
        eprintln!(
            "{} N = {}, W = {}, density {:.3}: {:.1} useful GFLOP/s, {:.2}x dense, {:.2}x CSR",
            point.shape,
            point.n,
            point.group_width,
            point.density,
            point.gflops,
            point.over_dense(),
            point.over_csr()
        );
    };
    let mut environment = Environment::read(&cli.device);
    // What there is so far is kept after every point: a sweep may be cut.
    let mut so_far = Vec::new();
    let points = if on_gpu {
        let device = breakeven::gpu::device(&cli.device)?;
        eprintln!("{}: {} is the library to beat", device.gpu.name(), device.library.name());
        environment.ran_on(device.gpu.name(), device.gpu.limits().software);
        environment.ceilings = device.ceilings()?;
        if let Some(ceilings) = &environment.ceilings {
            eprintln!("at best: {ceilings}");
        }
        breakeven::gpu::run(&sweep, &device, |point| {
            report(point);
            so_far.push(point.clone());
            tree.store_sweep_part(&sweep, &so_far, &environment)
        })?
    } else {
        let library = baselines::best(threads)?;
        eprintln!("{} is the library to beat; {threads} threads", library.name());
        environment.threads = Some(threads);
        breakeven::run(&sweep, &*library, |point| {
            report(point);
            so_far.push(point.clone());
            tree.store_sweep_part(&sweep, &so_far, &environment)
        })?
    };
    let stored = tree.store_sweep(sweep, points, environment)?;
    let (sweep, points) = (&stored.sweep, &stored.points);
    if cli.json {
        println!("{}", serde_json::to_string_pretty(points)?);
    } else {
        println!("{}", breakeven_table(points).markdown());
        for &n in &sweep.columns {
            println!("{}", breakeven_line(points, n).context("a sweep of no points")?);
        }
    }
    eprintln!("stored under {} as sweep {}, with its plot", cli.results.display(), stored.hash);
    Ok(())
}

/// One sentence on where the products of N columns stop being faster than dense ones.
fn breakeven_line(points: &[BreakevenPoint], n: usize) -> Option<String> {
    let mut shapes: Vec<&str> =
        points.iter().filter(|point| point.n == n).map(|point| point.shape.as_str()).collect();
    shapes.dedup();
    let mut found: Vec<String> = Vec::new();
    for shape in shapes {
        let mut line: Vec<(f64, f64)> = points
            .iter()
            .filter(|point| point.n == n && point.shape == shape)
            .map(|point| (point.density, point.over_dense()))
            .collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (highest, speedup) = *line.last()?;
        found.push(match breakeven_of(&line) {
            Some(density) => format!("{shape} at {density:.2}"),
            None if speedup >= 1.0 => format!("{shape} above {highest:.2}"),
            None => format!("{shape} below {:.2}", line.first()?.0),
        });
    }
    Some(format!("N = {n}, break-even with dense: {}", found.join(", ")))
}

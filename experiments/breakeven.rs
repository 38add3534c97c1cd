//! Where group sparsity pays: a sweep over shapes, densities, group widths and N, ours beside the best
//! library's dense and sparse products.

use std::process::ExitCode;

use anyhow::Context;
use scalpel::baselines::Libraries;
use scalpel::bench::breakeven;
use scalpel::cli::{self, Breakeven};
use scalpel::report::{
    BreakevenPoint, Environment, ResultsTree, Sweep, breakeven_of, breakeven_table,
};

fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Breakeven) -> anyhow::Result<()> {
    let (json, tree) = (cli.run.json.json, ResultsTree::at(&cli.results.results));
    let sweep = sweep(cli)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(sweep.threads).use_current_thread();
    pool.build_global()?;
    let (points, environment) = measure(&sweep, &tree)?;
    let stored = tree.store_sweep(sweep, points, environment)?;
    let (sweep, points) = (&stored.sweep, &stored.points);
    if json {
        println!("{}", serde_json::to_string_pretty(points)?);
    } else {
        println!("{}", breakeven_table(points).markdown());
        for &n in &sweep.columns {
            println!("{}", breakeven_line(points, n).context("a sweep of no points")?);
        }
    }
    eprintln!("stored as sweep {}, with its plot: `tables` shows it", stored.hash);
    Ok(())
}

/// The sweep that the arguments ask for: the usual one of the device, but for what they name.
fn sweep(cli: Breakeven) -> anyhow::Result<Sweep> {
    let on_gpu = cli.run.device != "cpu";
    // One feeds a GPU.
    let threads = if on_gpu { 1 } else { cli.run.thread_count() };
    let device = cli.run.device;
    anyhow::ensure!(!on_gpu || cli.isa.is_none(), "--isa is of the CPU, not of {device}");
    let mut sweep = breakeven::sweep(threads);
    if on_gpu {
        sweep.device = Some(device);
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
    (sweep.isa, sweep.pattern) = (cli.isa, cli.pattern);
    Ok(sweep)
}

/// Measures every point, and keeps what there is so far after each: a sweep may be cut.
fn measure(
    sweep: &Sweep,
    tree: &ResultsTree,
) -> anyhow::Result<(Vec<BreakevenPoint>, Environment)> {
    let name = sweep.device.as_deref().unwrap_or("cpu");
    let mut environment = Environment::read(name);
    let mut so_far = Vec::new();
    let mut keep = |point: &BreakevenPoint, environment: &Environment| {
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
        so_far.push(point.clone());
        tree.store_sweep_part(sweep, &so_far, environment)
    };
    let points = if sweep.device.is_some() {
        let device = breakeven::gpu::device(name)?;
        eprintln!("{}, beside {}", device.gpu.name(), device.libraries.name());
        environment.ran_on(device.gpu.name(), device.gpu.limits().software);
        environment.ceilings = device.ceilings()?;
        if let Some(ceilings) = &environment.ceilings {
            eprintln!("at best: {ceilings}");
        }
        breakeven::gpu::run(sweep, &device, |point| keep(point, &environment))?
    } else {
        let libraries = Libraries::load(sweep.threads)?;
        eprintln!("beside {}; {} threads", libraries.name(), sweep.threads);
        environment.threads = Some(sweep.threads);
        breakeven::run(sweep, &libraries, |point| keep(point, &environment))?
    };
    Ok((points, environment))
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

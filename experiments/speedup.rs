//! Whole networks, end to end: every policy beside the library a user would otherwise take, by network and
//! batch, in turns in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use scalpel::bench::speedup::{
    BenchContext, BenchDevice, ModelUnderTest, PrunedModel, compiled, measure,
};
use scalpel::device::class::Hardware;
use scalpel::engine::{AutotuneCache, Policy, profile_table};
use scalpel::network::zoo;
use scalpel::report::{
    DENSE, Environment, LIBRARY, ResultsTree, SCALPEL, SpeedupRow, StoredSpeedup, speedup_groups,
};

#[derive(Parser)]
#[command(about = "Measures how much faster pruned networks are than dense ones on this machine")]
struct Cli {
    /// Networks of the zoo, separated by commas; all, where absent
    #[arg(long, value_delimiter = ',')]
    network: Vec<String>,
    /// What runs them: cpu, cuda, cuda:1 and so on, or wgpu (SCALPEL_WGPU_ADAPTER chooses)
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of every candidate on a CPU; all cores, where absent
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Images in a batch, such as 1,16,128
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    batch: Vec<usize>,
    /// Policies to run beside the library; all, where absent
    #[arg(long, value_enum, value_delimiter = ',')]
    policy: Vec<Policy>,
    /// A Python that has PyTorch, such as python3: its networks, captured in CUDA graphs, are timed in turns with ours
    #[arg(long)]
    pytorch: Option<String>,
    /// Print each step of the networks as the policies run them
    #[arg(long)]
    explain: bool,
    /// Measure which kernel is the fastest anew, instead of remembering it
    #[arg(long)]
    fresh: bool,
    /// The folder of published models
    #[arg(long, default_value = "zoo")]
    models: PathBuf,
    /// Where results go
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Print an array of rows instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    scalpel::cli::exit(run())
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cli.threads.map_or(cores, usize::from);
    let all = zoo::NAMES.map(str::to_owned).to_vec();
    let networks = if cli.network.is_empty() { all } else { cli.network.clone() };
    // All that can be refused is refused before anything is measured.
    let subjects = networks
        .iter()
        .map(|name| ModelUnderTest::open(name, &cli.models))
        .collect::<Result<Vec<_>, _>>()?;
    let policies = if cli.policy.is_empty() { Policy::ALL.to_vec() } else { cli.policy.clone() };
    anyhow::ensure!(cli.batch.iter().all(|&batch| batch > 0), "--batch takes 1 or more images");

    let place = BenchDevice::open(&cli.device)?;
    let mut context = place.context(threads)?;
    if let Some(interpreter) = &cli.pytorch {
        let (with, version) = context.with_pytorch(interpreter)?;
        context = with;
        eprintln!("PyTorch {version} captures networks in graphs");
    }
    let hardware = match place.gpu() {
        None => Hardware::cpu(threads),
        Some(gpu) => Hardware::gpu(gpu),
    };
    eprintln!("{}: {hardware}", cli.device);
    let mut environment = Environment::read(&cli.device);
    environment.threads = Some(threads);
    if let Some(gpu) = place.gpu() {
        environment.ran_on(gpu.name(), gpu.limits().software);
    }
    let machine = format!("{}, {}", environment.cpu, environment.isa.join(" "));
    let mut autotune =
        if cli.fresh { AutotuneCache::in_memory() } else { AutotuneCache::of_user(&machine)? };

    let tree = ResultsTree::at(&cli.results);
    let (mut stored, mut failures) = (Vec::new(), Vec::new());
    for under_test in &subjects {
        for &batch in &cli.batch {
            let name = format!("{}, batch {batch}", under_test.original.name);
            let rows = match measure(under_test, &policies, batch, &context, &mut autotune) {
                Ok(rows) => rows,
                // One that fails keeps no other from being measured.
                Err(error) => {
                    eprintln!("{name}: failed: {error}");
                    failures.push(name);
                    continue;
                }
            };
            autotune.save()?;
            progress(&rows);
            let measured = StoredSpeedup { rows, environment: environment.clone() };
            // A selection of the policies must not take the place of all.
            if policies.len() == Policy::ALL.len() {
                tree.store_speedup(&measured)?;
            }
            if cli.explain {
                explain(under_test, &policies, &measured.rows, &context, &mut autotune)?;
            }
            stored.push(measured);
        }
    }
    if cli.json {
        let rows: Vec<&SpeedupRow> = stored.iter().flat_map(|one| &one.rows).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        for group in speedup_groups(&stored) {
            println!("\n{}\n\n{}", group.heading(), group.table().markdown());
        }
    }
    if policies.len() == Policy::ALL.len() && !stored.is_empty() {
        eprintln!("stored under {}: `tables` shows them", cli.results.display());
    }
    anyhow::ensure!(failures.is_empty(), "not measured, see above: {}", failures.join("; "));
    Ok(())
}

/// A line on what was measured.
fn progress(rows: &[SpeedupRow]) {
    let time = |policy: &str| {
        let row = rows.iter().find(|row| row.policy == policy)?;
        Some(format!("{policy} {:.1} us", row.microseconds))
    };
    let times: Vec<String> = [LIBRARY, DENSE, SCALPEL].into_iter().filter_map(time).collect();
    if let Some(row) = rows.first() {
        eprintln!("{}, batch {}: {}", row.network, row.batch, times.join(", "));
    }
}

/// Prints the steps of every policy's network.
fn explain(
    under_test: &ModelUnderTest,
    policies: &[Policy],
    rows: &[SpeedupRow],
    context: &BenchContext<'_>,
    autotune: &mut AutotuneCache,
) -> anyhow::Result<()> {
    for &policy in policies {
        let Some(row) = rows.iter().find(|row| row.policy == policy.name()) else { continue };
        let ran = |model: &&PrunedModel| under_test.ran(model, policy, &row.weights_from);
        let untouched = under_test.untouched();
        let model = under_test.models.iter().find(ran).unwrap_or(&untouched);
        let mut executable = compiled(model, policy, row.batch, context, autotune)?;
        let steps = profile_table(&executable.profile()?);
        eprintln!("\n{} by policy {}, {}:\n{steps}", row.network, row.policy, row.weights_from);
    }
    Ok(())
}

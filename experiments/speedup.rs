//! Whole networks, end to end: every policy beside the library a user would otherwise take, by network and
//! batch, in turns in one run.

use std::process::ExitCode;

use scalpel::bench::speedup::{
    BenchContext, BenchDevice, ModelUnderTest, PrunedModel, compiled, measure,
};
use scalpel::cli::{self, Speedup};
use scalpel::device::class::Hardware;
use scalpel::engine::{AutotuneCache, Policy, profile_table};
use scalpel::network::zoo;
use scalpel::report::{
    Environment, ResultsTree, SpeedupRow, StoredSpeedup, speedup_groups, speedup_table,
};

fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Speedup) -> anyhow::Result<()> {
    let threads = cli.run.thread_count();
    // All that can be refused is refused before anything is measured.
    let models = models(&cli)?;
    anyhow::ensure!(cli.batch.iter().all(|&batch| batch > 0), "--batch takes 1 or more images");

    let place = BenchDevice::open(&cli.run.device)?;
    let mut context = place.context(threads)?;
    let policies = policies(&cli, context.library.is_some());
    if let Some(interpreter) = &cli.pytorch {
        let (with, version) = context.with_pytorch(interpreter)?;
        context = with;
        eprintln!("PyTorch {version} captures networks in graphs");
    }
    let hardware = match place.gpu() {
        None => Hardware::cpu(threads),
        Some(gpu) => Hardware::gpu(gpu),
    };
    eprintln!("{}: {hardware}", cli.run.device);
    let mut environment = Environment::read(&cli.run.device);
    environment.threads = Some(threads);
    if let Some(gpu) = place.gpu() {
        environment.ran_on(gpu.name(), gpu.limits().software);
    }
    let tree = ResultsTree::at(&cli.results.results);
    let (stored, failures) = measure_all(&cli, &models, &policies, &context, &environment, &tree)?;
    if cli.run.json.json {
        let rows: Vec<&SpeedupRow> = stored.iter().flat_map(|one| &one.rows).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        for group in speedup_groups(&stored) {
            println!("\n{}\n\n{}", group.heading(), speedup_table(&group).markdown());
        }
    }
    if is_stored(&cli, &policies) && !stored.is_empty() {
        eprintln!("stored under {}: `tables` shows them", cli.results.results.display());
    }
    anyhow::ensure!(failures.is_empty(), "not measured, see above: {}", failures.join("; "));
    Ok(())
}

/// The policies that were asked for, all where none was, and the dense one where there is no library to compare with.
fn policies(cli: &Speedup, has_library: bool) -> Vec<Policy> {
    let mut policies = cli.policy.clone();
    if policies.is_empty() {
        return Policy::ALL.to_vec();
    }
    if !has_library && !policies.contains(&Policy::Dense) {
        policies.insert(0, Policy::Dense);
    }
    policies
}

/// The networks that were asked for, with their pruned models.
fn models(cli: &Speedup) -> anyhow::Result<Vec<ModelUnderTest>> {
    let names: Vec<&str> = match &cli.networks[..] {
        [] => zoo::NAMES.to_vec(),
        some => some.iter().map(|network| &*network.name).collect(),
    };
    if let Some(file) = &cli.weights {
        let [network] = &cli.networks[..] else {
            anyhow::bail!("--weights are of one network, not of {}", names.join(" and "))
        };
        return Ok(vec![ModelUnderTest::of_file(network, file, cli.key.as_deref())?]);
    }
    if let Some(own) = cli.networks.iter().find(|network| !network.is_of_zoo()) {
        anyhow::bail!("{} is not of the zoo: expected its weights, --weights <FILE>", own.name)
    }
    let open = |name: &&str| ModelUnderTest::open(name, &cli.zoo_dir.zoo_dir);
    Ok(names.iter().map(open).collect::<Result<_, _>>()?)
}

/// Measures and stores every network at every batch size; gives what was measured, and the names of what failed.
fn measure_all(
    cli: &Speedup,
    models: &[ModelUnderTest],
    policies: &[Policy],
    context: &BenchContext<'_>,
    environment: &Environment,
    tree: &ResultsTree,
) -> anyhow::Result<(Vec<StoredSpeedup>, Vec<String>)> {
    let machine = format!("{}, {}", environment.cpu, environment.isa.join(" "));
    let mut autotune =
        if cli.fresh { AutotuneCache::in_memory() } else { AutotuneCache::of_user(&machine)? };
    let (mut stored, mut failures) = (Vec::new(), Vec::new());
    for under_test in models {
        for &batch in &cli.batch {
            let name = format!("{}, batch {batch}", under_test.original.name);
            let rows = match measure(under_test, policies, batch, context, &mut autotune) {
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
            if is_stored(cli, policies) {
                tree.store_speedup(&measured)?;
            }
            if cli.profile {
                profile(under_test, policies, &measured.rows, context, &mut autotune)?;
            }
            stored.push(measured);
        }
    }
    Ok((stored, failures))
}

/// Whether measurements go into the results tree: a selection of the policies must not take the place of all, nor
/// somebody's weights that of published ones.
fn is_stored(cli: &Speedup, policies: &[Policy]) -> bool {
    cli.weights.is_none() && policies.len() == Policy::ALL.len()
}

/// A line on what was measured.
fn progress(rows: &[SpeedupRow]) {
    let time = |row: &SpeedupRow| format!("{} {:.1} us", row.policy, row.microseconds);
    let times: Vec<String> = rows.iter().map(time).collect();
    if let Some(row) = rows.first() {
        eprintln!("{}, batch {}: {}", row.network, row.batch, times.join(", "));
    }
}

/// Prints the steps of every policy's network.
fn profile(
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

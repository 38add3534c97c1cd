//! Whole networks, step by step, for those who profile: every policy beside libtorch, in turns in one run,
//! then where the time of one policy goes.
//!
//! ```text
//! cargo bench --bench networks                          # all networks, batch 1
//! cargo bench --bench networks -- lenet-5 16            # one network, one batch
//! cargo bench --bench networks -- alexnet 1 dense       # and the steps of another policy than scalpel
//! ```
//!
//! All cores; `--threads 1` takes one. Models are those of `zoo/`, else random ones of the same
//! sparsity. Each candidate is compared with libtorch before it is timed. Nothing is stored: `speedup` does.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use scalpel::bench::speedup::{BenchDevice, ModelUnderTest, PrunedModel, compiled, measure};
use scalpel::engine::{AutotuneCache, Policy, profile_table};
use scalpel::network::zoo;
use scalpel::options::BenchArgs;
use scalpel::report::Table;

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::on_cpu()?;
    let (threads, json, arguments) = (given.run.thread_count(), given.run.json, given.words);
    let names = arguments.first().map_or(zoo::NAMES.to_vec(), |name| vec![name.as_str()]);
    let batch = arguments.get(1).map_or(Ok(1), |text| text.parse())?;
    let policy = match arguments.get(2) {
        Some(name) => Policy::from_str(name, true).map_err(anyhow::Error::msg)?,
        None => Policy::Scalpel,
    };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let place = BenchDevice::open("cpu")?;
    let context = place.context(threads)?;
    let mut autotune = AutotuneCache::in_memory();
    for name in names {
        let under_test = match ModelUnderTest::open(name, &models) {
            Ok(under_test) => under_test,
            Err(error) => {
                eprintln!("{name}: left out: {error}");
                continue;
            }
        };
        let rows = measure(&under_test, &Policy::ALL, batch, &context, &mut autotune)?;
        let mut table = Table::new([
            "candidate",
            "us",
            "95%",
            "over libtorch",
            "over dense",
            "bytes",
            "weights",
        ]);
        for row in &rows {
            let [low, high] = row.interval;
            table.row([
                row.policy.clone(),
                format!("{:.1}", row.microseconds),
                format!("{low:.1} to {high:.1}"),
                row.speedup_over_library.map_or(String::new(), |ratio| format!("{ratio:.2}")),
                format!("{:.2}", row.speedup_over_dense),
                row.bytes.to_string(),
                row.weights_from.clone(),
            ]);
        }
        json.table(&format!("{name}, batch {batch}, {threads} threads"), &table);
        let chosen = rows.iter().find(|row| row.policy == policy.name());
        let chosen = chosen.context("a row of the policy")?;
        let ran = |model: &&PrunedModel| under_test.ran(model, policy, &chosen.weights_from);
        if let Some(model) = under_test.models.iter().find(ran) {
            let mut executable = compiled(model, policy, batch, &context, &mut autotune)?;
            let steps = profile_table(&executable.profile()?);
            json.note(&format!("{}, of {}:\n{steps}", policy.name(), model.from));
        }
    }
    Ok(())
}

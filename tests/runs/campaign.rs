//! Plans of many jobs, as a user runs them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{file, finished, node_recipe, read};

fn campaign(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campaign"));
    command.arg(folder.join("plan.toml")).args(["--synthetic", "--no-latency"]).args(arguments);
    command.arg("--checkpoints").arg(folder.join("checkpoints"));
    command.arg("--results").arg(folder.join("results"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_campaign_in_shards_does_every_job_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("own.toml"), node_recipe()).unwrap();
    let plan = r#"
        [[jobs]]
        experiment = "node_pruning"
        networks = ["lenet-300-100"]
        recipe = "own.toml"
        seeds = [1, 2, 3]
    "#;
    fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let first = campaign(folder.path(), &["--shard", "1/2"]);
    assert!(first.contains("2 done, 0 done before, 0 failed"), "{first}");
    assert!(first.contains("own seed 1: prune, epoch 1 of 4"), "{first}");
    let second = campaign(folder.path(), &["--shard", "2/2"]);
    assert!(second.contains("1 done, 0 done before, 0 failed"), "{second}");
    let again = campaign(folder.path(), &["--parallel", "2"]);
    assert!(again.contains("0 done, 3 done before, 0 failed"), "{again}");
    // A job is what its own binary does.
    let report = &finished().1;
    let stored = file(report, "results");
    let hash = stored.parent().unwrap().file_name().unwrap();
    let run = folder.path().join("results/node_pruning/lenet-300-100").join(hash).join("seed-1");
    assert_eq!(read(&run.join("metrics.csv")), read(&stored.join("metrics.csv")));
}

//! Files of models: published ones, and what `evaluate` and `prune` make of those of a run.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{failure, file, finished};

#[test]
fn the_published_models_of_mnist_are_what_their_cards_say() {
    published(|name| name.starts_with("lenet-"));
}

#[test]
fn the_published_models_of_cifar_10_are_what_their_cards_say() {
    published(|name| !name.starts_with("lenet-"));
}

/// Evaluates the published models of some names.
fn published(wanted: fn(&str) -> bool) {
    if std::env::var_os(scalpel::data::fetch::DATA_DIR_VARIABLE).is_none() {
        return scalpel::test_support::skip("data", "SCALPEL_DATA_DIR is not set");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let mut names = scalpel::models::names(&folder);
    names.retain(|name| wanted(name));
    assert!(!names.is_empty());
    // What each had correct of the first thousand when, of all, it had what its card says:
    // `evaluate --zoo <name> --images 1000 --json`.
    let first_thousand: Value =
        serde_json::from_str(include_str!("../data/zoo-first-thousand.json")).unwrap();
    for name in names {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command.args(["--json", "--zoo", &name, "--zoo-dir"]).arg(&folder);
        // The originals by libtorch; what was pruned by the kernels that it was pruned for.
        // (Those of CIFAR-10 take minutes in a test's build: by libtorch, too.)
        let policies = ["simd", "upright", "node", "combined"];
        let is_of = |policy: &&str| name.contains(&format!("-{policy}-pruning"));
        let is_slow = !name.starts_with("lenet-");
        if let Some(policy) = policies.into_iter().find(is_of).filter(|_| !is_slow) {
            command.args(["--policy", policy]);
        }
        // Of CIFAR-10, all would take minutes.
        let expected = first_thousand[&name].as_u64();
        if expected.is_some() {
            command.args(["--images", "1000"]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        match expected {
            // Another machine rounds otherwise.
            Some(expected) => {
                let correct = report["correct"].as_u64().unwrap();
                assert!(correct.abs_diff(expected) <= 1, "{name}: {correct}, not {expected}");
                assert_eq!((&report["agrees"], &report["total"]), (&Value::Null, &1000.into()));
            }
            None => assert_eq!(report["agrees"], true, "{report}"),
        }
    }
}

pub fn evaluate(weights: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    command.args(["lenet-300-100", "--synthetic", "--json", "--weights"]).arg(weights);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn prune(arguments: &[&str], input: &Path, output: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prune"));
    command.args(arguments).arg("--json").arg(input).arg("-o").arg(output);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn masked_compacted_and_sparse_files_of_one_network_score_the_same() {
    let (_, report) = finished();
    let folder = tempfile::tempdir().unwrap();
    let masked = evaluate(&file(report, "weights"));
    assert_eq!(masked["accuracy"], report["summary"]["accuracy_after"]);
    assert_eq!(masked["nodes_kept"], report["summary"]["nodes_kept"]);
    assert_eq!(masked["total"], 10_000);

    let compacted = folder.path().join("compacted.safetensors");
    let node = prune(&["node", "lenet-300-100"], &file(report, "weights"), &compacted);
    assert_eq!(node["bytes_after"], report["summary"]["bytes_pruned"]);
    assert_eq!(evaluate(&compacted), masked);

    let dense = folder.path().join("dense.safetensors");
    let groups = folder.path().join("groups.safetensors");
    let simd = ["simd", "--width", "8", "--threshold", "0.03"];
    prune(&simd, &file(report, "weights"), &dense);
    let stored =
        prune(&[&simd[..], &["--format", "groups"]].concat(), &file(report, "weights"), &groups);
    assert_eq!(evaluate(&groups), evaluate(&dense));
    assert!(stored["bytes_after"].as_u64() < stored["bytes_before"].as_u64());
    // The file is its arrays and a header: the bytes that were announced are the bytes that are there.
    let size = fs::metadata(&groups).unwrap().len();
    let announced = stored["bytes_after"].as_u64().unwrap();
    let masks = 4 * 2 * (300 + 100);
    assert!(size > announced + masks && size < announced + masks + 4096, "{size}, {announced}");

    let csr = folder.path().join("csr.safetensors");
    let magnitude = ["magnitude", "--fraction", "0.9", "--format", "csr"];
    let stored = prune(&magnitude, &file(report, "weights"), &csr);
    assert_eq!(stored["weights_kept"], 26_620);
    assert_eq!(evaluate(&csr)["total"], 10_000);
}

#[test]
fn a_state_dict_of_pytorch_is_converted_and_what_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let legacy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/legacy.pth.tar");
    let report = prune(&["convert"], &legacy, &output);
    assert_eq!((&report["weights_total"], output.exists()), (&Value::from(6), true));

    let input = folder.path().join("text.pth");
    fs::write(&input, "no state dict").unwrap();
    let refused = folder.path().join("refused.safetensors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_prune"));
    command.arg("convert").arg(&input).arg("-o").arg(&refused);
    let message = failure(&command.output().unwrap());
    assert!(message.contains("text.pth: expected a safetensors file"), "{message}");
    assert!(!refused.exists());
}

#[test]
fn prune_says_that_a_dense_file_stores_zeros_too() {
    let (_, report) = finished();
    let folder = tempfile::tempdir().unwrap();
    for (format, hinted) in [("dense", true), ("csr", false)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prune"));
        command.args(["magnitude", "--fraction", "0.9", "--format", format]);
        command.arg(file(report, "weights"));
        let output = command.arg("-o").arg(folder.path().join(format)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("26620 of 266200 weights left, 90.0% removed"), "{text}");
        assert_eq!(text.contains("zeros are stored too"), hinted, "{text}");
    }
}

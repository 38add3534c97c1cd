//! Files that people have: each is read rightly, or refused by name. The files, and the program that wrote most of
//! them, lie in `tests/data/cases`.

#![cfg(feature = "experiments")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use scalpel::import::{self, Imported};
use scalpel::network::Weights;

fn case(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cases")).join(name)
}

fn read(name: &str) -> Imported {
    import::read(&case(name), None).unwrap_or_else(|error| panic!("{error}"))
}

fn error(name: &str, key: Option<&str>) -> String {
    import::read(&case(name), key).unwrap_err().to_string()
}

/// Asserts that these are the arrays that nearly every file holds.
fn check(name: &str, weights: &Weights) {
    let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ip1.bias", "ip1.weight", "ip2.bias", "ip2.weight"], "{name}");
    for (array, shape) in [("ip1.weight", [4, 8]), ("ip2.weight", [2, 4])] {
        let array = weights.get(array).unwrap();
        assert_eq!(array.shape(), shape, "{name}");
    }
    let first: Vec<f32> = weights.get("ip1.weight").unwrap().iter().copied().collect();
    let expected: Vec<f32> = (0..32).map(|i| i as f32 / 8.0).collect();
    assert_eq!(first, expected, "{name}");
}

#[test]
fn every_way_of_keeping_a_state_dict_is_read() {
    for name in [
        "python2.pth.tar",
        "under-net.pth",
        "under-model.pth",
        "under-model_state_dict.pth",
        "prefix-compiled-parallel.pth",
        "protocol-3.pth",
        "protocol-4.pth",
        "protocol-5.pth",
        "with-sets.pth",
        "with-optimizer.pth",
        "whole-module.pth",
        "whole-module-parallel.pth",
        "whole-module-in-checkpoint.pth",
        "model.safetensors.index.json",
    ] {
        check(name, &read(name).weights);
    }
}

#[test]
fn of_two_models_the_one_is_read_that_is_asked_for() {
    let text = error("two-models.pth", None);
    assert!(text.contains("--key") && text.contains(" and "), "{text}");
    assert!(text.contains("ema"), "{text}");
    let ema = import::read(&case("two-models.pth"), Some("ema")).unwrap();
    assert!(ema.weights.find("ip1.weight").is_some());
    let text = error("two-models.pth", Some("emma"));
    assert!(text.contains("under the key emma") && text.contains("ema"), "{text}");
    // The same dictionary, shared by both entries: still two, and either is whole.
    let text = error("shared-twice.pth", None);
    assert!(text.contains("best and last"), "{text}");
    for key in ["best", "last"] {
        check(key, &import::read(&case("shared-twice.pth"), Some(key)).unwrap().weights);
    }
    let text = error("bf16.safetensors", Some("ema"));
    assert!(text.contains("--key ema"), "{text}");
}

#[test]
fn masks_that_pytorch_left_apart_are_applied_and_said() {
    let imported = read("torch-prune.pth");
    let names: Vec<&str> = imported.weights.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ip1.bias", "ip1.weight", "ip2.bias", "ip2.weight"]);
    let weight = imported.weights.get("ip1.weight").unwrap();
    let zeros = weight.iter().filter(|&&value| value == 0.0).count();
    // What is left is as it was.
    let kept = weight.iter().enumerate().filter(|(_, value)| **value != 0.0);
    assert!(kept.clone().count() > 0 && zeros > 1, "{weight:?}");
    assert!(kept.clone().all(|(i, &value)| value == i as f32 / 8.0), "{weight:?}");
    assert!(imported.notes.iter().any(|note| note.contains("torch.nn.utils.prune")));
}

#[test]
fn two_arrays_of_one_name_are_an_error_that_names_both() {
    let text = error("prefix-collision.pth", None);
    assert!(text.contains("one array for") && text.contains(" and "), "{text}");
    assert!(text.contains("module."), "{text}");
}

#[test]
fn other_floats_are_widened_or_narrowed_and_counters_passed_over_and_all_is_said() {
    for (name, said) in [
        ("bf16.safetensors", "widened from bfloat16"),
        ("f16-and-counter.safetensors", "widened from half precision"),
        ("f64-empty-metadata.safetensors", "rounded from 64 to 32 bits"),
    ] {
        let imported = read(name);
        check(name, &imported.weights);
        assert!(imported.notes.iter().any(|note| note.contains(said)), "{:?}", imported.notes);
    }
    let counter = read("f16-and-counter.safetensors");
    let said = "passed over, integers: n_averaged";
    assert!(counter.notes.iter().any(|note| note == said), "{:?}", counter.notes);
}

#[test]
fn strided_and_expanded_tensors_are_what_they_show_within_reason() {
    let weights = read("strided.pth").weights;
    let values = |name: &str| -> Vec<f32> { weights.get(name).unwrap().iter().copied().collect() };
    assert_eq!(values("ip1.bias"), [1.0; 4]);
    let expected: Vec<f32> = (0..8).map(|i| i as f32 / 8.0).collect();
    assert_eq!(values("ip2.weight"), expected);
    let text = error("expanded-beyond-reason.pth", None);
    assert!(text.contains("ip1.weight") && text.contains("far more than the file holds"), "{text}");
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    for (name, expected) in [
        ("sparse-tensor.pth", "_rebuild_sparse_tensor"),
        ("integers-only.pth", "only integers, ip1.weight"),
        ("outside.index.json", "shards that lie beside the index"),
        ("missing-shard.index.json", "model-00003-of-00003.safetensors"),
    ] {
        let text = error(name, None);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

fn prune(arguments: &[&str], input: &Path, output: &Path) -> Command {
    let mut command = Command::cargo_bin("prune").unwrap();
    command.env("RUST_BACKTRACE", "1").args(arguments).arg(input).arg("-o").arg(output);
    command
}

#[test]
fn an_error_is_one_line_without_a_backtrace() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    for (input, expected) in [
        (case("no such file.pth"), "cannot read"),
        (case("two-models.pth"), "choose with --key"),
        (case("prefix-collision.pth"), "one array for"),
    ] {
        let failed = prune(&["convert"], &input, &output).assert().failure().get_output().clone();
        let text = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        assert!(text.starts_with("error: ") && text.contains(expected), "{text}");
        assert!(!output.exists(), "nothing is written");
    }
}

#[test]
fn arrays_of_no_layer_are_listed_and_a_file_without_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out"));
    let array = |shape: &[usize]| ndarray::ArrayD::ones(ndarray::IxDyn(shape));
    let mut weights = Weights::default();
    weights.insert("ip1.weight", array(&[2, 8]));
    weights.insert("ip1.bias", array(&[2]));
    weights.insert("embedding.table", array(&[3, 8]));
    weights.insert("ip2.weight_orig", array(&[2, 2]));
    std::fs::write(&input, weights.to_bytes(None).unwrap()).unwrap();
    let magnitude = ["magnitude", "--fraction", "0.5"];
    let done = prune(&magnitude, &input, &output).assert().success().get_output().clone();
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(text.contains("of no layer, and kept as they are: embedding.table, ip2.weight_orig"));

    weights.remove("ip1.weight");
    std::fs::write(&input, weights.to_bytes(None).unwrap()).unwrap();
    let failed = prune(&magnitude, &input, &output).assert().failure().get_output().clone();
    let text = String::from_utf8_lossy(&failed.stderr);
    assert!(text.contains("whose name ends in .weight"), "{text}");
}

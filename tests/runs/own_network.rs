//! A network that the zoo does not have, from its description to the tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use scalpel::network::Network;
use scalpel::train::recipe::Recipe;
use serde_json::Value;

use super::{Workplace, failure, recipe};

/// With so many nodes in its convolution.
fn description(nodes: usize) -> String {
    format!(
        r#"{{ "name": "own", "input": [1, 28, 28], "layers": [
            {{ "name": "features.0", "op": {{ "conv": {{ "outputs": {nodes}, "kernel": 5, "stride": 2 }} }} }},
            {{ "name": "features.1", "op": "relu" }},
            {{ "name": "features.2", "op": {{ "max-pool": {{ "kernel": 2, "stride": 2 }} }} }},
            {{ "name": "mask", "op": "mask" }},
            {{ "name": "classifier", "op": {{ "linear": {{ "outputs": 10 }} }} }}
        ] }}"#
    )
}

/// A folder with a recipe for it.
fn workplace(binary: &'static str, recipe: &str) -> Workplace {
    let mut workplace =
        Workplace::new(binary, &recipe.replace("lenet-300-100", "own").replace("0.05", "0.02"));
    fs::write(workplace.path("own.json"), description(16)).unwrap();
    workplace.network = workplace.path("own.json").to_str().unwrap().to_owned();
    workplace
}

#[test]
fn a_network_that_a_file_describes_is_trained_pruned_and_shown() {
    let node = recipe("node-pruning", r#"{ node = { target = "all", penalty = 0.02 } }"#, 0.05);
    let workplace = workplace("node_pruning", &node);
    let report = workplace.finish_with_latency();
    let summary = &report["summary"];
    let accuracy = summary["accuracy_after"].as_f64().unwrap();
    assert!(summary["network"] == "own" && accuracy > 90.0, "{summary}");
    let kept = summary["nodes_kept"][0].as_u64().unwrap();
    assert!(0 < kept && kept < 16, "{summary}");
    assert!(report["latency"].to_string().contains("scalpel"), "{report}");

    let into = workplace.path("into");
    fs::create_dir(&into).unwrap();
    fs::write(into.join("README.md"), "<!-- results:begin -->\n<!-- results:end -->\n").unwrap();
    let mut tables = Command::new(env!("CARGO_BIN_EXE_tables"));
    tables.arg("--into").arg(&into).arg("--results").arg(workplace.path("results"));
    let output = tables.arg("--zoo-dir").arg(workplace.path("no models")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let techniques = fs::read_to_string(into.join("docs/results/techniques.md")).unwrap();
    assert!(techniques.lines().any(|line| line.starts_with("| own ")), "{techniques}");

    let mut evaluate = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    evaluate.args([&*workplace.network, "--synthetic", "--json", "--weights"]);
    evaluate.arg(report["weights"].as_str().unwrap());
    evaluate.arg("--recipe").arg(workplace.path("recipe.toml"));
    for policy in [&[][..], &["--policy", "scalpel"]] {
        let output = evaluate.args(policy).output().unwrap();
        let score: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(score["accuracy"], summary["accuracy_after"], "{policy:?}: {score}");
        assert_eq!(score["nodes_kept"], summary["nodes_kept"], "{policy:?}: {score}");
    }

    // Another network of the same name goes on from none of the first one's checkpoints.
    fs::write(workplace.path("own.json"), description(8)).unwrap();
    let other = workplace.finish();
    assert_ne!(other["results"], report["results"]);
    assert_eq!(other["summary"]["nodes_total"], Value::from(vec![8]));

    // The stored recipe describes its network: with another description it is refused.
    let stored = workplace.path("results").join(report["results"].as_str().unwrap());
    let mut again = Command::new(env!("CARGO_BIN_EXE_node_pruning"));
    again.arg(&workplace.network).arg("--recipe").arg(stored.join("recipe.toml"));
    let message = failure(&again.output().unwrap());
    assert!(message.contains("a recipe for own as it is described"), "{message}");
}

#[test]
fn the_example_is_a_recipe_for_its_network() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let network = Network::open(examples.join("network.json").to_str().unwrap()).unwrap();
    let recipe = Recipe::load_for(&network, &examples.join("recipe.toml")).unwrap();
    assert_eq!(recipe.original_network().unwrap(), network);
    assert_eq!(recipe.quick().stages.len(), 2);
    let again = Recipe::parse(&recipe.to_toml().unwrap(), "recipe").unwrap();
    assert_eq!((again.hash(), &again), (recipe.hash(), &recipe), "stored, it describes itself");
}

#[test]
fn what_does_not_fit_a_network_of_ones_own_is_refused() {
    let simd = recipe("simd-pruning", "{ simd = { width = 8, threshold = 0.03 } }", 0.05);
    let workplace = workplace("simd_pruning", &simd);
    let mut without = Command::new(env!("CARGO_BIN_EXE_simd_pruning"));
    let message = failure(&without.arg(&workplace.network).output().unwrap());
    assert!(message.contains("a recipe of your own"), "{message}");
    for (network, expected) in [
        (description(16).replace("\"outputs\": 10", "\"outputs\": 7"), "each of the 10 classes"),
        (description(16).replace("28, 28", "32, 32"), "images of shape [1, 32, 32]"),
        (description(16).replace("own", "../own"), "letters, digits"),
        (description(16).replace("own", "other"), "a recipe for other"),
    ] {
        fs::write(workplace.path("own.json"), network).unwrap();
        let message = failure(&workplace.command().output().unwrap());
        assert!(message.contains(expected), "{message}");
    }
}

//! The binaries as a user runs them: runs that survive, and files that fit each other.
#![cfg(all(feature = "experiments", feature = "torch"))]

mod campaign;
mod models;
mod own_network;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, thread};

use serde_json::Value;

use self::models::evaluate;

/// Three short stages on few images; `prune` is that of the middle one.
fn recipe(technique: &str, prune: &str, learning_rate: f64) -> String {
    format!(
        r#"
network = "lenet-300-100"
technique = "{technique}"
dataset = "mnist"
seed = 1
train_images = 5000
batch_size = 50
momentum = 0.9
weight_decay = 1e-4
first_epoch = 1
pixels = {{ mean = [0.1307], deviation = [0.3081] }}
initial = {{ conv = {{ fan-in = {{}} }}, ip = {{ fan-in = {{}} }} }}
beta = {{ initial = 0.8002, limit = 0.802 }}
stages = [
    {{ name = "original", learning_rate = {learning_rate}, learning_rate_epochs = 3, epochs = 4, keep = "best" }},
    {{ name = "prune", learning_rate = 0.01, learning_rate_epochs = 4, epochs = 4, prune = {prune}, keep = "last" }},
    {{ name = "retrain", learning_rate = 0.01, learning_rate_epochs = 4, epochs = 3, keep = "best" }},
]
"#
    )
}

const NODE: &str = r#"{ node = { target = "all", penalty = 0.0003 } }"#;
const SIMD: &str = "{ simd = { width = 8, threshold = 0.03 } }";

fn node_recipe() -> String {
    recipe("node-pruning", NODE, 0.05)
}

/// A run's folder: its recipe, checkpoints and results.
struct Workplace {
    folder: tempfile::TempDir,
    binary: &'static str,
    /// A network of the zoo, or a file that describes one.
    network: String,
}

impl Workplace {
    fn new(binary: &'static str, recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
        Self { folder, binary, network: "lenet-300-100".into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without inference times, which few tests look at.
    fn command(&self) -> Command {
        let mut command = self.command_with_latency();
        command.arg("--no-latency");
        command
    }

    fn command_with_latency(&self) -> Command {
        let binary = match self.binary {
            "node_pruning" => env!("CARGO_BIN_EXE_node_pruning"),
            "combined_pruning" => env!("CARGO_BIN_EXE_combined_pruning"),
            _ => env!("CARGO_BIN_EXE_simd_pruning"),
        };
        let mut command = Command::new(binary);
        command.args([&*self.network, "--synthetic", "--threads", "1", "--json", "--recipe"]);
        command.arg(self.path("recipe.toml"));
        command.arg("--checkpoints").arg(self.path("checkpoints"));
        command.arg("--results").arg(self.path("results"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs to the end and returns the report.
    fn finish(&self) -> Value {
        Self::report(self.command())
    }

    /// The same, with inference times.
    fn finish_with_latency(&self) -> Value {
        Self::report(self.command_with_latency())
    }

    fn report(mut command: Command) -> Value {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
        reports[0].clone()
    }
}

fn file(report: &Value, key: &str) -> PathBuf {
    PathBuf::from(report[key].as_str().unwrap())
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn failure(output: &Output) -> String {
    assert!(!output.status.success(), "it should have failed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node-pruning run that was never interrupted, shared by the tests that only read it.
fn finished() -> &'static (Workplace, Value) {
    static RUN: OnceLock<(Workplace, Value)> = OnceLock::new();
    RUN.get_or_init(|| {
        let workplace = Workplace::new("node_pruning", &node_recipe());
        let report = workplace.finish();
        (workplace, report)
    })
}

#[test]
fn a_run_begins_with_the_original_network_of_another() {
    let (_, report) = finished();
    let original = file(report, "original");
    let fresh = Workplace::new("node_pruning", &node_recipe());
    let with_original = |path: &Path| {
        let output = fresh.command().arg("--original").arg(path).output().unwrap();
        let reports =
            output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap());
        (output, reports.map(|reports: Value| reports[0].clone()))
    };
    let (_, Some(begun)) = with_original(&original) else { panic!("it should run") };
    // It goes on from there exactly as the run that trained it, under a name of its own.
    assert_eq!(read(&file(&begun, "weights")), read(&file(report, "weights")));
    let (summary, before) = (&begun["summary"], &report["summary"]);
    for same in ["accuracy_before", "accuracy_after", "nodes_kept", "bytes_pruned"] {
        assert_eq!(summary[same], before[same], "{same}");
    }
    let sha256 = scalpel::data::fetch::sha256(&read(&original));
    assert_eq!(summary["original_weights"], sha256.as_str());
    assert_ne!(file(&begun, "results").parent(), file(report, "results").parent());

    // The stored recipe asks for that very file.
    let stored = file(&begun, "results").join("recipe.toml");
    let again = Workplace::new("node_pruning", &fs::read_to_string(stored).unwrap());
    let error = failure(&again.command().output().unwrap());
    assert!(error.contains("--original") && error.contains(&sha256), "{error}");
    let pruned = file(report, "weights");
    let error = failure(&again.command().arg("--original").arg(&pruned).output().unwrap());
    assert!(error.contains(&sha256) && error.contains("weights.safetensors with"), "{error}");
    // A network that is pruned already is no original.
    let (output, _) = with_original(&pruned);
    let error = failure(&output);
    assert!(error.contains("no node of it masked"), "{error}");
}

fn killed_runs_end_like_an_uninterrupted_one(binary: &'static str, recipe: &str, whole: &Value) {
    let workplace = Workplace::new(binary, recipe);
    let mut kills = 0;
    for attempt in 0..40_u64 {
        let mut child =
            workplace.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Later and later, so that every run gets further than the one before.
        thread::sleep(Duration::from_millis(400 + 173 * attempt));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills >= 2, "the run was too short to be interrupted");
    let resumed = workplace.finish();
    assert_eq!(read(&file(&resumed, "weights")), read(&file(whole, "weights")), "{kills} kills");
    for name in ["metrics.csv", "summary.json", "recipe.toml"] {
        let [resumed, whole] =
            [&resumed, whole].map(|report| read(&file(report, "results").join(name)));
        assert_eq!(resumed, whole, "{name} after {kills} kills");
    }
    // How long it took is of this run; epochs that were lost to a kill do not count.
    let durations: Value =
        serde_json::from_slice(&read(&file(&resumed, "results").join("durations.json"))).unwrap();
    let stages = durations.as_array().unwrap();
    let names = |stages: &[Value]| -> Vec<Value> {
        stages.iter().map(|stage| stage["name"].clone()).collect()
    };
    assert_eq!(names(stages), names(whole["summary"]["stages"].as_array().unwrap()));
    assert!(stages.iter().all(|stage| stage["seconds"].as_f64().unwrap() > 0.0), "{durations}");
}

#[test]
fn node_pruning_killed_at_any_point_ends_in_the_same_weights() {
    killed_runs_end_like_an_uninterrupted_one("node_pruning", &node_recipe(), &finished().1);
}

#[test]
fn simd_pruning_killed_at_any_point_ends_in_the_same_weights() {
    let recipe = recipe("simd-pruning", SIMD, 0.05);
    let whole = Workplace::new("simd_pruning", &recipe);
    let report = whole.finish();
    killed_runs_end_like_an_uninterrupted_one("simd_pruning", &recipe, &report);
}

#[test]
fn a_finished_run_is_not_trained_again() {
    let (workplace, first) = finished();
    let of_training = |report| {
        ["environment.json", "durations.json"].map(|name| read(&file(report, "results").join(name)))
    };
    let before = of_training(first);
    let again = workplace.finish();
    assert_eq!(again["summary"], first["summary"]);
    assert!(of_training(&again) == before);
}

#[test]
fn training_on_digits_learns_and_node_pruning_prunes() {
    let summary = &finished().1["summary"];
    assert_eq!(summary["dataset"], "synthetic-digits");
    let accuracy = summary["accuracy_after"].as_f64().unwrap();
    assert!(accuracy > 90.0, "{accuracy}");
    let kept: Vec<u64> =
        summary["nodes_kept"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert!(kept[0] < 300 && kept[0] > 0, "{kept:?}");
    assert!(summary["bytes_pruned"].as_u64() < summary["bytes_dense"].as_u64());
}

/// Node pruning, then groups of what is left.
fn combined_recipe() -> String {
    let simd = r#"    { name = "groups", learning_rate = 0.01, learning_rate_epochs = 4, epochs = 2, compact = true, prune = { simd = { width = 8, threshold = 0.03, target = "ip" } }, keep = "last" },
]"#;
    recipe("combined-pruning", NODE, 0.05).replace("\n]\n", &format!("\n{simd}\n"))
}

#[test]
fn both_techniques_cut_groups_from_the_compacted_network() {
    let workplace = Workplace::new("combined_pruning", &combined_recipe());
    let report = workplace.finish();
    let summary = &report["summary"];
    let stages = summary["stages"].as_array().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let nodes: Vec<u64> = summary["nodes_kept"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(summary["nodes_kept"], stages[2]["nodes_kept"], "compaction keeps the living nodes");
    assert!(nodes[0] < 300, "{nodes:?}");
    // The compacted network is full until groups go.
    let full = 784 * nodes[0] + nodes[0] * nodes[1] + nodes[1] * 10;
    assert_eq!(number(&stages[2]["weights_kept"]), full);
    assert!(number(&summary["weights_kept"]) < full);
    assert_eq!(number(&summary["weights_total"]), 266_200);
    assert!(number(&summary["bytes_pruned"]) < 4 * full);
    // The file tells its network, so that it is measured as what it is.
    let weights = file(&report, "weights");
    assert_eq!(evaluate(&weights)["accuracy"], summary["accuracy_after"]);
    assert_eq!(evaluate(&weights)["nodes_kept"], summary["nodes_kept"]);
    // Inference times are added later, and nothing is trained again for them.
    let latency = file(&report, "results").join("latency.json");
    assert!(report["latency"].is_null() && !latency.exists());
    let durations = file(&report, "results").join("durations.json");
    let before = read(&durations);
    let timed = workplace.finish_with_latency();
    let times = &timed["latency"]["rows"][0]["times"];
    assert!(["dense", "compacted"].iter().all(|name| times[name]["median"].as_f64() > Some(0.0)));
    assert!(latency.exists() && read(&durations) == before);
    // And one that does not ask for them leaves those that are there.
    assert!(workplace.finish()["latency"].is_null() && latency.exists());
    killed_runs_end_like_an_uninterrupted_one("combined_pruning", &combined_recipe(), &report);
}

#[test]
fn node_pruning_may_retrain_the_compacted_network() {
    let epochs = "epochs = 3, keep";
    let recipe = node_recipe().replace(epochs, "epochs = 3, compact = true, keep");
    assert_ne!(recipe, node_recipe());
    let workplace = Workplace::new("node_pruning", &recipe);
    let report = workplace.finish_with_latency();
    let summary = &report["summary"];
    let stages = summary["stages"].as_array().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let nodes: Vec<u64> = summary["nodes_kept"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(summary["nodes_kept"], stages[1]["nodes_kept"], "retraining keeps the nodes");
    assert!(nodes[0] < 300, "{nodes:?}");
    let full = 784 * nodes[0] + nodes[0] * nodes[1] + nodes[1] * 10;
    assert_eq!(number(&summary["weights_kept"]), full);
    let measured = evaluate(&file(&report, "weights"));
    assert_eq!(measured["accuracy"], summary["accuracy_after"]);
    assert_eq!(measured["nodes_kept"], summary["nodes_kept"]);
    let times = &report["latency"]["rows"][0]["times"];
    assert!(times["masked"].is_null(), "there is no masked network of that size: {times}");
    assert!(["dense", "compacted"].iter().all(|name| times[name]["median"].as_f64() > Some(0.0)));
}

#[test]
fn tables_are_the_same_bytes_when_written_twice_and_stay_where_there_is_no_tree() {
    let (workplace, _) = finished();
    let tables = |results: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tables"));
        command.arg("--results").arg(workplace.path(results));
        command.arg("--into").arg(workplace.path(".")).output().unwrap()
    };
    let written = || {
        assert!(tables("results").status.success());
        [read(&workplace.path("RESULTS.md")), read(&workplace.path("docs/results/techniques.md"))]
    };
    let first = written();
    // A plot of a run that is gone goes too; what is no plot stays.
    let plots = workplace.path("results/plots");
    std::fs::create_dir_all(&plots).unwrap();
    for name in ["node_pruning-of-a-run-that-is-gone.svg", "notes.txt"] {
        std::fs::write(plots.join(name), "").unwrap();
    }
    assert_eq!(first, written());
    assert!(!plots.join("node_pruning-of-a-run-that-is-gone.svg").exists());
    assert!(plots.join("notes.txt").exists());
    std::fs::remove_file(plots.join("notes.txt")).unwrap();
    let text = String::from_utf8_lossy(&first[1]);
    assert!(text.contains("SYNTHETIC DIGITS") && text.contains("not run"), "{text}");
    // A tree that is not there overwrites nothing.
    assert!(failure(&tables("result")).contains("expected a folder"));
    assert_eq!(first[0], read(&workplace.path("RESULTS.md")));
}

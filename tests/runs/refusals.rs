//! What stops a run, and what it then says and leaves behind.

use std::fs;
use std::process::Command;

use super::{NODE, Workplace, failure, file, finished, node_recipe, read, recipe};

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_place() {
    let workplace = Workplace::new("node_pruning", &recipe("node-pruning", NODE, 1e12));
    let message = failure(&workplace.command().output().unwrap());
    assert!(message.contains("stage original") && message.contains("epoch 1"), "{message}");
    assert!(
        message.contains("batch") && message.contains("learning rate 1000000000000"),
        "{message}"
    );
    assert!(!workplace.path("results").exists(), "no result of a run that failed");
}

#[test]
fn a_full_disk_is_named_and_the_run_goes_on_once_there_is_room() {
    let workplace = Workplace::new("node_pruning", &node_recipe());
    // No file may grow beyond 200 KiB: a write then fails as it does on a full disk.
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "bash"]);
    let inner = workplace.command();
    shell.arg(inner.get_program()).args(inner.get_args());
    let message = failure(&shell.output().unwrap());
    assert!(
        message.contains("cannot write") && message.contains("progress.safetensors"),
        "{message}"
    );
    let litter = fs::read_dir(workplace.path("checkpoints")).unwrap().flatten();
    for stage in
        litter.flat_map(|entry| fs::read_dir(entry.path().join("seed-1")).unwrap().flatten())
    {
        assert_eq!(stage.file_name(), "lock", "nothing half-written stays");
    }
    let report = workplace.finish();
    assert_eq!(read(&file(&report, "weights")), read(&file(&finished().1, "weights")));
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_training() {
    for name in ["checkpoints", "results"] {
        let workplace = Workplace::new("node_pruning", &node_recipe());
        fs::write(workplace.path(name), "a file where the folder should be").unwrap();
        let message = failure(&workplace.command().output().unwrap());
        assert!(message.contains("create the folder") && message.contains(name), "{message}");
        assert!(!message.contains("epochs"), "{message}");
    }
}

#[test]
fn held_out_images_are_some_of_the_training_images_and_not_all() {
    let workplace = Workplace::new("node_pruning", &node_recipe());
    for held in ["0", "1000000"] {
        let message = failure(&workplace.command().args(["--validation", held]).output().unwrap());
        assert!(message.contains("expected at least 1 of the"), "{message}");
        assert!(message.contains(&format!("got {held}")), "{message}");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused_and_kept() {
    let (_, report) = finished();
    let foreign = file(report, "weights").with_file_name("result.safetensors");
    let workplace = Workplace::new("node_pruning", &node_recipe());
    // The folder of the first stage of seed 2, with a checkpoint of seed 1's last stage in it.
    let output = workplace.command().args(["--seed", "2"]).output().unwrap();
    assert!(output.status.success());
    let mut changed = Vec::new();
    for stage in fs::read_dir(workplace.path("checkpoints")).unwrap().flatten() {
        let path = stage.path().join("seed-2/result.safetensors");
        fs::copy(&foreign, &path).unwrap();
        changed.push(path);
    }
    let message = failure(&workplace.command().args(["--seed", "2"]).output().unwrap());
    assert!(message.contains("this checkpoint is of lenet-300-100, stage retrain"), "{message}");
    assert!(message.contains("not of lenet-300-100, stage original"), "{message}");
    assert!(message.contains("seed 2") && message.contains("nothing was overwritten"), "{message}");
    for path in changed {
        assert_eq!(read(&path), read(&foreign), "it must lie there as it was");
    }
}

#[test]
fn recipes_with_an_unknown_field_or_no_seed_are_refused() {
    for (from, to, message) in [
        ("batch_size = 50", "batch_size = 50\nnesterov = true", "nesterov"),
        ("seed = 1", "", "seed"),
        ("epochs = 4, keep", "epochs = 0, keep", "stage original, epochs"),
        ("node-pruning", "simd-pruning", "what the recipe's technique prunes"),
    ] {
        let workplace = Workplace::new("node_pruning", &node_recipe().replacen(from, to, 1));
        let error = failure(&workplace.command().output().unwrap());
        assert!(error.contains(message) && error.contains("recipe.toml"), "{error}");
    }
}

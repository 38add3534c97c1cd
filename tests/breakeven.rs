//! The break-even sweep as a user runs it.
#![cfg(all(feature = "experiments", feature = "torch"))]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use scalpel::report::{ResultsTree, breakeven_plot};
use serde_json::Value;

fn breakeven(results: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_breakeven"))
        .args(arguments)
        .arg("--results")
        .arg(results)
        .output()
        .expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn points_are_printed_stored_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let sweep = ["--shape", "24x64,16x40", "--density", "0.25,1", "--columns", "1", "--width", "4"];
    let output = breakeven(&results, &[&sweep[..], &["--threads", "1", "--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let points = printed.as_array().unwrap();
    assert_eq!(points.len(), 4);
    for point in points {
        let number = |name: &str| point[name].as_f64().unwrap_or_else(|| panic!("{name}: {point}"));
        let [m, k] = [number("m"), number("k")];
        assert_eq!(point["shape"].as_str(), Some(format!("{m}x{k}").as_str()));
        assert_eq!(number("group_width"), 4.0);
        assert!(number("gflops") > 0.0 && number("dense_gflops") > 0.0);
        assert!(number("csr_gflops") > 0.0 && !point["dense_library"].as_str().unwrap().is_empty());
        assert_eq!(number("n"), 1.0);
        let kernel = point["kernel"].as_str().unwrap();
        assert!(kernel.ends_with("_n1"), "{kernel}");
        if number("asked_density") == 1.0 {
            assert_eq!(number("density"), 1.0);
        }
    }

    let processor = fs::read_dir(results.join("breakeven")).unwrap().next().unwrap().unwrap();
    let sweep = fs::read_dir(processor.path()).unwrap().next().unwrap().unwrap().path();
    let stored: Value =
        serde_json::from_str(&fs::read_to_string(sweep.join("points.json")).unwrap()).unwrap();
    assert_eq!(stored, printed);
    assert!(sweep.join("environment.json").exists() && sweep.join("sweep.json").exists());

    let tables = Command::new(env!("CARGO_BIN_EXE_tables"))
        .arg("--results")
        .arg(&results)
        .arg("--into")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(tables.status.success(), "{}", stderr(&tables));
    let page = folder.path().join("docs/results/breakeven.md");
    let text = fs::read_to_string(page).unwrap();
    let hash = sweep.file_name().unwrap().to_string_lossy();
    assert!(text.contains("# Where group sparsity pays") && text.contains(&*hash), "{text}");
    let hardware = processor.file_name();
    let plot = format!("plots/breakeven-{}-{hash}.svg", hardware.to_string_lossy());
    assert!(results.join(plot).exists());
}

#[test]
fn what_cannot_be_swept_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (["--shape", "300by784"], "expected a shape such as 300x784"),
        (["--density", "1.5"], "a density of 0 to 1"),
        (["--columns", "1,0"], "N of at least 1"),
        (["--isa", "mmx"], "avx512, avx2 or portable"),
        (["--threads", "0"], "invalid value '0'"),
    ] {
        let output = breakeven(folder.path(), &arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("useful"), "{arguments:?} is refused before it measures");
    }
    assert!(!folder.path().join("breakeven").exists(), "nothing is stored of a failed sweep");
}

/// The first point of a small sweep, with an environment variable set.
fn first_point(name: &str, value: &Path, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_breakeven"))
        .args(["--shape", "8x16", "--density", "0.5", "--json", "--results"])
        .arg(folder.path())
        .args(arguments)
        .envs([("SCALPEL_OPENBLAS", ""), ("SCALPEL_BLIS", "")])
        .env(name, value)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let points: Value = serde_json::from_slice(&output.stdout).unwrap();
    points[0].clone()
}

#[test]
fn the_variant_is_the_one_that_was_asked_for() {
    let unused = Path::new("");
    let portable = first_point("UNUSED", unused, &["--columns", "3", "--isa", "portable"]);
    assert_eq!(portable["kernel"], "group_spmm_f32_portable_n8");
    let upright = ["--columns", "3", "--isa", "portable", "--pattern", "upright"];
    assert_eq!(first_point("UNUSED", unused, &upright)["kernel"], "upright_spmm_f32_portable");
    let name = "group_spmm_f32_portable_n1";
    let forced = first_point("SCALPEL_KERNEL", Path::new(name), &["--columns", "1"]);
    assert_eq!(forced["kernel"], name);
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_breakeven"))
        .args(["--shape", "8x16", "--columns", "1", "--results"])
        .arg(folder.path())
        .env("SCALPEL_KERNEL", "group_spmm_f32_mmx_n1")
        .output()
        .unwrap();
    assert!(!output.status.success() && stderr(&output).contains("portable_n1"));
}

#[test]
fn the_library_is_the_one_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // No MKL in an empty cache: libtorch stands in, and says so.
    let without = first_point("XDG_CACHE_HOME", folder.path(), &["--columns", "3"]);
    assert_eq!(without["dense_library"], "libtorch 2.11.0");
    // A library that was asked for is not passed over.
    let output = Command::new(env!("CARGO_BIN_EXE_breakeven"))
        .args(["--shape", "8x16", "--columns", "1", "--results"])
        .arg(folder.path())
        .env("SCALPEL_BLIS", folder.path().join("libblis.so"))
        .output()
        .unwrap();
    assert!(!output.status.success() && stderr(&output).contains("SCALPEL_BLIS"));
}

#[test]
fn a_gpu_takes_part_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let sweep = ["--device", "wgpu", "--shape", "40x64", "--density", "0.25", "--columns", "1,40"];
    let output = breakeven(&results, &[&sweep[..], &["--json"]].concat());
    if !output.status.success() {
        assert!(stderr(&output).contains("is not available"), "{}", stderr(&output));
        return scalpel::test_support::skip("wgpu", &stderr(&output));
    }
    let kernels = |output: &Output| -> Vec<String> {
        let points: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(points.iter().all(|point| point["gflops"].as_f64().unwrap() > 0.0), "{points:?}");
        points.iter().map(|point| point["kernel"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kernels(&output), ["group_spmm_f32_wgsl_n1", "group_spmm_f32_wgsl_columns32"]);
    let upright = |more: &[&str]| {
        breakeven(&results, &[&sweep[..], &["--json", "--pattern", "upright"], more].concat())
    };
    let of_upright = kernels(&upright(&[]));
    assert_eq!(of_upright[0], "upright_spmm_f32_wgsl_n1");
    assert!(of_upright[1].starts_with("upright_spmm_f32_wgsl_strips"), "{of_upright:?}");
    let refused = upright(&["--width", "3"]);
    assert!(stderr(&refused).contains("a group height of 2, 4, 8 or 16"), "{refused:?}");
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = breakeven(folder.path(), &["--device", "tpu"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("cpu, cuda, cuda:<number>, wgpu"), "{}", stderr(&output));
    let output = breakeven(folder.path(), &["--device", "cuda:99"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("is not available"), "{}", stderr(&output));
    let output = breakeven(folder.path(), &["--device", "wgpu", "--isa", "avx2"]);
    assert!(!output.status.success() && stderr(&output).contains("--isa"), "{}", stderr(&output));
}

#[test]
fn a_sweep_that_is_killed_keeps_its_points_and_a_whole_one_takes_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let sweep = ["--shape", "24x32", "--density", "0.2,0.4,0.6", "--columns", "16"];
    let arguments = [&sweep[..], &["--threads", "1"]].concat();
    let mut child = Command::new(env!("CARGO_BIN_EXE_breakeven"))
        .arg("--results")
        .arg(&results)
        .args(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The second point is told of before it is stored, the first one is stored by then.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let points = lines.by_ref().filter(|line| line.contains("useful GFLOP/s"));
    assert_eq!(points.take(2).count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let tree = ResultsTree::at(&results);
    let [cut] = &tree.sweeps().unwrap()[..] else { panic!("one sweep") };
    assert!((1..3).contains(&cut.points.len()), "{}", cut.points.len());
    assert!(cut.title().contains("of 3 points"), "{}", cut.title());
    breakeven_plot(cut).unwrap();

    assert!(breakeven(&results, &arguments).status.success());
    let [whole] = &tree.sweeps().unwrap()[..] else { panic!("one sweep") };
    assert_eq!((whole.points.len(), &whole.hash), (3, &cut.hash));
    assert!(!whole.title().contains("cut"), "{}", whole.title());
    // One that is cut later leaves it as it is.
    tree.store_sweep_part(&whole.sweep, &whole.points[..1], &whole.environment).unwrap();
    assert_eq!(tree.sweeps().unwrap()[0].points.len(), 3);
}

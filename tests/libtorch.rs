//! What training asks of libtorch, seen from inside it: with parts of libtorch's own interfaces in C++ beside it.
#![cfg(all(feature = "experiments", feature = "torch"))]

use std::ffi::{CString, c_char, c_long};
use std::path::{Path, PathBuf};
use std::process::Command;

use scalpel::data::{self, Normalise, Preprocessing, Source};
use scalpel::test_support;
use scalpel::train::recipe::{Recipe, Technique};
use scalpel::train::{Observer, Run};
use tch::Device;

/// Compiles a file of `tests/stand_in` beside libtorch as a library of that name; none without a C++ compiler.
fn library(source: &str, name: &str, folder: &Path) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libtorch = std::env::var_os("LIBTORCH").map_or(root.join(".libtorch"), PathBuf::from);
    let path = folder.join(name);
    let output = Command::new("g++")
        .args(["-std=c++17", "-O0", "-fPIC", "-shared", "-w", "-o"])
        .arg(&path)
        .arg(root.join("tests/stand_in").join(source))
        .arg("-I")
        .arg(libtorch.join("include"))
        .arg("-L")
        .arg(libtorch.join("lib"))
        .args(["-ltorch_cpu", "-lc10"])
        .output();
    match output {
        Err(error) => {
            test_support::skip("cuda-shim", &format!("g++: {error}"));
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(path)
        }
    }
}

/// libtorch looks for CUDA at the first question about it, for good. A library that registers a GPU, without being
/// able to do anything on it, is seen only by programs that load it before they ask.
#[test]
fn cuda_is_loaded_before_libtorch_is_asked_about_it() {
    let folder = tempfile::tempdir().unwrap();
    if library("torch_cuda.cpp", "libtorch_cuda.so", folder.path()).is_none() {
        return;
    }
    let zoo = concat!(env!("CARGO_MANIFEST_DIR"), "/zoo");
    let weights = format!("{zoo}/lenet-300-100-simd-pruning.safetensors");
    let evaluate = ["lenet-300-100", "--weights", &weights, "--synthetic"];
    let train = ["lenet-300-100", "--quick", "--synthetic", "--seed", "1"];
    for (program, arguments) in [
        (env!("CARGO_BIN_EXE_evaluate"), &evaluate[..]),
        (env!("CARGO_BIN_EXE_node_pruning"), &train),
    ] {
        let output = Command::new(program)
            .args(arguments)
            .args(["--device", "cuda"])
            .current_dir(folder.path())
            .env("LD_LIBRARY_PATH", folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "there is no GPU: {text}");
        assert!(!text.contains("libtorch sees 0"), "{program} asked too early: {text}");
        assert!(!text.contains("does not load"), "{program}: {text}");
        // It got as far as the first tensor on the GPU, of which the stand-in has no kernel.
        assert!(text.contains("CUDA"), "{program}: {text}");
    }
}

/// Counts operators from the end of the first batch to that of the last.
struct Counting {
    library: libloading::Library,
    steps: usize,
}

impl Counting {
    fn call(&self, name: &[u8]) {
        // SAFETY: operators.cpp defines these, without arguments.
        unsafe { (self.library.get::<extern "C" fn()>(name).unwrap())() };
    }

    fn count(&self, operator: &str) -> i64 {
        let operator = CString::new(operator).unwrap();
        // SAFETY: as above; the name ends with 0.
        unsafe {
            let count =
                self.library.get::<extern "C" fn(*const c_char) -> c_long>(b"operator_count");
            (count.unwrap())(operator.as_ptr())
        }
    }
}

impl Observer for Counting {
    fn batch(&mut self, done: usize, batches: usize) {
        match done {
            1 => self.call(b"count_operators"),
            _ if done == batches => {
                self.call(b"stop_counting");
                self.steps += done - 1;
            }
            _ => {}
        }
    }
}

/// What makes the host wait for a GPU: a number that is fetched from it, or a tensor whose size depends on values.
const WAITS: [&str; 8] = [
    "aten::item",
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::repeat_interleave",
];

#[test]
fn no_step_of_training_waits_for_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = library("operators.cpp", "liboperators.so", folder.path()) else { return };
    // Node pruning of NIN: masks that learn, and dropout that shrinks with them, of which no rate may be fetched.
    let mut recipe = Recipe::built_in("nin", Technique::NodePruning, Some("gpu")).unwrap();
    recipe.stages.retain(|stage| ["original", "node-0", "retrain"].contains(&stage.name.as_str()));
    recipe.stages.iter_mut().for_each(|stage| stage.epochs = 1);
    (recipe.train_images, recipe.batch_size) = (Some(32), 8);
    recipe.validation_images = Some(16);
    let (mean, deviation) = (vec![0.5; 3], vec![0.25; 3]);
    recipe.pixels = Preprocessing::Normalise(Normalise { mean, deviation });
    let data = data::load(&recipe.dataset, Source::Synthetic, recipe.first_images()).unwrap();
    // SAFETY: its initialisers register nothing but what C++ needs.
    let library = unsafe { libloading::Library::new(path) }.unwrap();
    let mut counting = Counting { library, steps: 0 };
    let checkpoints = folder.path();
    let run =
        Run { recipe: &recipe, data: &data, original: None, device: Device::Cpu, checkpoints };
    run.run(&mut counting).unwrap();
    assert_eq!(counting.steps, 9, "three steps of each of three stages");
    // Of the last stage: what is counted is seen to be counted.
    assert!(counting.count("aten::conv2d") >= 9 * 3, "{}", counting.count("aten::conv2d"));
    for operator in WAITS {
        assert_eq!(counting.count(operator), 0, "{operator}");
    }
}

//! PyTorch in a process of its own, through its Python interface, whose networks are captured in CUDA graphs:
//! the strongest baseline on a GPU, where libtorch called layer by layer measures launches at small batches.
//!
//! The program is `pytorch.py` beside this file; requests and answers are lines of JSON. It takes its turns in
//! the same interleaved run as everybody else.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use ndarray::ArrayD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, Weights};
use crate::report::{
    PYTORCH, PYTORCH_COMPACTED, PYTORCH_COMPACTED_TF32, PYTORCH_CUSPARSE, PYTORCH_TF32,
};
use crate::sparse::{Format, Model};

const PROGRAM: &str = include_str!("pytorch.py");

/// By how much f32 scores may lie apart from libtorch's on the CPU, relative to the largest: cuDNN may take
/// convolutions by Winograd's algorithm, which rounds more.
const TOLERANCE: f32 = 1e-3;
/// The same in TF32, which rounds each factor to 11 bits.
const TOLERANCE_TF32: f32 = 2e-2;

/// What PyTorch is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The candidate's name in tables.
    pub policy: &'static str,
    /// Whether it runs the network without its blocked nodes.
    pub compacted: bool,
    /// Whether factors may be rounded to TF32.
    pub tf32: bool,
    /// Whether weights lie in compressed rows, multiplied by cuSPARSE.
    pub sparse: bool,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self { policy: PYTORCH, compacted: false, tf32: false, sparse: false },
        Self { policy: PYTORCH_TF32, compacted: false, tf32: true, sparse: false },
        Self { policy: PYTORCH_COMPACTED, compacted: true, tf32: false, sparse: false },
        Self { policy: PYTORCH_COMPACTED_TF32, compacted: true, tf32: true, sparse: false },
        Self { policy: PYTORCH_CUSPARSE, compacted: false, tf32: false, sparse: true },
    ];

    fn tolerance(self) -> f32 {
        if self.tf32 { TOLERANCE_TF32 } else { TOLERANCE }
    }
}

/// A Python that runs [`PROGRAM`].
#[derive(Debug)]
pub struct PyTorch {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
    version: String,
}

impl PyTorch {
    /// Starts `interpreter` with PyTorch on `device`, `cuda`, `cuda:1` or `cpu`.
    ///
    /// # Errors
    /// An interpreter that does not start, or that has no PyTorch.
    pub fn start(interpreter: &str, device: &str) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
        let unavailable = |reason: String| Error::Unavailable {
            what: format!("PyTorch in {interpreter}"),
            reason,
            remedy: "name a Python that has PyTorch, or leave --pytorch out".into(),
        };
        let mut child = Command::new(interpreter)
            .args(["-c", PROGRAM, device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It would allow TF32 where we ask for none, and libtorch's own CUDA is loaded by Python.
            .env_remove("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
            .env_remove("LD_PRELOAD")
            .spawn()
            .map_err(|error| unavailable(error.to_string()))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unavailable("it has no input or output".into()));
        };
        let answers = BufReader::new(answers);
        let mut started = Self { child, requests, answers, folder, version: String::new() };
        let hello = started.answer()?;
        let version = hello["torch"].as_str().map(str::to_owned);
        started.version = version.ok_or_else(|| unavailable(format!("it answers {hello}")))?;
        Ok(started)
    }

    /// PyTorch's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn answer(&mut self) -> Result<Value> {
        let failed = |found: String| {
            Error::argument("PyTorch's process", "an answer in JSON, a line", found)
        };
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        if read.map_err(|error| failed(error.to_string()))? == 0 {
            return Err(failed("it ended; its own words are above".into()));
        }
        let answer: Value = serde_json::from_str(&line).map_err(|_| failed(line.clone()))?;
        match answer["error"].as_str() {
            Some(error) => Err(failed(error.to_owned())),
            None => Ok(answer),
        }
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        let sent = writeln!(self.requests, "{request}").and_then(|()| self.requests.flush());
        sent.map_err(|error| {
            Error::argument("PyTorch's process", "a process that listens", error.to_string())
        })?;
        self.answer()
    }

    /// Gives up all networks.
    ///
    /// # Errors
    /// The process has ended.
    pub fn forget(&mut self) -> Result<()> {
        self.ask(&json!({ "forget": true })).map(|_| ())
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // It holds memory of the GPU until it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network that PyTorch has captured.
#[derive(Debug)]
pub struct Captured {
    pytorch: Rc<RefCell<PyTorch>>,
    way: Way,
    /// Whether as a graph, and in which memory format.
    pub detail: String,
}

impl Captured {
    /// Has a network captured, and compares its scores with `expected`, libtorch's on the CPU.
    ///
    /// # Errors
    /// What PyTorch refuses; other scores.
    pub fn new(
        pytorch: &Rc<RefCell<PyTorch>>,
        way: Way,
        network: &Network,
        weights: &Weights,
        images: &ArrayD<f32>,
        expected: &ArrayD<f32>,
    ) -> Result<Self> {
        let mut process = pytorch.borrow_mut();
        let file = |name: &str| -> PathBuf { process.folder.path().join(name) };
        let paths = [file("weights.safetensors"), file("images"), file("scores")];
        files::replace(&paths[0], Model::new(weights, None, Format::Dense)?.to_bytes()?)?;
        let pixels: Vec<f32> = images.iter().copied().collect();
        files::replace(&paths[1], bytemuck::cast_slice::<f32, u8>(&pixels))?;
        let answer = process.ask(&json!({
            "prepare": way.policy,
            "network": network,
            "weights": paths[0],
            "images": paths[1],
            "scores": paths[2],
            "batch": images.shape()[0],
            "tf32": way.tf32,
            "sparse": way.sparse,
        }))?;
        let bytes = fs::read(&paths[2]).map_err(Error::io("read", &paths[2]))?;
        let scores: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        compare(way, expected, &scores)?;
        let detail = answer["detail"].as_str().unwrap_or_default().to_owned();
        Ok(Self { pytorch: Rc::clone(pytorch), way, detail })
    }

    /// Seconds that so many runs take, by the device's clock.
    ///
    /// # Errors
    /// PyTorch has failed, or its process has ended.
    pub fn seconds(&self, calls: u32) -> Result<f64> {
        let request = json!({ "time": self.way.policy, "calls": calls });
        let answer = self.pytorch.borrow_mut().ask(&request)?;
        answer["seconds"]
            .as_f64()
            .ok_or_else(|| Error::argument("PyTorch's process", "seconds", answer.to_string()))
    }
}

/// Refuses other scores than libtorch's.
fn compare(way: Way, expected: &ArrayD<f32>, scores: &[f32]) -> Result<()> {
    let name = || format!("scores of {}", way.policy);
    if scores.len() != expected.len() {
        return Err(Error::argument(name(), expected.len().to_string(), scores.len().to_string()));
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, score| most.max(score.abs()));
    let tolerance = way.tolerance();
    for (expected, found) in expected.iter().zip(scores) {
        let near = (expected - found).abs() <= tolerance * largest;
        if !near {
            let expected = format!("libtorch's {expected}, within {tolerance} of {largest}");
            return Err(Error::argument(name(), expected, found.to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::speedup::images;
    use crate::network::{NodeMasks, zoo};
    use crate::prune::compact::compact;
    use crate::test_support;
    use crate::torch::{TorchNetwork, to_array, to_tensor};

    /// A Python here that has PyTorch.
    fn started() -> Option<Rc<RefCell<PyTorch>>> {
        let started = ["python3", "/usr/bin/python3"]
            .iter()
            .find_map(|interpreter| PyTorch::start(interpreter, "cpu").ok());
        if started.is_none() {
            test_support::skip("pytorch", "neither python3 nor /usr/bin/python3 imports torch");
        }
        started.map(|pytorch| Rc::new(RefCell::new(pytorch)))
    }

    fn scores(network: &Network, weights: &Weights, images: &ArrayD<f32>) -> ArrayD<f32> {
        let cpu = tch::Device::Cpu;
        let torch = TorchNetwork::new(network, weights, &NodeMasks::new(), cpu).unwrap();
        to_array(&torch.run(&to_tensor(images, cpu).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn pytorch_computes_what_libtorch_does_and_says_how_long_it_took() {
        let Some(pytorch) = started() else { return };
        for name in ["lenet-300-100", "lenet-5", "convnet"] {
            let network = zoo::by_name(name).unwrap();
            let weights = Weights::random(&network, 3).unwrap();
            let images = images(&network, 2);
            let expected = scores(&network, &weights, &images);
            for way in Way::ALL {
                let captured =
                    Captured::new(&pytorch, way, &network, &weights, &images, &expected).unwrap();
                assert!(captured.detail.contains("eager (no GPU)"), "{}", captured.detail);
                assert!(captured.seconds(2).unwrap() > 0.0);
            }
            pytorch.borrow_mut().forget().unwrap();
        }
    }

    /// AlexNet's groups, of which pruning leaves uneven ones, one of them without inputs.
    #[test]
    fn groups_that_pruning_left_uneven_are_computed_too() {
        let Some(pytorch) = started() else { return };
        let network = zoo::by_name("alexnet").unwrap();
        let weights = Weights::random(&network, 3).unwrap();
        let mut masks = NodeMasks::new();
        for site in network.mask_sites().unwrap() {
            let half = site.nodes / 2;
            let alive = match site.name.as_str() {
                "mask_conv1" => (0..site.nodes).map(|node| node >= half && node % 3 > 0).collect(),
                _ => (0..site.nodes).map(|node| node % 5 == 0).collect(),
            };
            masks.insert(site.name, alive);
        }
        let (network, weights) = compact(&network, &weights, &masks).unwrap();
        let images = images(&network, 1);
        let expected = scores(&network, &weights, &images);
        for way in [Way::ALL[2], Way::ALL[4]] {
            Captured::new(&pytorch, way, &network, &weights, &images, &expected).unwrap();
        }
    }

    #[test]
    fn what_pytorch_refuses_is_told_and_the_process_goes_on() {
        let Some(pytorch) = started() else { return };
        let network = zoo::by_name("lenet-300-100").unwrap();
        let weights = Weights::random(&network, 3).unwrap();
        let images = images(&network, 1);
        let expected = scores(&network, &weights, &images);
        let way = Way::ALL[0];
        let other = &expected + 1.0;
        let error = Captured::new(&pytorch, way, &network, &weights, &images, &other);
        assert!(error.unwrap_err().to_string().contains("scores of pytorch-graph"));
        let mut broken = network.clone();
        broken.layers[0].name = "nothing".into();
        let error = Captured::new(&pytorch, way, &broken, &weights, &images, &expected);
        assert!(error.unwrap_err().to_string().contains("KeyError"));
        Captured::new(&pytorch, way, &network, &weights, &images, &expected).unwrap();
        let error = PyTorch::start("no-such-python", "cpu").unwrap_err().to_string();
        assert!(error.contains("name a Python that has PyTorch"), "{error}");
    }
}

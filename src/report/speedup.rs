//! Measured times of whole networks: rows, and groups of them that stand together.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::environment::Environment;
use super::slug;
use crate::device::class::HardwareClass;
use crate::network::zoo;
use crate::timing::geometric_mean;

/// The library on the network as it was.
pub const LIBRARY: &str = "libtorch";
/// The library on the network without its blocked nodes.
pub const LIBRARY_COMPACTED: &str = "libtorch-compacted";
/// PyTorch on the network as it was, captured in a CUDA graph, in the faster memory format.
pub const PYTORCH: &str = "pytorch-graph";
/// The same, factors rounded to TF32.
pub const PYTORCH_TF32: &str = "pytorch-graph-tf32";
/// PyTorch, captured, on the network without its blocked nodes.
pub const PYTORCH_COMPACTED: &str = "pytorch-graph-compacted";
/// The same, factors rounded to TF32.
pub const PYTORCH_COMPACTED_TF32: &str = "pytorch-graph-compacted-tf32";
/// PyTorch, captured, on the traditionally pruned network, its weights in compressed rows: cuSPARSE on a GPU.
pub const PYTORCH_CUSPARSE: &str = "pytorch-cusparse";
/// Our own dense kernels on the network as it was.
pub const DENSE: &str = "dense";
/// The fastest of all that applies.
pub const SCALPEL: &str = "scalpel";

/// The candidates, as they stand in tables and bars.
pub const CANDIDATES: [&str; 14] = [
    LIBRARY,
    LIBRARY_COMPACTED,
    PYTORCH,
    PYTORCH_TF32,
    PYTORCH_COMPACTED,
    PYTORCH_COMPACTED_TF32,
    PYTORCH_CUSPARSE,
    DENSE,
    "magnitude",
    "simd",
    "upright",
    "node",
    "combined",
    SCALPEL,
];
/// The policies that a table has a column for, in its order.
pub(super) const COLUMNS: [&str; 6] = ["magnitude", "simd", "upright", "node", "combined", SCALPEL];

/// Those that run the network as it was.
pub const OF_THE_DENSE_NETWORK: [&str; 4] = [LIBRARY, PYTORCH, PYTORCH_TF32, DENSE];

/// One candidate's time for one batch of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedupRow {
    /// A network of the zoo.
    pub network: String,
    /// `cpu`, `wgpu`, `cuda` or `cuda:1`.
    pub device: String,
    /// Threads of the CPU.
    pub threads: usize,
    /// Images in the batch.
    pub batch: usize,
    /// One of [`CANDIDATES`].
    #[serde(deserialize_with = "policy")]
    pub policy: String,
    /// Median time of a batch.
    pub microseconds: f64,
    /// The median's interval of 95% confidence.
    pub interval: [f64; 2],
    /// The library's dense time over this one; absent where no library runs on the device.
    pub speedup_over_library: Option<f64>,
    /// The time of the fastest candidate of [`OF_THE_DENSE_NETWORK`] over this one.
    pub speedup_over_dense: f64,
    /// Bytes of the weights as they are stored, indices and biases included.
    pub bytes: usize,
    /// A published model, or how the weights were drawn.
    pub weights_from: String,
    /// How the candidate runs, where it has a choice: of PyTorch, whether as a graph, and its memory format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Accuracy in percent of the original network and of this very model, where it was trained.
    pub accuracy: Option<[f64; 2]>,
    /// How many times the work of one thread all of them did, in turns with the candidates; on a CPU with several threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_scaling: Option<f64>,
}

impl SpeedupRow {
    /// Whether the weights were drawn, not trained.
    pub(super) fn is_random(&self) -> bool {
        self.weights_from.starts_with("random")
    }
}

/// The name of a policy, as this version has it: earlier ones called magnitude pruning traditional, and combined
/// pruning both.
fn policy<'de, D: Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    let name = String::deserialize(text)?;
    Ok(match name.as_str() {
        "traditional" => "magnitude".to_owned(),
        "both" => "combined".to_owned(),
        _ => name,
    })
}

/// What was measured of a network at one batch size, all in one interleaved run.
#[derive(Clone, Debug)]
pub struct StoredSpeedup {
    /// A row per candidate.
    pub rows: Vec<SpeedupRow>,
    /// Where and when.
    pub environment: Environment,
}

impl StoredSpeedup {
    /// The row of a candidate.
    pub fn row(&self, policy: &str) -> Option<&SpeedupRow> {
        self.rows.iter().find(|row| row.policy == policy)
    }

    /// The class of the hardware that ran it.
    pub fn class(&self) -> Option<HardwareClass> {
        let row = self.rows.first()?;
        Some(HardwareClass::of(&row.device, row.threads))
    }

    pub(super) fn first(&self) -> Option<&SpeedupRow> {
        self.rows.first()
    }

    /// The fastest dense candidate.
    pub(super) fn fastest_dense(&self) -> Option<&SpeedupRow> {
        let dense = OF_THE_DENSE_NETWORK.into_iter().filter_map(|policy| self.row(policy));
        dense.min_by(|a, b| a.microseconds.total_cmp(&b.microseconds))
    }
}

/// Measurements on one device with equally many threads and images: a table and a plot of their own.
#[derive(Clone, Debug)]
pub struct SpeedupGroup<'a> {
    /// In the networks' order.
    pub members: Vec<&'a StoredSpeedup>,
}

/// The measurements by hardware, device, threads and batch; a GPU's, whatever threads fed it.
pub fn speedup_groups(stored: &[StoredSpeedup]) -> Vec<SpeedupGroup<'_>> {
    let mut groups: BTreeMap<_, Vec<&StoredSpeedup>> = BTreeMap::new();
    for one in stored {
        let Some(row) = one.first() else { continue };
        let hardware = one.environment.hardware();
        let threads = (row.device == "cpu").then_some(row.threads);
        let key = (hardware, row.device.clone(), threads, row.batch);
        groups.entry(key).or_default().push(one);
    }
    let place = |one: &&StoredSpeedup| {
        let network = one.first().map(|row| row.network.clone()).unwrap_or_default();
        zoo::NAMES.iter().position(|name| *name == network)
    };
    let sorted = groups.into_values().map(|mut members| {
        members.sort_by_key(place);
        SpeedupGroup { members }
    });
    let mut groups: Vec<SpeedupGroup<'_>> = sorted.collect();
    let mut last_days: BTreeMap<String, String> = BTreeMap::new();
    for group in &groups {
        let day = last_days.entry(group.hardware()).or_default();
        *day = std::mem::take(day).max(group.date().unwrap_or_default().to_owned());
    }
    groups.sort_by_cached_key(|group| {
        (group.is_software(), Reverse(last_days.get(&group.hardware()).cloned()))
    });
    groups
}

impl SpeedupGroup<'_> {
    pub(super) fn first(&self) -> Option<&SpeedupRow> {
        self.members.first().and_then(|one| one.first())
    }

    pub(super) fn hardware(&self) -> String {
        self.members.first().map_or_else(String::new, |one| one.environment.hardware())
    }

    /// The last day on which one of them was measured.
    pub(super) fn date(&self) -> Option<&str> {
        self.members.iter().map(|one| one.environment.date.as_str()).max()
    }

    /// Whether a CPU stood in for the GPU.
    pub(super) fn is_software(&self) -> bool {
        self.members.iter().any(|one| one.environment.software_gpu)
    }

    /// The hardware, and what the group is.
    pub fn heading(&self) -> String {
        format!("{}, {}", self.hardware(), self.title())
    }

    /// What the group is, in a few words.
    pub fn title(&self) -> String {
        let Some(row) = self.first() else { return String::new() };
        let threads = match row.threads {
            1 => "one thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        let device = if row.device == "cpu" { threads } else { row.device.clone() };
        format!("{device}, batch {}", row.batch)
    }

    /// The device in short, and what the group is.
    pub(super) fn caption(&self) -> String {
        let place = match self.members.first().map(|one| &one.environment) {
            Some(Environment { gpu: Some(gpu), device, .. }) if device != "cpu" => gpu.clone(),
            _ => self.hardware(),
        };
        format!("{place}, {}", self.title())
    }

    /// The name of its plot.
    pub fn plot_name(&self) -> String {
        slug(&format!("speedup {}", self.caption()))
    }

    /// The geometric mean over the networks of a ratio of a candidate's rows; none where one of them lacks
    /// it.
    pub fn mean(&self, policy: &str, ratio: impl Fn(&SpeedupRow) -> Option<f64>) -> Option<f64> {
        let ratios: Option<Vec<f64>> =
            self.members.iter().map(|one| one.row(policy).and_then(&ratio)).collect();
        ratios.filter(|all| !all.is_empty()).map(|all| geometric_mean(&all))
    }

    /// How many times the work of one thread all of them did, network by network; nothing where that was not measured.
    pub(super) fn thread_scaling(&self) -> Option<String> {
        let of = |row: &SpeedupRow| {
            row.thread_scaling.map(|scaling| format!("{} {scaling:.2}", row.network))
        };
        let each: Vec<String> =
            self.members.iter().filter_map(|one| one.first().and_then(of)).collect();
        let threads = self.first()?.threads;
        (!each.is_empty()).then(|| {
            format!(
                "Meanwhile, in turns with the networks, {threads} threads did so many times the work of one, a \
                dense product with X in the first-level cache: {}.",
                each.join(", ")
            )
        })
    }

    /// Its dates, the instruction sets of a processor, and the commits.
    pub(super) fn measured_on(&self) -> String {
        let of_all = |of: fn(&Environment) -> String| {
            let mut values: Vec<String> =
                self.members.iter().map(|one| of(&one.environment)).collect();
            values.sort_unstable();
            values.dedup();
            values.join(", ")
        };
        let dates = of_all(|environment| environment.date.clone());
        let sets = of_all(|environment| match environment.device.as_str() {
            "cpu" => environment.isa.join(" and "),
            _ => String::new(),
        });
        let with = if sets.is_empty() { sets } else { format!(" with {sets}") };
        let commits = of_all(|environment| environment.commit.clone().unwrap_or("unknown".into()));
        let plural = if commits.contains(", ") { "s" } else { "" };
        format!("Measured on {dates}{with}, commit{plural} {commits}.")
    }
}

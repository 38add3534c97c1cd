//! Measured times of whole networks: rows, their table and their bars.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::authors::Authors;
use super::environment::Environment;
use super::plot::Bars;
use super::results::slug;
use super::text::Table;
use crate::device::class::HardwareClass;
use crate::error::Result;
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
pub const CANDIDATES: [&str; 13] = [
    LIBRARY,
    LIBRARY_COMPACTED,
    PYTORCH,
    PYTORCH_TF32,
    PYTORCH_COMPACTED,
    PYTORCH_COMPACTED_TF32,
    PYTORCH_CUSPARSE,
    DENSE,
    "traditional",
    "simd",
    "node",
    "both",
    SCALPEL,
];
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

    fn first(&self) -> Option<&SpeedupRow> {
        self.rows.first()
    }

    /// The fastest dense candidate.
    fn fastest_dense(&self) -> Option<&SpeedupRow> {
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
    sorted.collect()
}

impl SpeedupGroup<'_> {
    fn first(&self) -> Option<&SpeedupRow> {
        self.members.first().and_then(|one| one.first())
    }

    fn hardware(&self) -> String {
        self.members.first().map_or_else(String::new, |one| one.environment.hardware())
    }

    /// The last day on which one of them was measured.
    fn date(&self) -> Option<&str> {
        self.members.iter().map(|one| one.environment.date.as_str()).max()
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
    fn caption(&self) -> String {
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

    /// A row per network: what dense networks take, and how many times faster the policies are.
    pub fn table(&self) -> Table {
        let mut table = Table::new([
            "network",
            "libtorch, us",
            "fastest dense, us",
            "traditional",
            "SIMD-aware",
            "node",
            "both",
            "scalpel",
            "scalpel over fastest dense",
            "scalpel, us",
            "bytes, of dense",
            "accuracy",
            "weights of scalpel",
            "date",
        ]);
        let times = |ratio: Option<f64>| match ratio {
            Some(ratio) => format!("{ratio:.2}x"),
            None => "not measured".into(),
        };
        // Where no library runs on the device, our own dense network takes its place.
        let over = |row: &SpeedupRow| row.speedup_over_library.or(Some(row.speedup_over_dense));
        for one in &self.members {
            let Some(scalpel) = one.row(SCALPEL) else { continue };
            let time = |row: Option<&SpeedupRow>| {
                row.map_or("not measured".into(), |row| format!("{:.1}", row.microseconds))
            };
            let dense = one.fastest_dense();
            let fastest = dense.map_or(String::new(), |row| format!(" ({})", row.policy));
            let share = one
                .row(DENSE)
                .map(|dense| 100.0 * scalpel.bytes as f64 / dense.bytes.max(1) as f64);
            let mut cells = vec![
                scalpel.network.clone(),
                time(one.row(LIBRARY)),
                format!("{}{fastest}", time(dense)),
            ];
            for policy in ["traditional", "simd", "node", "both", SCALPEL] {
                cells.push(times(one.row(policy).and_then(over)));
            }
            cells.push(times(Some(scalpel.speedup_over_dense)));
            cells.push(format!("{:.1}", scalpel.microseconds));
            cells.push(share.map_or(String::new(), |share| format!("{share:.1}%")));
            cells.push(match scalpel.accuracy {
                Some([before, after]) => format!("{before:.2} -> {after:.2}"),
                None => "not trained".into(),
            });
            cells.push(scalpel.weights_from.clone());
            cells.push(one.environment.date.clone());
            table.row(cells);
        }
        let mut mean = vec!["geometric mean".to_owned(), String::new(), String::new()];
        for policy in ["traditional", "simd", "node", "both", SCALPEL] {
            mean.push(times(self.mean(policy, over)));
        }
        mean.push(times(self.mean(SCALPEL, |row| Some(row.speedup_over_dense))));
        table.row(mean);
        table
    }

    /// A row per network: the times of PyTorch's captured networks, and how many times faster ours is than the
    /// fastest of each kind; none where PyTorch was not measured.
    fn pytorch_table(&self) -> Option<Table> {
        if !self.members.iter().any(|one| one.row(PYTORCH).is_some()) {
            return None;
        }
        let mut table = Table::new([
            "network",
            "libtorch",
            "graph",
            "graph, TF32",
            "compacted",
            "compacted, TF32",
            "cuSPARSE",
            "scalpel",
            "over graph",
            "over compacted",
            "traditional over cuSPARSE",
        ]);
        for one in &self.members {
            let time = |policy: &str| one.row(policy).map(|row| row.microseconds);
            let text =
                |time: Option<f64>| time.map_or("not measured".into(), |t| format!("{t:.1}"));
            let over = |ours: &str, theirs: &[&str]| {
                let best = theirs.iter().filter_map(|policy| time(policy)).reduce(f64::min);
                best.zip(time(ours))
                    .map_or("not measured".into(), |(a, b)| format!("{:.2}x", a / b))
            };
            let Some(first) = one.first() else { continue };
            let mut cells = vec![first.network.clone()];
            let shown = [
                LIBRARY,
                PYTORCH,
                PYTORCH_TF32,
                PYTORCH_COMPACTED,
                PYTORCH_COMPACTED_TF32,
                PYTORCH_CUSPARSE,
                SCALPEL,
            ];
            cells.extend(shown.map(|policy| text(time(policy))));
            cells.push(over(SCALPEL, &[PYTORCH, PYTORCH_TF32]));
            cells.push(over(SCALPEL, &[PYTORCH_COMPACTED, PYTORCH_COMPACTED_TF32]));
            cells.push(over("traditional", &[PYTORCH_CUSPARSE]));
            table.row(cells);
        }
        Some(table)
    }

    /// A summary's row: the geometric means.
    fn means(&self) -> Vec<String> {
        let times = |ratio: Option<f64>| {
            ratio.map_or_else(|| "not measured".to_owned(), |ratio| format!("{ratio:.2}x"))
        };
        let over_dense = |row: &SpeedupRow| Some(row.speedup_over_dense);
        let over_library = |row: &SpeedupRow| row.speedup_over_library;
        let class = self.members.first().and_then(|one| one.class());
        let authors = Authors::published().ok();
        let paper = class.and_then(|class| authors?.mean_speedup(class));
        vec![
            self.hardware(),
            self.title(),
            self.members.len().to_string(),
            times(self.mean("traditional", over_dense)),
            times(self.mean("simd", over_dense)),
            times(self.mean("node", over_dense)),
            times(self.mean("both", over_dense)),
            times(self.mean(SCALPEL, over_dense)),
            times(self.mean(SCALPEL, over_library)),
            times(paper),
        ]
    }

    /// Its dates, the instruction sets of a processor, and the commits.
    fn measured_on(&self) -> String {
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

    /// Bars of the speedup over the library's dense network, by network and policy, with their geometric
    /// means, and the paper's mean as a line. Equal rows give equal bytes.
    ///
    /// # Errors
    /// What the drawing library refuses.
    pub fn plot(&self) -> Result<String> {
        let over = |row: &SpeedupRow| row.speedup_over_library.or(Some(row.speedup_over_dense));
        let series = ["traditional", "simd", "node", "both", SCALPEL];
        let mut clusters: Vec<(String, Vec<Option<f64>>)> = Vec::new();
        for one in &self.members {
            let Some(first) = one.first() else { continue };
            let bars = series.iter().map(|policy| one.row(policy).and_then(over)).collect();
            clusters.push((first.network.clone(), bars));
        }
        let means = series.iter().map(|policy| self.mean(policy, over)).collect();
        clusters.push(("geometric mean".into(), means));
        let class = self.members.first().and_then(|one| one.class());
        let authors = Authors::published()?;
        let paper = class.and_then(|class| authors.mean_speedup(class));
        let beside_library = self.members.iter().any(|one| one.row(LIBRARY).is_some());
        Bars {
            title: self.caption(),
            of: if beside_library { "libtorch's dense network" } else { "our dense network" },
            series: &series,
            clusters,
            line: paper.map(|mean| (mean, format!("the paper's mean, {mean:.2}"))),
        }
        .plot()
    }
}

/// What the tables say of whole networks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SpeedupSection {
    /// For RESULTS.md.
    pub results: String,
    /// For README.md.
    pub readme: String,
    /// Plots by name.
    pub plots: Vec<(String, String)>,
}

const READING: &str = "Geometric means over the networks of how many times faster than the fastest dense \
    candidate each policy is, libtorch's (in its faster memory format; on a GPU also PyTorch's, captured in a CUDA \
    graph) or our own dense kernels; *scalpel over \
    libtorch* is over what a user would take. The paper compares with MKL and its own dense code. \
    *traditional*: compressed rows; *SIMD-aware*: groups of weights; *node*: the nodes that are left; \
    *both*; *scalpel*: of these, the model and the kernels that are the fastest here.";

const PYTORCH_READING: &str = "Beside PyTorch whose networks are captured in CUDA graphs, each in its faster memory \
    format, by cuDNN's own choice of algorithms; microseconds of a batch, and how many times faster ours is than the \
    faster of both precisions:";

impl SpeedupSection {
    /// The section on measurements that lie in the tree.
    ///
    /// # Errors
    /// What the drawing library refuses; the authors' numbers cannot be read.
    pub fn of(stored: &[StoredSpeedup]) -> Result<Self> {
        let groups = speedup_groups(stored);
        let mut summary = Table::new([
            "hardware",
            "device, batch",
            "networks",
            "traditional",
            "SIMD-aware",
            "node",
            "both",
            "scalpel",
            "scalpel over libtorch",
            "paper",
        ]);
        groups.iter().for_each(|group| summary.row(group.means()));
        for device in ["cuda", "wgpu"] {
            if !stored.iter().flat_map(|one| &one.rows).any(|row| row.device.starts_with(device)) {
                let mut cells = vec!["a GPU".to_owned(), device.to_owned(), "0".to_owned()];
                cells.resize(9, "not measured".into());
                summary.row(cells);
            }
        }
        let mut section = Self::default();
        let means = format!("{}\n{READING}\n", summary.markdown());
        section.readme = format!("### Speedup of whole networks\n\n{means}");
        section.results = format!(
            "\n## Speedup of whole networks\n\nBy `cargo run --release --bin speedup`. Processors whose name has no \
             number are told apart by family and model; where these are missing, they were not recorded \
             yet.\n\n{means}"
        );
        if let Some(table) = sizes(stored)? {
            section.results += &format!("\n### Size\n\n{}", table.markdown());
        }
        // The two that the paper's first two classes are about stand in front of the reader, on the processor
        // that was measured last.
        let in_front = |group: &&SpeedupGroup<'_>| {
            group.first().is_some_and(|row| row.device == "cpu" && row.batch == 1)
        };
        let newest = groups.iter().filter(in_front).max_by_key(|group| group.date());
        let newest = newest.map(SpeedupGroup::hardware);
        for group in &groups {
            let (title, table) = (group.heading(), group.table().markdown());
            let name = group.plot_name();
            section.results += &format!(
                "\n### {title}\n\n{} Times a policy is faster are over libtorch's dense network.\n\n\
                 {table}\n![{title}](results/plots/{name}.svg)\n",
                group.measured_on()
            );
            if let Some(table) = group.pytorch_table() {
                section.results += &format!("\n{PYTORCH_READING}\n\n{}", table.markdown());
            }
            if in_front(&group) && newest == Some(group.hardware()) {
                section.readme += &format!(
                    "\n{title} ({}):\n\n{table}",
                    group.measured_on().trim_end_matches('.')
                );
                if group.first().is_some_and(|row| row.threads == 1) {
                    section.readme += &format!("\n![{title}](results/plots/{name}.svg)\n");
                }
            }
            section.plots.push((name, group.plot()?));
        }
        Ok(section)
    }
}

/// How much smaller the stored models are than the dense ones: geometric means over the networks.
fn sizes(stored: &[StoredSpeedup]) -> Result<Option<Table>> {
    let mut of: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for one in stored {
        let Some(dense) = one.row(DENSE) else { continue };
        for policy in ["traditional", "simd", "node", "both"] {
            if let Some(row) = one.row(policy) {
                let share = row.bytes as f64 / dense.bytes.max(1) as f64;
                of.entry(policy).or_default().insert(&row.network, share);
            }
        }
    }
    if of.is_empty() {
        return Ok(None);
    }
    let authors = Authors::published()?;
    let paper = |policy: &str| {
        let class = match policy {
            "simd" => HardwareClass::Low,
            "both" => HardwareClass::Moderate,
            "node" => HardwareClass::High,
            _ => return None,
        };
        authors.speedup.iter().find(|row| row.class == class).map(|row| row.bytes_reduced)
    };
    let header = ["policy", "networks", "reduced by, geometric mean", "paper"];
    let mut table = Table::new(header.into_iter().chain(zoo::NAMES));
    for (policy, shares) in of {
        let mean = geometric_mean(&shares.values().copied().collect::<Vec<_>>());
        let percent = |share: f64| format!("{:.1}%", 100.0 * (1.0 - share));
        let mut cells = vec![
            policy.to_owned(),
            shares.len().to_string(),
            percent(mean),
            paper(policy).map_or("not stated".into(), |reduced| format!("{reduced:.0}%")),
        ];
        let own = |name: &&str| shares.get(*name).map_or("not measured".into(), |&s| percent(s));
        cells.extend(zoo::NAMES.iter().map(own));
        table.row(cells);
    }
    Ok(Some(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A measurement in which a policy takes the given microseconds.
    fn measured(network: &str, threads: usize, times: &[(&str, f64, usize)]) -> StoredSpeedup {
        let of = |policy: &str| times.iter().find(|time| time.0 == policy).map(|time| time.1);
        let library = of(LIBRARY);
        let dense = [library, of(DENSE)].into_iter().flatten().fold(f64::INFINITY, f64::min);
        let row = |&(policy, microseconds, bytes): &(&str, f64, usize)| SpeedupRow {
            network: network.into(),
            device: "cpu".into(),
            threads,
            batch: 1,
            policy: policy.into(),
            microseconds,
            interval: [microseconds; 2],
            speedup_over_library: library.map(|library| library / microseconds),
            speedup_over_dense: dense / microseconds,
            bytes,
            weights_from: "random".into(),
            detail: None,
            accuracy: (policy == SCALPEL).then_some([98.5, 98.25]),
        };
        let mut environment = Environment::read("cpu");
        environment.date = "2026-01-02".into();
        environment.commit = Some("abc".into());
        StoredSpeedup { rows: times.iter().map(row).collect(), environment }
    }

    #[test]
    fn threads_part_measurements_of_cpus_alone() {
        let times = [(DENSE, 40.0, 100), (SCALPEL, 5.0, 10)];
        let mut stored = vec![measured("lenet-5", 1, &times), measured("convnet", 2, &times)];
        assert_eq!(speedup_groups(&stored).len(), 2);
        for one in &mut stored {
            one.rows.iter_mut().for_each(|row| row.device = "wgpu".into());
        }
        let groups = speedup_groups(&stored);
        let [group] = &groups[..] else { panic!("{} groups", groups.len()) };
        assert_eq!((group.title().as_str(), group.members.len()), ("wgpu, batch 1", 2));
    }

    #[test]
    fn every_commit_and_the_processors_instruction_sets_are_named() {
        let times = [(DENSE, 40.0, 100), (SCALPEL, 5.0, 10)];
        let mut stored = vec![measured("lenet-5", 1, &times), measured("convnet", 1, &times)];
        for one in &mut stored {
            one.environment.isa = vec!["avx2+fma".into(), "avx512f".into()];
        }
        let groups = |stored: &[StoredSpeedup]| speedup_groups(stored)[0].measured_on();
        let expected = "Measured on 2026-01-02 with avx2+fma and avx512f, commit abc.";
        assert_eq!(groups(&stored), expected);
        stored[1].environment.commit = Some("def".into());
        stored[1].environment.date = "2026-01-03".into();
        stored.iter_mut().for_each(|one| one.environment.device = "cuda".into());
        stored.iter_mut().for_each(|one| one.environment.gpu = Some("a GPU".into()));
        stored.iter_mut().flat_map(|one| &mut one.rows).for_each(|row| row.device = "cuda".into());
        let expected = "Measured on 2026-01-02, 2026-01-03, commits abc, def.";
        assert_eq!(groups(&stored), expected);
    }

    fn both() -> Vec<StoredSpeedup> {
        vec![
            measured("lenet-5", 1, &[(LIBRARY, 80.0, 100), (DENSE, 40.0, 100), (SCALPEL, 5.0, 10)]),
            measured(
                "lenet-300-100",
                1,
                &[(LIBRARY, 10.0, 100), (DENSE, 20.0, 100), (SCALPEL, 5.0, 40)],
            ),
        ]
    }

    #[test]
    fn means_are_geometric_over_the_fastest_dense_contestant_of_each_network() {
        let stored = both();
        let groups = speedup_groups(&stored);
        let [group] = groups.as_slice() else { panic!("one group") };
        assert_eq!(group.title(), "one thread, batch 1");
        let over_dense = group.mean(SCALPEL, |row| Some(row.speedup_over_dense)).unwrap();
        approx::assert_relative_eq!(over_dense, 4.0, max_relative = 1e-12); // of 8 and 2
        let over_library = group.mean(SCALPEL, |row| row.speedup_over_library).unwrap();
        approx::assert_relative_eq!(over_library, 32_f64.sqrt(), max_relative = 1e-12);
        assert_eq!(group.mean("simd", |row| row.speedup_over_library), None);
        let table = group.table().markdown();
        let first = table.lines().nth(2).unwrap();
        assert!(first.contains("lenet-300-100") && first.contains("10.0 (libtorch)"), "{table}");
        assert!(table.contains("40.0 (dense)") && table.contains("98.50 -> 98.25"), "{table}");
    }

    #[test]
    fn the_section_says_what_was_not_measured_and_equal_rows_give_equal_bytes() {
        let section = SpeedupSection::of(&both()).unwrap();
        assert_eq!(section, SpeedupSection::of(&both()).unwrap());
        assert!(section.readme.contains("| cuda ") && section.readme.contains("not measured"));
        assert!(section.results.contains("3.54x"), "{}", section.results);
        let [(name, svg)] = section.plots.as_slice() else { panic!("one plot") };
        let hardware = both()[0].environment.hardware();
        assert_eq!(*name, slug(&format!("speedup {hardware} one thread batch 1")));
        assert!(svg.contains("geometric mean") && svg.contains("the paper"), "{svg}");
    }

    #[test]
    fn processors_are_kept_apart_and_readme_shows_the_one_measured_last() {
        let mut stored = both();
        for (one, (cpu, date)) in stored.iter_mut().zip([("A", "2026-01-02"), ("B", "2026-01-03")])
        {
            one.environment.cpu = cpu.into();
            one.environment.date = date.into();
        }
        let section = SpeedupSection::of(&stored).unwrap();
        assert_eq!(section.plots.len(), 2);
        assert_ne!(section.plots[0].0, section.plots[1].0);
        assert!(section.results.contains("### A, ") && section.results.contains("### B, "));
        assert!(
            section.readme.contains("| lenet-300-100 ") && !section.readme.contains("| lenet-5 ")
        );
    }

    #[test]
    fn sizes_are_means_of_what_is_left() {
        let stored = [
            measured("lenet-5", 1, &[(DENSE, 1.0, 100), ("simd", 1.0, 10)]),
            measured("nin", 1, &[(DENSE, 1.0, 100), ("simd", 1.0, 40)]),
        ];
        let table = sizes(&stored).unwrap().unwrap().markdown();
        let row = table.lines().find(|line| line.contains("simd")).unwrap();
        assert!(row.contains("80.0%") && row.contains("88%") && row.contains("90.0%"), "{table}");
        assert!(sizes(&[]).unwrap().is_none());
    }
}

//! Whole networks: how many times faster the policies are, by hardware, threads and batch.

use std::collections::BTreeMap;

use crate::device::class::HardwareClass;
use crate::error::Result;
use crate::network::zoo;
use crate::report::authors::Authors;
use crate::report::document::{Block, Section, Svg};
use crate::report::plots::Bars;
use crate::report::runs::NOT_MEASURED;
use crate::report::speedup::{
    COLUMNS, DENSE, LIBRARY, PYTORCH, PYTORCH_COMPACTED, PYTORCH_COMPACTED_TF32, PYTORCH_CUSPARSE,
    PYTORCH_TF32, SCALPEL, SpeedupGroup, SpeedupRow, StoredSpeedup, speedup_groups,
};
use crate::report::table::Table;
use crate::timing::geometric_mean;

const READING: &str = "Geometric means over the networks of how many times faster each policy is than the *fastest* \
    dense candidate: libtorch's (in its faster memory format; on a GPU also PyTorch's, captured in a CUDA graph) or \
    our own dense kernels. *over libtorch*: scalpel over what a user would take. The paper compares with MKL and its \
    own dense code.\n\n*magnitude*: single weights, in compressed rows (the paper's traditional pruning); \
    *SIMD-aware*: groups of weights; *upright*: groups of one column and eight rows, which the paper does not have; \
    *node*: the nodes that are left; *combined*: groups of those; each by the most accurate of its technique's published \
    models. *scalpel*: of all of these techniques' published models that lost no more than a point of accuracy, where \
    there are such, the one that is the fastest there, by the kernels that are the fastest there (what was measured \
    before 2026-11-30: among the most accurate ones, whatever they lost). By `cargo run --release --bin speedup`. \
    Processors whose name has no number are told apart by family and model.";

const PYTORCH_READING: &str = "Beside PyTorch whose networks are captured in CUDA graphs, each in its faster memory \
    format, by cuDNN's own choice of algorithms; microseconds of a batch, and how many times faster ours is than the \
    faster of both precisions:";

/// The section on measurements that lie in the tree, and its plots.
///
/// # Errors
/// What the drawing library refuses; the authors' numbers cannot be read.
pub(super) fn section(stored: &[StoredSpeedup]) -> Result<(Section, Vec<Svg>)> {
    let groups = speedup_groups(stored);
    let (mut blocks, mut plots) = (vec![Block::Text(READING.into())], Vec::new());
    blocks.extend(means(&groups));
    if let Some(table) = sizes(stored)? {
        let text =
            "By how much the stored models are smaller than the dense ones, indices included.";
        blocks.extend([
            Block::Heading("Size".into()),
            Block::Text(text.into()),
            Block::Table(table),
        ]);
    }
    for group in &groups {
        let (title, name) = (group.heading(), group.plot_name());
        blocks.push(Block::Heading(title.clone()));
        let from = "Times faster are over libtorch's dense network, but for *over dense*: over the fastest dense one.";
        blocks.push(Block::Text(format!("{} {from}", group.measured_on())));
        blocks.extend(group.thread_scaling().map(Block::Text));
        blocks.push(Block::Table(speedup_table(group)));
        blocks.push(Block::Text(format!("Weights of scalpel: {}.", weights_of(group, SCALPEL))));
        blocks.push(Block::Plot { name: name.clone(), title });
        if let Some(table) = pytorch_table(group) {
            blocks.extend([Block::Text(PYTORCH_READING.into()), Block::Table(table)]);
        }
        plots.push((name, plot(group)?));
    }
    let section = Section {
        name: "speedup",
        title: "Speedup of whole networks",
        about: "How many times faster pruned networks are, by hardware, threads and batch.",
        blocks,
        csv: Some(csv(stored)),
    };
    Ok((section, plots))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NOT_MEASURED.to_owned(), |ratio| format!("{ratio:.2}x"))
}

/// Over the library's dense network; where no library runs on the device, our own takes its place.
fn over_library(row: &SpeedupRow) -> Option<f64> {
    row.speedup_over_library.or(Some(row.speedup_over_dense))
}

/// A heading and a table of geometric means for each hardware; what was not measured says so.
fn means(groups: &[SpeedupGroup<'_>]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let authors = Authors::published().ok();
    let header = [
        "device, batch",
        "networks",
        "magnitude",
        "SIMD-aware",
        "upright",
        "node",
        "combined",
        "scalpel",
        "over libtorch",
        "paper",
    ];
    for same in groups.chunk_by(|a, b| a.hardware() == b.hardware()) {
        let mut table = Table::new(header);
        for group in same {
            let mut cells = vec![group.title(), group.members.len().to_string()];
            let over_dense = |row: &SpeedupRow| Some(row.speedup_over_dense);
            cells.extend(COLUMNS.map(|policy| times(group.mean(policy, over_dense))));
            cells.push(times(group.mean(SCALPEL, |row| row.speedup_over_library)));
            let class = group.members.first().and_then(|one| one.class());
            let paper = class.and_then(|class| authors.as_ref()?.mean_speedup(class));
            cells.push(times(paper));
            table.row(cells);
        }
        blocks.extend([
            Block::Heading(format!("Means: {}", same[0].hardware())),
            Block::Table(table),
        ]);
    }
    let absent = |device: &&str| {
        let mut rows = groups.iter().filter_map(|group| group.first());
        !rows.any(|row| row.device.starts_with(device))
    };
    for device in ["cuda", "wgpu"].into_iter().filter(absent) {
        let text = format!(
            "A GPU through {device}: {NOT_MEASURED}; `speedup --device {device}` measures it."
        );
        blocks.push(Block::Text(text));
    }
    blocks
}

/// A row per network: what dense networks take, and how many times faster the policies are.
pub fn speedup_table(group: &SpeedupGroup<'_>) -> Table {
    let mut table = Table::new([
        "network",
        "libtorch, us",
        "fastest dense, us",
        "magnitude",
        "SIMD-aware",
        "upright",
        "node",
        "combined",
        "scalpel",
        "over dense",
        "scalpel, us",
        "bytes",
        "accuracy, %",
    ]);
    for one in &group.members {
        let Some(first) = one.first() else { continue };
        let scalpel = one.row(SCALPEL);
        let time = |row: Option<&SpeedupRow>| {
            row.map_or(NOT_MEASURED.into(), |row| format!("{:.1}", row.microseconds))
        };
        let dense = one.fastest_dense();
        let fastest = dense.map_or(String::new(), |row| format!(" ({})", row.policy));
        let bytes = |(scalpel, dense): (&SpeedupRow, &SpeedupRow)| {
            format!("{:.1}%", 100.0 * scalpel.bytes as f64 / dense.bytes.max(1) as f64)
        };
        let mut cells = vec![
            first.network.clone(),
            time(one.row(LIBRARY)),
            format!("{}{fastest}", time(dense)),
        ];
        cells.extend(COLUMNS.map(|policy| times(one.row(policy).and_then(over_library))));
        cells.push(times(scalpel.map(|row| row.speedup_over_dense)));
        cells.push(time(scalpel));
        cells.push(scalpel.zip(one.row(DENSE)).map_or(String::new(), bytes));
        cells.push(match scalpel.map(|row| (row.accuracy, row.is_random())) {
            Some((Some([before, after]), _)) => format!("{before:.2} → {after:.2}"),
            Some((None, true)) => "not trained".into(),
            _ => NOT_MEASURED.into(),
        });
        table.row(cells);
    }
    let mut mean = vec!["geometric mean".to_owned(), String::new(), String::new()];
    mean.extend(COLUMNS.map(|policy| times(group.mean(policy, over_library))));
    mean.push(times(group.mean(SCALPEL, |row| Some(row.speedup_over_dense))));
    table.row(mean);
    table
}

/// Where the weights that a policy ran come from, network by network.
fn weights_of(group: &SpeedupGroup<'_>, policy: &str) -> String {
    let rows = group.members.iter().filter_map(|one| one.row(policy));
    let each = rows.map(|row| format!("{}: {}", row.network, row.weights_from));
    each.collect::<Vec<_>>().join("; ")
}

/// Every row as it was measured.
fn csv(stored: &[StoredSpeedup]) -> String {
    let mut table = Table::new([
        "hardware",
        "device",
        "threads",
        "batch",
        "network",
        "policy",
        "microseconds",
        "low",
        "high",
        "over_library",
        "over_dense",
        "bytes",
        "accuracy_before",
        "accuracy",
        "weights_from",
        "detail",
        "thread_scaling",
        "date",
        "commit",
    ]);
    for StoredSpeedup { rows, environment } in stored {
        for row in rows {
            let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
            let [before, after] = row.accuracy.map_or([None; 2], |both| both.map(Some));
            table.row([
                environment.hardware(),
                row.device.clone(),
                row.threads.to_string(),
                row.batch.to_string(),
                row.network.clone(),
                row.policy.clone(),
                row.microseconds.to_string(),
                row.interval[0].to_string(),
                row.interval[1].to_string(),
                number(row.speedup_over_library),
                row.speedup_over_dense.to_string(),
                row.bytes.to_string(),
                number(before),
                number(after),
                row.weights_from.clone(),
                row.detail.clone().unwrap_or_default(),
                number(row.thread_scaling),
                environment.date.clone(),
                environment.commit.clone().unwrap_or_default(),
            ]);
        }
    }
    table.csv()
}

/// A row per network: the times of PyTorch's captured networks, and how many times faster ours is than the
/// fastest of each kind; none where PyTorch was not measured.
fn pytorch_table(group: &SpeedupGroup<'_>) -> Option<Table> {
    if !group.members.iter().any(|one| one.row(PYTORCH).is_some()) {
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
        "magnitude over cuSPARSE",
    ]);
    for one in &group.members {
        let time = |policy: &str| one.row(policy).map(|row| row.microseconds);
        let text = |time: Option<f64>| time.map_or("not measured".into(), |t| format!("{t:.1}"));
        let over = |ours: &str, theirs: &[&str]| {
            let best = theirs.iter().filter_map(|policy| time(policy)).reduce(f64::min);
            best.zip(time(ours)).map_or("not measured".into(), |(a, b)| format!("{:.2}x", a / b))
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
        cells.push(over("magnitude", &[PYTORCH_CUSPARSE]));
        table.row(cells);
    }
    Some(table)
}

/// Bars of the speedup over the library's dense network, by network and policy, with their geometric
/// means, and the paper's mean as a line. Equal rows give equal bytes.
///
/// # Errors
/// What the drawing library refuses.
fn plot(group: &SpeedupGroup<'_>) -> Result<String> {
    let over = |row: &SpeedupRow| row.speedup_over_library.or(Some(row.speedup_over_dense));
    let series = COLUMNS;
    let mut clusters: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for one in &group.members {
        let Some(first) = one.first() else { continue };
        let bars = series.iter().map(|policy| one.row(policy).and_then(over)).collect();
        clusters.push((first.network.clone(), bars));
    }
    let means = series.iter().map(|policy| group.mean(policy, over)).collect();
    clusters.push(("geometric mean".into(), means));
    let class = group.members.first().and_then(|one| one.class());
    let authors = Authors::published()?;
    let paper = class.and_then(|class| authors.mean_speedup(class));
    let beside_library = group.members.iter().any(|one| one.row(LIBRARY).is_some());
    Bars {
        title: group.caption(),
        of: if beside_library { "libtorch's dense network" } else { "our dense network" },
        series: &series,
        clusters,
        line: paper.map(|mean| (mean, format!("the paper's mean, {mean:.2}"))),
    }
    .plot()
}

/// How much smaller the stored models are than the dense ones: geometric means over the networks.
fn sizes(stored: &[StoredSpeedup]) -> Result<Option<Table>> {
    let mut of: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for one in stored {
        let Some(dense) = one.row(DENSE) else { continue };
        for policy in &COLUMNS[..COLUMNS.len() - 1] {
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
            "combined" => HardwareClass::Moderate,
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
mod tests;

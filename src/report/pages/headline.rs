//! The few numbers that README.md shows: every network on the machine that was measured best.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::network::zoo;
use crate::report::document::Svg;
use crate::report::plots::Bars;
use crate::report::runs::NOT_MEASURED;
use crate::report::speedup::{SCALPEL, SpeedupGroup, StoredSpeedup, speedup_groups};
use crate::report::table::Table;

/// The name of the picture.
const PLOT: &str = "speedup-headline";

/// Bars that a cluster has room for.
const MOST_BARS: usize = 6;

/// The table, what it says of which machine, and the picture; no picture where nothing was measured.
///
/// # Errors
/// What the drawing library refuses.
pub(super) fn headline(
    stored: &[StoredSpeedup],
    kept: &BTreeMap<String, f64>,
) -> Result<(String, Vec<Svg>)> {
    let groups = speedup_groups(stored);
    let best = best_hardware(&groups);
    let own = of_best(&groups, 1);
    let table = table(&own, kept);
    let measured = own.first().map_or_else(
        || "Not measured yet.".to_owned(),
        |group| {
            format!(
                "{}, one thread. Times faster than libtorch\nruns the dense network; in brackets, than the fastest \
                 dense one, libtorch's or ours. Accuracy, weights and\nbytes are of the model that batch 1 runs.\n{}",
                group.hardware(),
                group.measured_on()
            )
        },
    );
    let mut text = format!("{}\n{measured}\n", table.markdown());
    let mut shown = own;
    shown.extend(of_best(&groups, 2));
    shown.extend(groups.iter().filter(|group| {
        group.first().is_some_and(|row| row.device != "cpu") && !group.is_software()
    }));
    shown.truncate(MOST_BARS);
    let mut plots = Vec::new();
    if let Some(best) = best.filter(|_| !shown.is_empty()) {
        text += &format!("\n![Speedup by network and device](results/plots/{PLOT}.svg)\n");
        plots.push((PLOT.to_owned(), plot(&best, &shown)?));
    }
    Ok((text, plots))
}

/// Those of the processor that was measured best, on so many threads, by the number of images.
pub(super) fn of_best<'g, 'a>(
    groups: &'g [SpeedupGroup<'a>],
    threads: usize,
) -> Vec<&'g SpeedupGroup<'a>> {
    let best = best_hardware(groups);
    let mut own: Vec<&SpeedupGroup<'_>> = groups
        .iter()
        .filter(|group| Some(group.hardware()) == best)
        .filter(|group| group.first().is_some_and(|row| is_cpu(&row.device, row.threads, threads)))
        .collect();
    own.sort_by_key(|group| group.first().map(|row| row.batch));
    own
}

/// A row per network: what its model keeps, and how many times faster it is at each batch size.
fn table(own: &[&SpeedupGroup<'_>], kept: &BTreeMap<String, f64>) -> Table {
    let mut header: Vec<String> =
        ["network", "accuracy, %", "weights", "bytes"].map(str::to_owned).into();
    header.extend(own.iter().filter_map(|group| Some(format!("batch {}", group.first()?.batch))));
    let mut table = Table::new(header);
    for network in zoo::NAMES {
        let mut cells = vec![network.to_owned()];
        let rows = own.iter().map(|group| {
            group
                .members
                .iter()
                .find_map(|one| one.row(SCALPEL).filter(|row| row.network == network))
        });
        let rows: Vec<_> = rows.collect();
        let Some(first) = rows.iter().flatten().next() else {
            cells.resize(4 + own.len(), NOT_MEASURED.to_owned());
            table.row(cells);
            continue;
        };
        let name = first.weights_from.strip_prefix("zoo/");
        let dense = own.iter().flat_map(|group| &group.members).find_map(|one| {
            one.row(crate::report::speedup::DENSE).filter(|row| row.network == network)
        });
        cells.push(match first.accuracy {
            Some([before, after]) => format!("{before:.2} → {after:.2}"),
            None if first.is_random() => "not trained".into(),
            None => NOT_MEASURED.into(),
        });
        let share = name.and_then(|name| kept.get(name));
        cells.push(share.map_or("random".into(), |share| format!("{:.1}%", 100.0 * share)));
        cells.push(dense.map_or(NOT_MEASURED.into(), |dense| {
            format!("{:.1}%", 100.0 * first.bytes as f64 / dense.bytes.max(1) as f64)
        }));
        for row in rows {
            cells.push(row.map_or(NOT_MEASURED.into(), |row| {
                let over = row.speedup_over_library.unwrap_or(row.speedup_over_dense);
                format!("{over:.1}x ({:.1}x)", row.speedup_over_dense)
            }));
        }
        table.row(cells);
    }
    table
}

fn is_cpu(device: &str, own: usize, threads: usize) -> bool {
    device == "cpu" && own == threads
}

/// The processor on which most networks were measured on one thread, and of several the one measured last.
fn best_hardware(groups: &[SpeedupGroup<'_>]) -> Option<String> {
    let own = groups
        .iter()
        .filter(|group| group.first().is_some_and(|row| is_cpu(&row.device, row.threads, 1)));
    own.max_by_key(|group| (group.members.len(), group.date())).map(|group| group.hardware())
}

/// Clusters by network, a bar for each device and batch.
fn plot(hardware: &str, groups: &[&SpeedupGroup<'_>]) -> Result<String> {
    let names: Vec<String> = groups.iter().map(|group| group.title()).collect();
    let series: Vec<&str> = names.iter().map(String::as_str).collect();
    let bar = |group: &&SpeedupGroup<'_>, network: &str| {
        let row = group
            .members
            .iter()
            .find_map(|one| one.row(SCALPEL).filter(|row| row.network == network))?;
        row.speedup_over_library.or(Some(row.speedup_over_dense))
    };
    let clusters = zoo::NAMES.map(|network| {
        (network.to_owned(), groups.iter().map(|group| bar(group, network)).collect())
    });
    Bars {
        title: hardware.to_owned(),
        of: "libtorch's dense network",
        series: &series,
        clusters: clusters.into(),
        line: None,
    }
    .plot()
}

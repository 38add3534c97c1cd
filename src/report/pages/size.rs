//! Accuracy at a given size and at a given time: the picture that tells techniques apart.

use super::Experiment;
use crate::error::Result;
use crate::report::document::{Block, Section, Svg};
use crate::report::plots::{Panel, Scatter, Series};
use crate::report::records::Summary;
use crate::report::runs::{by_recipe, technique_name};
use crate::report::speedup::{SCALPEL, SpeedupGroup, StoredSpeedup};
use crate::train::recipe::Technique;

/// Accuracy that is drawn, in points of a percent below the best.
const DEPTH: f64 = 6.0;

const TEXT: &str = "Left: accuracy over the share of the weights that is left, a point for each seed after each stage, \
    a line through the means of each recipe's stages. Right: accuracy of the models that were timed over their time for \
    one image, batch 1, one thread, of the machine that README shows; the network as it was by the faster of libtorch \
    and ours. Both axes of costs are logarithmic. What lies further below the best accuracy than the axis reaches is not \
    drawn.";

/// The name of a network's picture.
pub(super) fn plot_name(network: &str) -> String {
    format!("accuracy-at-size-{network}")
}

/// The section, with a picture of each network that has been trained in full; `timed` are the networks of one machine
/// at batch 1.
pub(super) fn section(
    experiments: &[Experiment],
    timed: Option<&SpeedupGroup<'_>>,
) -> Result<(Option<Section>, Vec<Svg>)> {
    let (mut blocks, mut plots) = (vec![Block::Text(TEXT.into())], Vec::new());
    for network in Experiment::networks(experiments) {
        let of_size = over_weights(experiments, network);
        let points =
            || of_size.iter().flat_map(|series| &series.points).map(|&(_, accuracy)| accuracy);
        let Some(best) = points().max_by(f64::total_cmp) else { continue };
        let mut panels = vec![Panel { cost: "weights left, %".into(), series: of_size }];
        let own = timed.and_then(|group| {
            group
                .members
                .iter()
                .copied()
                .find(|one| one.first().is_some_and(|row| row.network == network))
        });
        if let Some(series) = own.map(over_time).filter(|series| !series.is_empty()) {
            panels.push(Panel { cost: "microseconds for an image".into(), series });
        }
        let title = format!("{network}: accuracy at a given size");
        let svg = Scatter { title: title.clone(), lowest: best - DEPTH, panels }.plot()?;
        blocks.push(Block::Plot { name: plot_name(network), title });
        plots.push((plot_name(network), svg));
    }
    let section = Section {
        name: "size",
        title: "Accuracy at a given size",
        about: "Pictures: accuracy over the weights that are left, and over measured time, all techniques.",
        blocks,
        csv: None,
    };
    Ok(((!plots.is_empty()).then_some(section), plots))
}

/// A series for each technique, in one order for all networks.
fn over_weights(experiments: &[Experiment], network: &str) -> Vec<Series> {
    let counts = |summary: &&Summary| !summary.quick && !summary.is_synthetic();
    let of = |technique: Technique| {
        let mut series =
            Series { name: technique_name(technique), points: Vec::new(), lines: Vec::new() };
        let own = Experiment::of(experiments, technique).filter(|own| own.network == network);
        for group in own.flat_map(|experiment| by_recipe(&experiment.runs)) {
            let runs: Vec<&Summary> = group.summaries().filter(counts).collect();
            let Some(stages) = runs.iter().map(|run| run.stages.len()).min() else { continue };
            let point = |run: &Summary, stage: usize| {
                let own = &run.stages[stage];
                let left = 100.0 * own.weights_kept as f64 / run.weights_total.max(1) as f64;
                (left, own.accuracy)
            };
            for stage in 0..stages {
                series.points.extend(runs.iter().map(|run| point(run, stage)));
            }
            let mean = |stage: usize| {
                let sum = runs.iter().map(|run| point(run, stage));
                let [x, y] = sum.fold([0.0, 0.0], |[a, b], (x, y)| [a + x, b + y]);
                (x / runs.len() as f64, y / runs.len() as f64)
            };
            series.lines.push((0..stages).map(mean).collect());
        }
        series
    };
    Technique::ALL.map(of).into()
}

/// The same series by time, and one more for the network as it was.
fn over_time(measured: &StoredSpeedup) -> Vec<Series> {
    let mut series: Vec<Series> = Technique::ALL
        .map(|technique| {
            // A technique and its policy have one name.
            let policy = technique.experiment().trim_end_matches("_pruning");
            let rows = measured.rows.iter().filter(|row| row.policy == policy);
            let points = rows.filter_map(|row| Some((row.microseconds, row.accuracy?[1])));
            Series { name: technique_name(technique), points: points.collect(), lines: Vec::new() }
        })
        .into();
    let before = measured.row(SCALPEL).and_then(|row| Some(row.accuracy?[0]));
    if let Some((dense, accuracy)) = measured.fastest_dense().zip(before) {
        let points = vec![(dense.microseconds, accuracy)];
        series.push(Series { name: "as it was", points, lines: Vec::new() });
    }
    if series.iter().all(|one| one.points.is_empty()) { Vec::new() } else { series }
}

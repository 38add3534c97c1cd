//! Every technique on every network: side by side, then recipe by recipe.

use super::Experiment;
use super::accuracy::READING;
use crate::report::document::{Block, Section};
use crate::report::runs::{
    Group, NOT_RUN, accuracies, by_recipe, mean, share_left, technique_name,
};
use crate::report::table::{Cell, Table};
use crate::train::recipe::Technique;

/// More seeds than this say no more of a recipe, when one is chosen to stand for a technique.
const ENOUGH_SEEDS: usize = 3;

const SIDE_BY_SIDE: &str = "Accuracy before → after pruning, in percent, at the share of the weights that is left: means \
    over the seeds of one recipe for each technique, the one with the most seeds (three are enough), and of several \
    the one whose networks are the most accurate. Recipes differ in their epochs and in what they remove: the table \
    below has all of them.";

const TECHNIQUES: &str = "*combined* prunes nodes, then groups of what is left; *magnitude* removes single weights by \
    magnitude, in stages with retraining (the paper's traditional pruning); *upright groups* are of one column and \
    eight rows (not the paper's), as many as *SIMD-aware* removes; *random groups* chooses at random.";

/// The section of both tables.
pub(super) fn section(experiments: &[Experiment]) -> Section {
    let every_recipe = every_recipe(experiments);
    Section {
        name: "techniques",
        title: "Every technique",
        about: "All techniques on all networks: side by side, then every recipe.",
        blocks: vec![
            Block::Text(TECHNIQUES.into()),
            Block::Heading("Side by side".into()),
            Block::Text(SIDE_BY_SIDE.into()),
            Block::Table(side_by_side(experiments)),
            Block::Heading("Every recipe".into()),
            Block::Table(every_recipe.clone()),
            Block::Text(READING.into()),
        ],
        csv: Some(every_recipe.csv()),
    }
}

/// A row per network, a column per technique.
fn side_by_side(experiments: &[Experiment]) -> Table {
    let names = Technique::ALL.map(technique_name);
    let mut table = Table::new(["network"].into_iter().chain(names));
    for network in Experiment::networks(experiments) {
        let cell = |technique| {
            let mut own = Experiment::of(experiments, technique);
            let experiment = own.find(|experiment| experiment.network == network)?;
            let groups = by_recipe(&experiment.runs);
            let group = groups.iter().filter(|group| is_whole(group)).max_by(|a, b| {
                let seeds = |group: &Group<'_>| group.runs.len().min(ENOUGH_SEEDS);
                seeds(a).cmp(&seeds(b)).then(after(a).total_cmp(&after(b)))
            })?;
            let before = mean(group.summaries().map(|summary| accuracies(summary)[0]));
            let left = mean(group.summaries().map(share_left));
            let seeds = group.runs.len();
            let plural = if seeds == 1 { "" } else { "s" };
            let after = after(group);
            let text = format!("{before:.2} → {after:.2} at {left:.1}%, {seeds} seed{plural}");
            Some(group.link(text))
        };
        let cells = Technique::ALL.map(|technique| cell(technique).unwrap_or(NOT_RUN.into()));
        table.row([Cell::from(network)].into_iter().chain(cells));
    }
    table
}

/// Whether a recipe ran at full length, on the images that the network is meant for.
fn is_whole(group: &Group<'_>) -> bool {
    !group.first().quick && !group.first().is_synthetic()
}

fn after(group: &Group<'_>) -> f64 {
    mean(group.summaries().map(|summary| accuracies(summary)[1]))
}

/// A row per recipe.
fn every_recipe(experiments: &[Experiment]) -> Table {
    let mut table = Table::new([
        "network",
        "technique",
        "nodes kept",
        "weights left",
        "accuracy",
        "last epoch",
        "bytes",
        "run",
    ]);
    for experiment in experiments {
        for group in by_recipe(&experiment.runs) {
            let first = group.first();
            table.row([
                Cell::from(&*first.network),
                technique_name(first.technique).into(),
                group.nodes().into(),
                format!("{}%", group.mean(share_left, 1)).into(),
                group.before_and_after().into(),
                group.mean(|s| accuracies(s)[2], 2).into(),
                group.bytes().into(),
                group.cell(),
            ]);
        }
        if experiment.runs.is_empty() {
            table.row([&*experiment.network, technique_name(experiment.technique), NOT_RUN]);
        }
    }
    table
}

//! What training in fewer bits costs: runs that differ in nothing else, side by side.

use super::Experiment;
use crate::error::Result;
use crate::report::document::{Block, Section};
use crate::report::records::Summary;
use crate::report::run_folder::StoredRun;
use crate::report::runs::{accuracies, mean_and_deviation, technique_name};
use crate::report::table::Table;
use crate::train::recipe::{Precision, Recipe};

/// The section on them; none without such runs.
///
/// # Errors
/// A run's recipe that cannot be read.
pub(super) fn section(experiments: &[Experiment]) -> Result<Option<Section>> {
    let mut table = Table::new([
        "network",
        "technique",
        "numbers",
        "before, f32",
        "before",
        "after, f32",
        "after",
        "after, less f32's",
        "seeds",
    ]);
    for experiment in experiments {
        rows(&mut table, &experiment.runs)?;
    }
    if table.is_empty() {
        return Ok(None);
    }
    let text = "The same recipe and seeds, layers multiplying in bf16 (`--precision bf16`; all but the last one in \
                bf16-hidden) and in f32. Accuracies are measured in f32.";
    Ok(Some(Section {
        name: "bf16",
        title: "Training in bf16",
        about: "What training in bf16 costs in accuracy, recipe by recipe.",
        blocks: vec![Block::Text(text.into()), Block::Table(table)],
        csv: None,
    }))
}

/// A row for each recipe of these runs, all of one technique and network, that ran in fewer bits and in f32
/// with the same seeds.
///
/// # Errors
/// A run's recipe that cannot be read.
fn rows(table: &mut Table, runs: &[StoredRun]) -> Result<()> {
    let mut pairs: Vec<(String, Vec<[&Summary; 2]>)> = Vec::new();
    for run in runs.iter().filter(|run| !run.summary.precision.is_f32()) {
        let recipe = Recipe::load(&run.folder.recipe())?;
        let hash = Recipe { precision: Precision::F32, ..recipe }.hash();
        let same = |other: &&StoredRun| {
            other.hash == hash
                && other.summary.seed == run.summary.seed
                && other.summary.dataset == run.summary.dataset
        };
        let Some(twin) = runs.iter().find(same) else { continue };
        let pair = [&twin.summary, &run.summary];
        match pairs
            .iter_mut()
            .find(|(of, others)| *of == hash && others[0][1].precision == run.summary.precision)
        {
            Some((_, others)) => others.push(pair),
            None => pairs.push((hash, vec![pair])),
        }
    }
    pairs.sort_by_cached_key(|(hash, pairs)| (hash.clone(), pairs[0][1].precision as u8));
    for (_, pairs) in pairs {
        table.row(cells(&pairs));
    }
    Ok(())
}

fn cells(pairs: &[[&Summary; 2]]) -> Vec<String> {
    let low = pairs[0][1];
    let of = |value: &dyn Fn(&[&Summary; 2]) -> f64| {
        mean_and_deviation(&pairs.iter().map(value).collect::<Vec<_>>(), 2)
    };
    let mut cells = vec![
        low.network.clone(),
        technique_name(low.technique).to_owned(),
        low.precision.name().to_owned(),
    ];
    for which in 0..2 {
        for side in 0..2 {
            cells.push(of(&|pair| accuracies(pair[side])[which]));
        }
    }
    cells.push(of(&|[full, low]| accuracies(low)[1] - accuracies(full)[1]));
    let seeds: Vec<String> = pairs.iter().map(|[_, low]| low.seed.to_string()).collect();
    cells.push(seeds.join(", "));
    cells
}

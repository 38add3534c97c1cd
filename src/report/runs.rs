//! Runs of one recipe as a row of a table: means and deviations over the seeds, and how numbers are
//! written.

use super::records::{StageSummary, Summary};
use super::run_folder::StoredRun;
use super::table::Cell;
use crate::train::recipe::{Recipe, Technique};

/// What stands where a number is missing.
pub(super) const NOT_MEASURED: &str = "not measured";
pub(super) const NOT_RUN: &str = "not run";
pub(super) const NOT_STATED: &str = "not stated";
/// Of a run, by the version that made it.
pub(super) const NOT_RECORDED: &str = "not recorded";

/// Runs of one recipe.
pub(super) struct Group<'a> {
    pub(super) runs: Vec<&'a StoredRun>,
}

impl Group<'_> {
    pub(super) fn summaries(&self) -> impl ExactSizeIterator<Item = &Summary> {
        self.runs.iter().map(|run| &run.summary)
    }

    pub(super) fn first(&self) -> &Summary {
        &self.runs[0].summary
    }

    pub(super) fn mean(&self, value: impl Fn(&Summary) -> f64, digits: usize) -> String {
        mean_and_deviation(&self.summaries().map(value).collect::<Vec<_>>(), digits)
    }

    /// Which of the carried recipes ran, unless it is the plain one or a user's own.
    pub(super) fn variant(&self) -> Option<&'static str> {
        let Summary { network, technique, original_weights, .. } = self.first();
        Recipe::variant_of(network, *technique, &self.runs[0].hash, original_weights.as_deref())
    }

    /// What a reader must know of these runs before the numbers.
    pub(super) fn label(&self) -> String {
        let first = self.first();
        let mut notes = Vec::new();
        if first.quick {
            notes.push("quick".to_owned());
        }
        if first.is_synthetic() {
            notes.push("SYNTHETIC DIGITS".to_owned());
        }
        if !first.precision.is_f32() {
            notes.push(first.precision.name().to_owned());
        }
        if let Some(variant) = self.variant() {
            notes.push(format!("recipe {variant}"));
        }
        if let Some(sha256) = &first.original_weights {
            notes.push(format!("from original {}", sha256.get(..12).unwrap_or(sha256)));
        }
        let seeds: Vec<String> = self.summaries().map(|s| s.seed.to_string()).collect();
        notes.push(format!("seed{} {}", if seeds.len() == 1 { "" } else { "s" }, seeds.join(", ")));
        notes.join(", ")
    }
}

impl Group<'_> {
    /// The label, which leads to the runs.
    pub(super) fn cell(&self) -> Cell {
        self.link(self.label())
    }

    /// A text that leads to the runs.
    pub(super) fn link(&self, text: String) -> Cell {
        let path = self.runs[0].link();
        let recipe = path.rsplit_once('/').map_or(&*path, |(recipe, _)| recipe);
        Cell::link(text, recipe)
    }

    /// The nodes that are kept of each masked layer.
    pub(super) fn nodes(&self) -> String {
        let nodes = 0..self.first().nodes_kept.len();
        let node = |i: usize| self.mean(|s| s.nodes_kept.get(i).map_or(0.0, |&n| n as f64), 0);
        nodes.map(node).collect::<Vec<_>>().join(", ")
    }

    /// Accuracy before and after pruning.
    pub(super) fn before_and_after(&self) -> String {
        let [before, after] = [0, 1].map(|place| self.mean(|s| accuracies(s)[place], 2));
        format!("{before} → {after}")
    }

    /// Bytes before and after pruning.
    pub(super) fn bytes(&self) -> String {
        format!("{} → {}", self.first().bytes_dense, self.mean(|s| s.bytes_pruned as f64, 0))
    }
}

/// Accuracies before, after, and after the last epoch, in percent: among the five highest scores where
/// there are many classes, as the authors state them.
pub(super) fn accuracies(summary: &Summary) -> [f64; 3] {
    let top5 = |stage: Option<&StageSummary>| stage.and_then(|stage| stage.top5);
    match (top5(summary.stages.first()), top5(summary.stages.last())) {
        (Some([before, _]), Some([after, last])) => [before, after, last],
        _ => [summary.accuracy_before, summary.accuracy_after, summary.accuracy_after_last_epoch],
    }
}

/// The share of the weights that is left, in percent.
pub(super) fn share_left(summary: &Summary) -> f64 {
    100.0 * summary.weights_kept as f64 / summary.weights_total.max(1) as f64
}

pub(super) fn weights_left(summary: &Summary) -> String {
    let share = percent(share_left(summary), 1);
    format!("{} of {} ({share})", summary.weights_kept, summary.weights_total)
}

pub(super) fn technique_name(technique: Technique) -> &'static str {
    match technique {
        Technique::NodePruning => "node pruning",
        Technique::SimdPruning => "SIMD-aware",
        Technique::UprightPruning => "upright groups",
        Technique::CombinedPruning => "combined",
        Technique::MagnitudePruning => "magnitude",
        Technique::RandomPruning => "random groups",
    }
}

pub(super) fn percent(value: f64, digits: usize) -> String {
    format!("{value:.digits$}%")
}

pub(super) fn fractions(kept: &[usize], total: &[usize]) -> String {
    let pairs: Vec<String> =
        kept.iter().zip(total).map(|(kept, total)| format!("{kept}/{total}")).collect();
    pairs.join(" ")
}

/// The mean; not a number where there are none.
pub(super) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// `mean ± sample deviation`, or the number itself where there is but one.
pub(super) fn mean_and_deviation(values: &[f64], digits: usize) -> String {
    let mean = mean(values.iter().copied());
    if values.len() < 2 {
        return format!("{mean:.digits$}");
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
        / (values.len() as f64 - 1.0);
    format!("{mean:.digits$} ± {:.digits$}", variance.sqrt())
}

/// The runs of each recipe and data set: whole recipes first, then f32, then the plain recipe.
pub(super) fn by_recipe(runs: &[StoredRun]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in runs {
        let same = |group: &&mut Group<'_>| {
            group.runs[0].hash == run.hash && group.first().dataset == run.summary.dataset
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { runs: vec![run] }),
        }
    }
    groups.sort_by_cached_key(|group| {
        let first = group.first();
        (
            first.quick,
            first.dataset.clone(),
            first.precision as u8,
            group.variant(),
            group.runs[0].hash.clone(),
        )
    });
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_of_a_sample() {
        assert_eq!(mean_and_deviation(&[98.0, 99.0, 100.0], 2), "99.00 ± 1.00");
        assert_eq!(mean_and_deviation(&[98.5], 2), "98.50");
    }
}

//! One pattern of groups or the other, at the same share of the weights and on the same schedule.

use super::Experiment;
use super::accuracy::READING;
use crate::report::document::{Block, Section};
use crate::report::records::{StageSummary, Summary};
use crate::report::runs::{Group, by_recipe};
use crate::report::table::{Cell, Table};
use crate::train::recipe::Technique;

/// What the names of variants end in that prune otherwise than the plain one, and what they do.
const VARIANTS: [(&str, &str); 2] = [("refined", "8 x 1, refined"), ("ordered", "8 x 1, ordered")];

const TEXT: &str = "*1 x 8*: the paper's SIMD-aware pruning, eight neighbours of one row; *8 x 1*: upright groups, eight \
    rows of one column, as many as the row above removed, by the same schedule, from originals of the same recipe; \
    *ordered*: nodes that read the same inputs were put into the same strip before the first groups went; *refined*: \
    ordered for the last stage's share, then exchanged as long as that keeps more, and the rows that are left over at the \
    bottom of a layer may go, too, in groups of fewer. What each pattern runs at is on the pages of [products](breakeven.md) and [whole networks](speedup.md). Accuracy after each \
    stage, in percent.";

/// The section, where upright groups have been trained at all.
pub(super) fn section(experiments: &[Experiment]) -> Option<Section> {
    let mut table =
        Table::new(["network", "recipe", "groups", "removed, %", "accuracy", "bytes", "run"]);
    let mut rows = 0;
    for (of_simd, of_upright) in experiments.iter().filter_map(|simd| {
        let is_pair = |own: &&Experiment| {
            own.technique == Technique::UprightPruning && own.network == simd.network
        };
        let pair = (simd.technique == Technique::SimdPruning).then_some(simd)?;
        Some((pair, experiments.iter().find(is_pair)?))
    }) {
        let (simd, upright) = (by_recipe(&of_simd.runs), by_recipe(&of_upright.runs));
        let mut bases: Vec<String> = upright.iter().map(|group| base(group).0).collect();
        bases.sort_unstable();
        bases.dedup();
        for recipe in bases {
            let paper = simd.iter().filter(|group| group.variant().unwrap_or_default() == recipe);
            for group in paper {
                table.row(cells(&recipe, "1 x 8", group));
            }
            for group in upright.iter().filter(|group| base(group).0 == recipe) {
                table.row(cells(&recipe, base(group).1, group));
                rows += 1;
            }
        }
    }
    (rows > 0).then(|| Section {
        name: "patterns",
        title: "One pattern or the other",
        about: "Groups of one row or of one column: accuracy at the same share of the weights.",
        blocks: vec![Block::Text(TEXT.into()), Block::Table(table), Block::Text(READING.into())],
        csv: None,
    })
}

/// The variant that a recipe of upright groups is the counterpart of, empty for the plain one, and its pattern.
fn base(group: &Group<'_>) -> (String, &'static str) {
    let variant = group.variant().unwrap_or_default();
    let found = VARIANTS.iter().find_map(|&(end, pattern)| {
        let plain = variant.strip_suffix(end)?;
        Some((plain.trim_end_matches('_').to_owned(), pattern))
    });
    found.unwrap_or((variant.to_owned(), "8 x 1"))
}

fn cells(recipe: &str, pattern: &str, group: &Group<'_>) -> Vec<Cell> {
    let stages = 1..group.first().stages.len();
    let each = |value: &dyn Fn(&Summary, &StageSummary) -> f64, digits: usize| {
        let of_stage = |stage: usize| {
            group.mean(|s| s.stages.get(stage).map_or(f64::NAN, |own| value(s, own)), digits)
        };
        stages.clone().map(of_stage).collect::<Vec<_>>().join(", ")
    };
    let removed = |summary: &Summary, stage: &StageSummary| {
        100.0 * (1.0 - stage.weights_kept as f64 / summary.weights_total.max(1) as f64)
    };
    vec![
        Cell::from(&*group.first().network),
        Cell::from(if recipe.is_empty() { "plain" } else { recipe }),
        pattern.into(),
        each(&removed, 1).into(),
        each(&|_, stage| stage.accuracy, 2).into(),
        group.bytes().into(),
        group.cell(),
    ]
}

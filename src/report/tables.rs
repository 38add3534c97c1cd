//! The tables of the paper and of the authors' README, ours beside theirs, from the results tree
//! alone.

use super::authors::{Authors, NodeRow, SimdRow};
use super::breakeven::{StoredSweep, breakeven_table};
use super::choices::choices_table;
use super::environment::Environment;
use super::plot::stages_plot;
use super::precision::{precision_header, precision_rows};
use super::results::{Latency, ResultsTree, StoredRun, Summary};
use super::runs::{
    Group, accuracies, by_recipe, fractions, percent, share_left, technique_name, weights_left,
};
use super::speedup::SpeedupSection;
use super::text::Table;
use crate::error::{Error, Result};
use crate::network::zoo;
use crate::train::recipe::Technique;

const NOT_MEASURED: &str = "not measured";
/// The contestants of a run's own measurement.
const LATENCY_CONTESTANTS: [&str; 4] = ["dense", "masked", "compacted", "scalpel"];
const NOT_RUN: &str = "not run";
const NOT_STATED: &str = "not stated";
const BEGIN: &str = "<!-- results:begin -->";
const END: &str = "<!-- results:end -->";

const BREAKEVEN: &str = "\n## Where group sparsity pays\n\nBy `cargo run --release --bin breakeven`: \
    `group_spmm` beside the library's dense product and its CSR product with equally many weights, in \
    turns in one run, medians. Geometric means over the shapes. *Rate* is of useful operations: near \
    1, sparsity pays up to a density near 1.\n";

const PRECISION: &str = "\n## Training in bf16\n\nThe same recipe and seeds, layers multiplying in bf16 \
    (`--precision bf16`) and in f32. Accuracies are measured in f32.\n\n";

const CHOICES: &str = "\n## Chosen on held-out images\n\nWhat was tried before a recipe was settled on, scored \
    on the last training images, which none of these runs trained on; never on the test set. To run one again: \
    `cargo run --release --bin <technique> -- <network> --recipe \
    results/<technique>/<network>/<recipe>/seed-<n>/recipe.toml`.\n\n";

/// Everything that `tables` writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// RESULTS.md.
    pub results: String,
    /// What stands between the markers of README.md.
    pub readme: String,
    /// Plots by name.
    pub plots: Vec<(String, String)>,
}

impl Tables {
    /// Builds every table and plot from what lies in the tree.
    ///
    /// # Errors
    /// A file in the tree that is not what its name says.
    pub fn build(tree: &ResultsTree) -> Result<Self> {
        let authors = Authors::published()?;
        let mut plots = Vec::new();
        let mut inference = Table::new([
            "network",
            "technique",
            "seed",
            "batch",
            "dense",
            "masked",
            "compacted",
            "scalpel",
            "speedup",
            "threads",
            "hardware",
            "date",
        ]);
        let mut all_runs = Table::new([
            "technique",
            "network",
            "recipe",
            "seed",
            "data",
            "before",
            "after",
            "last epoch",
            "left",
            "hardware",
            "threads",
            "date",
            "commit",
        ]);

        let mut node = node_header();
        for row in &authors.node {
            let runs = scored_on_the_test_set(tree, Technique::NodePruning, &row.network)?;
            for group in by_recipe(&runs) {
                node.row(node_cells(row, &group));
                plots.extend(plot(&group)?);
            }
            if runs.is_empty() {
                node.row(node_not_measured(row));
            }
            runs.iter().for_each(|run| inference_rows(&mut inference, run));
            runs.iter().for_each(|run| all_runs.row(run_cells(run)));
        }
        let mut simd = simd_header();
        for network in zoo::NAMES {
            let stated = authors.simd.iter().find(|row| row.network == network);
            let runs = scored_on_the_test_set(tree, Technique::SimdPruning, network)?;
            for group in by_recipe(&runs) {
                simd.row(simd_cells(network, stated, &group));
                plots.extend(plot(&group)?);
            }
            if runs.is_empty() {
                simd.row(simd_not_measured(network, stated));
            }
            runs.iter().for_each(|run| inference_rows(&mut inference, run));
            runs.iter().for_each(|run| all_runs.row(run_cells(run)));
        }

        let mut all = techniques_header();
        let mut precision = precision_header();
        let mut chosen = Vec::new();
        for network in zoo::NAMES {
            for technique in Technique::ALL {
                let (runs, trials) = runs_and_trials(tree, technique, network)?;
                chosen.extend(trials);
                precision_rows(&mut precision, &runs)?;
                for group in by_recipe(&runs) {
                    all.row(techniques_cells(&group));
                }
                if runs.is_empty() {
                    all.row(techniques_not_run(network, technique));
                }
                if !matches!(technique, Technique::NodePruning | Technique::SimdPruning) {
                    runs.iter().for_each(|run| inference_rows(&mut inference, run));
                    runs.iter().for_each(|run| all_runs.row(run_cells(run)));
                    for group in by_recipe(&runs) {
                        plots.extend(plot(&group)?);
                    }
                }
            }
        }

        let speedup = SpeedupSection::of(&tree.speedups()?)?;
        let reading = "Accuracy in percent on the test set, mean ± standard deviation over the seeds. \
            *After* is the best epoch by test accuracy where the last stage keeps its best, since the \
            authors selected so; *last epoch* selects nothing.";
        let readme = format!(
            "### Node pruning\n\n{}\n### SIMD-aware weight pruning\n\n{}\n{reading}\n\n{}",
            node.markdown(),
            simd.markdown(),
            speedup.readme
        );
        let mut results = format!(
            "# Results\n\nWritten by `cargo run --release --bin tables` from `results/`; no number is \
             typed by hand.\n\n## Node pruning\n\n{}\n## SIMD-aware weight pruning\n\n{}\n{reading} \
             *Weights left* are those of the compacted network, or of the groups that are left; sizes \
             are of weights and biases in f32, with all indices.\n\n## Every technique\n\n{}\n\
             *Both* prunes nodes, then groups of what is left; *traditional* removes single weights by \
             magnitude, in stages with retraining; *random groups* chooses by lot. ImageNet: among the \
             five highest scores.\n{}{}\n## Inference time\n\n{}\n\
             Medians of one call, the contestants in turns in one run: *dense*, *masked* and *compacted* in \
             libtorch, *scalpel* the pruned network on our own kernels; *speedup* is dense over scalpel, or \
             over compacted where our kernels were not yet timed.\n\n## Runs\n\n{}",
            node.markdown(),
            simd.markdown(),
            all.markdown(),
            section(PRECISION, &precision),
            section(CHOICES, &choices_table(&chosen)?),
            inference.markdown(),
            all_runs.markdown()
        );
        results.push_str(&speedup.results);
        let sweeps = tree.sweeps()?;
        if !sweeps.is_empty() {
            results.push_str(BREAKEVEN);
        }
        for sweep in &sweeps {
            let (title, environment) = (sweep.title(), &sweep.environment);
            let commit = environment.commit.as_deref().unwrap_or("unknown");
            let ceilings = environment
                .ceilings
                .map_or_else(String::new, |ceilings| format!(" At best: {ceilings}."));
            results.push_str(&format!(
                "\n### {title}\n\nMeasured on {} ({}), commit {commit}, sweep {}.{ceilings}\n\n{}",
                environment.date,
                environment.hardware(),
                sweep.hash,
                breakeven_table(&sweep.points).markdown()
            ));
            plots.push(sweep.plot()?);
        }
        for (device, title) in
            [("cuda", "An NVIDIA GPU, through CUDA"), ("wgpu", "A GPU, through wgpu")]
        {
            let here = |sweep: &&StoredSweep| {
                sweep.sweep.device.as_ref().is_some_and(|name| name.starts_with(device))
            };
            if !sweeps.is_empty() && !sweeps.iter().any(|sweep| here(&sweep)) {
                results.push_str(&format!(
                    "\n### {title}\n\nNot measured: `breakeven --device {device}` measures it.\n"
                ));
            }
        }
        if !plots.is_empty() {
            results.push_str("\n## Plots\n");
            for (name, _) in &plots {
                results.push_str(&format!("\n![{name}](results/plots/{name}.svg)\n"));
            }
        }
        // They are shown where their tables are.
        plots.extend(speedup.plots);
        Ok(Self { results, readme, plots })
    }

    /// README.md with our part of it replaced.
    ///
    /// # Errors
    /// A README without the two markers.
    pub fn into_readme(&self, readme: &str) -> Result<String> {
        let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(END)?;
            Some((before, after))
        });
        let Some((before, after)) = parts else {
            let expected = format!("the markers {BEGIN} and {END}");
            return Err(Error::malformed("README.md", expected, "not both of them"));
        };
        Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.readme))
    }
}

/// A table below its heading; nothing where it has no rows.
fn section(heading: &str, table: &Table) -> String {
    if table.is_empty() { String::new() } else { format!("{heading}{}", table.markdown()) }
}

/// The runs of an experiment that were scored on the test set, and those scored on held-out images.
fn runs_and_trials(
    tree: &ResultsTree,
    technique: Technique,
    network: &str,
) -> Result<(Vec<StoredRun>, Vec<StoredRun>)> {
    let runs = tree.runs(technique, network)?;
    Ok(runs.into_iter().partition(|run| run.summary.validation_images.is_none()))
}

fn scored_on_the_test_set(
    tree: &ResultsTree,
    technique: Technique,
    network: &str,
) -> Result<Vec<StoredRun>> {
    Ok(runs_and_trials(tree, technique, network)?.0)
}

/// The table that `reproduce` ends with: authors and ours, a column per run.
///
/// # Errors
/// The authors' numbers cannot be read.
pub fn run_table(runs: &[(&Summary, Option<&Latency>, &Environment)]) -> Result<Table> {
    let authors = Authors::published()?;
    let mut header = vec![String::new()];
    for (summary, ..) in runs {
        let name = technique_name(summary.technique);
        header.push(format!("{name}, authors"));
        let quick = if summary.quick { " QUICK" } else { "" };
        header.push(format!("{name}, ours{quick}"));
    }
    let mut table = Table::new(header);
    let columns: Vec<[Vec<String>; 2]> = runs
        .iter()
        .map(|(summary, latency, environment)| {
            [authors_column(&authors, summary), our_column(summary, *latency, environment)]
        })
        .collect();
    let labels = [
        "network",
        "data",
        "seed",
        "accuracy before",
        "accuracy after",
        "accuracy, last epoch",
        "nodes kept",
        "weights left",
        "bytes dense",
        "bytes pruned",
        "batch 1: dense",
        "batch 1: masked",
        "batch 1: compacted",
        "batch 1: scalpel",
        "batch 128: dense",
        "batch 128: masked",
        "batch 128: compacted",
        "batch 128: scalpel",
        "measured on",
    ];
    for (index, label) in labels.iter().enumerate() {
        let cells = columns.iter().flatten().map(|column| column[index].clone());
        table.row(std::iter::once((*label).to_owned()).chain(cells));
    }
    Ok(table)
}

fn authors_column(authors: &Authors, summary: &Summary) -> Vec<String> {
    let stated = |value: Option<String>| value.unwrap_or_else(|| NOT_STATED.into());
    let (dataset, before, after, nodes, left) = match summary.technique {
        Technique::NodePruning => {
            let row = authors.node.iter().find(|row| row.network == summary.network);
            let kept = row.map(|row| fractions(&row.kept, &summary.nodes_total));
            (row.map(|r| &r.dataset), row.map(|r| r.before), row.map(|r| r.after), kept, None)
        }
        Technique::SimdPruning => {
            let row = authors.simd.iter().find(|row| row.network == summary.network);
            let left =
                row.and_then(|row| row.removed.last()).map(|removed| percent(100.0 - removed, 1));
            (row.map(|r| &r.dataset), row.map(|r| r.before), None, None, left)
        }
        Technique::CombinedPruning | Technique::MagnitudePruning | Technique::RandomPruning => {
            (None, None, None, None, None)
        }
    };
    let mut column = vec![
        summary.network.clone(),
        stated(dataset.cloned()),
        NOT_STATED.into(),
        stated(before.map(|value| percent(value, 2))),
        stated(after.map(|value| percent(value, 2))),
        NOT_STATED.into(),
        nodes.unwrap_or_default(),
        stated(left),
    ];
    column.resize(19, NOT_STATED.into());
    column
}

fn our_column(
    summary: &Summary,
    latency: Option<&Latency>,
    environment: &Environment,
) -> Vec<String> {
    let mut column = vec![
        summary.network.clone(),
        summary.dataset.clone(),
        summary.seed.to_string(),
        percent(summary.accuracy_before, 2),
        percent(summary.accuracy_after, 2),
        percent(summary.accuracy_after_last_epoch, 2),
        fractions(&summary.nodes_kept, &summary.nodes_total),
        weights_left(summary),
        summary.bytes_dense.to_string(),
        summary.bytes_pruned.to_string(),
    ];
    for batch in [1, 128] {
        for contestant in LATENCY_CONTESTANTS {
            column.push(time_of(latency, batch, contestant));
        }
    }
    let environment = latency.map_or(environment, |latency| &latency.environment);
    column.push(format!("{}, {}", environment.hardware(), environment.date));
    column
}

fn node_header() -> Table {
    Table::new([
        "network",
        "data",
        "kept, authors",
        "kept, ours",
        "before, authors",
        "before, ours",
        "after, authors",
        "after, ours",
        "last epoch",
        "weights left, %",
        "bytes dense",
        "bytes pruned",
        "runs",
    ])
}

fn node_cells(authors: &NodeRow, group: &Group<'_>) -> Vec<String> {
    let first = group.first();
    let layers = 0..first.nodes_total.len();
    let kept: Vec<String> =
        layers.map(|i| group.mean(|s| s.nodes_kept.get(i).map_or(0.0, |&n| n as f64), 0)).collect();
    let kept: Vec<String> = kept
        .iter()
        .zip(&first.nodes_total)
        .map(|(kept, total)| format!("{kept} /{total}"))
        .collect();
    vec![
        authors.network.clone(),
        first.dataset.clone(),
        fractions(&authors.kept, &first.nodes_total),
        kept.join(", "),
        format!("{:.2}", authors.before),
        group.mean(|s| accuracies(s)[0], 2),
        format!("{:.2}", authors.after),
        group.mean(|s| accuracies(s)[1], 2),
        group.mean(|s| accuracies(s)[2], 2),
        group.mean(share_left, 1),
        first.bytes_dense.to_string(),
        group.mean(|s| s.bytes_pruned as f64, 0),
        group.label(),
    ]
}

fn node_not_measured(authors: &NodeRow) -> Vec<String> {
    let totals = zoo::by_name(&authors.network).and_then(|network| network.mask_sites());
    let totals: Vec<usize> = totals.unwrap_or_default().iter().map(|site| site.nodes).collect();
    let mut cells = vec![
        authors.network.clone(),
        authors.dataset.clone(),
        fractions(&authors.kept, &totals),
        NOT_MEASURED.into(),
        format!("{:.2}", authors.before),
        NOT_MEASURED.into(),
        format!("{:.2}", authors.after),
    ];
    cells.resize(12, NOT_MEASURED.into());
    cells
}

fn simd_header() -> Table {
    Table::new([
        "network",
        "data",
        "removed by stage, authors, %",
        "removed by stage, ours, %",
        "before, authors",
        "before, ours",
        "after, authors",
        "after, ours",
        "bytes dense",
        "bytes pruned",
        "runs",
    ])
}

fn stated_removed(stated: Option<&SimdRow>) -> String {
    stated.map_or(NOT_STATED.into(), |row| {
        row.removed.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ")
    })
}

fn simd_cells(network: &str, stated: Option<&SimdRow>, group: &Group<'_>) -> Vec<String> {
    let first = group.first();
    let removed = |summary: &Summary, stage: usize| {
        let kept = summary.stages.get(stage).map_or(0, |stage| stage.weights_kept);
        100.0 * (1.0 - kept as f64 / summary.weights_total.max(1) as f64)
    };
    let stages = 1..first.stages.len();
    let removed: Vec<String> = stages.map(|stage| group.mean(|s| removed(s, stage), 1)).collect();
    vec![
        network.to_owned(),
        first.dataset.clone(),
        stated_removed(stated),
        removed.join(", "),
        stated.map_or(NOT_STATED.into(), |row| format!("{:.2}", row.before)),
        group.mean(|s| accuracies(s)[0], 2),
        NOT_STATED.into(),
        group.mean(|s| accuracies(s)[1], 2),
        first.bytes_dense.to_string(),
        group.mean(|s| s.bytes_pruned as f64, 0),
        group.label(),
    ]
}

fn simd_not_measured(network: &str, stated: Option<&SimdRow>) -> Vec<String> {
    let mut cells = vec![
        network.to_owned(),
        stated.map_or(String::new(), |row| row.dataset.clone()),
        stated_removed(stated),
        NOT_MEASURED.into(),
        stated.map_or(NOT_STATED.into(), |row| format!("{:.2}", row.before)),
        NOT_MEASURED.into(),
        NOT_STATED.into(),
    ];
    cells.resize(10, NOT_MEASURED.into());
    cells
}

fn techniques_header() -> Table {
    Table::new([
        "network",
        "technique",
        "recipe",
        "nodes kept",
        "weights left, %",
        "before",
        "after",
        "last epoch",
        "bytes dense",
        "bytes pruned",
        "runs",
    ])
}

fn techniques_cells(group: &Group<'_>) -> Vec<String> {
    let first = group.first();
    let nodes = 0..first.nodes_kept.len();
    let node = |i: usize| group.mean(|s| s.nodes_kept.get(i).map_or(0.0, |&n| n as f64), 0);
    vec![
        first.network.clone(),
        technique_name(first.technique).to_owned(),
        group.runs[0].hash.clone(),
        nodes.map(node).collect::<Vec<_>>().join(", "),
        group.mean(share_left, 1),
        group.mean(|s| accuracies(s)[0], 2),
        group.mean(|s| accuracies(s)[1], 2),
        group.mean(|s| accuracies(s)[2], 2),
        first.bytes_dense.to_string(),
        group.mean(|s| s.bytes_pruned as f64, 0),
        group.label(),
    ]
}

fn techniques_not_run(network: &str, technique: Technique) -> Vec<String> {
    let mut cells = vec![network.to_owned(), technique_name(technique).to_owned()];
    cells.resize(10, NOT_RUN.into());
    cells
}

fn time_of(latency: Option<&Latency>, batch: usize, contestant: &str) -> String {
    let row = latency.and_then(|latency| latency.rows.iter().find(|row| row.batch == batch));
    let time = row.and_then(|row| row.times.get(contestant));
    time.map_or(NOT_MEASURED.into(), |time| {
        let micro = |seconds: f64| 1e6 * seconds;
        format!("{:.1} us ({:.1} to {:.1})", micro(time.median), micro(time.low), micro(time.high))
    })
}

fn inference_rows(table: &mut Table, run: &StoredRun) {
    for row in run.latency.iter().flat_map(|latency| &latency.rows) {
        let pruned = row.times.get("scalpel").or(row.times.get("compacted"));
        let speedup = match (row.times.get("dense"), pruned) {
            (Some(dense), Some(pruned)) => format!("{:.2}x", dense.median / pruned.median),
            _ => NOT_MEASURED.into(),
        };
        let mut cells = vec![
            run.summary.network.clone(),
            technique_name(run.summary.technique).to_owned(),
            run.summary.seed.to_string(),
            row.batch.to_string(),
        ];
        for contestant in LATENCY_CONTESTANTS {
            cells.push(time_of(run.latency.as_ref(), row.batch, contestant));
        }
        cells.push(speedup);
        cells.push(run.latency.as_ref().map_or(0, |latency| latency.threads).to_string());
        let measured =
            run.latency.as_ref().map_or(&run.environment, |latency| &latency.environment);
        cells.extend([measured.hardware(), measured.date.clone()]);
        table.row(cells);
    }
}

fn run_cells(run: &StoredRun) -> Vec<String> {
    let summary = &run.summary;
    let nodes = fractions(&summary.nodes_kept, &summary.nodes_total);
    let left = if summary.nodes_kept.is_empty() {
        weights_left(summary)
    } else {
        format!("{nodes}; {}", weights_left(summary))
    };
    vec![
        technique_name(summary.technique).to_owned() + if summary.quick { ", quick" } else { "" },
        summary.network.clone(),
        run.hash.clone(),
        summary.seed.to_string(),
        summary.dataset.clone(),
        format!("{:.2}", summary.accuracy_before),
        format!("{:.2}", summary.accuracy_after),
        format!("{:.2}", summary.accuracy_after_last_epoch),
        left,
        run.environment.hardware(),
        run.environment.threads.map_or("not recorded".into(), |threads| threads.to_string()),
        run.environment.date.clone(),
        run.environment.commit.clone().unwrap_or_default(),
    ]
}

/// A plot of a recipe's full runs.
fn plot(group: &Group<'_>) -> Result<Option<(String, String)>> {
    let first = group.first();
    if first.quick {
        return Ok(None);
    }
    let name = format!("{}-{}-{}", first.technique.experiment(), first.network, group.runs[0].hash);
    let title =
        format!("{} of {} on {}", technique_name(first.technique), first.network, first.dataset);
    let runs: Vec<&Summary> = group.summaries().collect();
    Ok(Some((name, stages_plot(&title, &runs)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use crate::report::StageSummary;
    use crate::train::recipe::{Precision, Recipe};

    #[test]
    fn an_empty_tree_gives_tables_that_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::build(&ResultsTree::at(folder.path())).unwrap();
        assert_eq!(tables, Tables::build(&ResultsTree::at(folder.path())).unwrap());
        for network in zoo::NAMES {
            let rows =
                tables.readme.lines().filter(|line| line.starts_with(&format!("| {network} ")));
            let rows: Vec<&str> = rows.collect();
            assert_eq!(rows.len(), 2, "{network} in both tables");
            assert!(rows.iter().all(|row| row.contains(NOT_MEASURED)));
        }
        assert!(tables.readme.contains("161/300 64/100") && tables.plots.is_empty());
    }

    /// A run of a carried recipe with these accuracies after its two stages.
    fn store(tree: &ResultsTree, recipe: &Recipe, accuracies: [f64; 2]) {
        let folder = tree.run(recipe);
        let stage = |name: &str, accuracy| StageSummary {
            name: name.to_owned(),
            accuracy,
            accuracy_last_epoch: accuracy,
            top5: None,
            nodes_kept: Vec::new(),
            weights_kept: 50,
        };
        let [before, after] = accuracies;
        let summary = Summary {
            network: recipe.network.clone(),
            technique: recipe.technique,
            dataset: recipe.dataset.clone(),
            seed: recipe.seed,
            quick: false,
            validation_images: recipe.validation_images,
            precision: recipe.precision,
            accuracy_before: before,
            accuracy_after: after,
            accuracy_after_last_epoch: after,
            node_layers: Vec::new(),
            nodes_kept: Vec::new(),
            nodes_total: Vec::new(),
            weights_total: 100,
            weights_kept: 50,
            bytes_dense: 400,
            bytes_pruned: 200,
            stages: vec![stage("original", before), stage("simd-0", after)],
        };
        let text = |value: serde_json::Value| value.to_string();
        let environment = Environment::read("cpu");
        files::replace(&folder.recipe(), recipe.to_toml().unwrap()).unwrap();
        files::replace(&folder.environment(), text(serde_json::to_value(environment).unwrap()))
            .unwrap();
        files::replace(&folder.summary(), text(serde_json::to_value(summary).unwrap())).unwrap();
        let mut metrics = String::from("stage,epoch,learning_rate,train_loss,test_accuracy\n");
        for epoch in 0..8 {
            metrics +=
                &format!("original,{epoch},0.1,0.375,{}\n", if epoch < 3 { 10.0 } else { before });
        }
        metrics += &format!("simd-0,1,0.1,0.25,{after}\n");
        files::replace(&folder.metrics(), metrics).unwrap();
    }

    #[test]
    fn trials_on_held_out_images_stand_in_a_table_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let tree = ResultsTree::at(folder.path());
        let plain = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
        let stages = plain.stages[..2].to_vec();
        let mut trial = Recipe { validation_images: Some(5000), stages, ..plain };
        trial.momentum = 0.75;
        store(&tree, &trial, [81.25, 80.5]);
        let tables = Tables::build(&tree).unwrap();
        let (rest, choices) = tables.results.split_once("## Chosen on held-out images").unwrap();
        assert!(
            !rest.contains("81.25") && !tables.readme.contains("81.25") && tables.plots.is_empty()
        );
        let row = choices.lines().find(|line| line.contains(&trial.hash())).unwrap();
        // The mean of the last five of eight epochs, and nothing that the plain recipe has too.
        assert!(row.contains("| 81.25, 80.50 ") && row.contains("| momentum = 0.75 "), "{row}");
        let (_, runs) = choices.split_once("## Runs").unwrap();
        assert!(!runs.contains(&trial.hash()), "{runs}");
    }

    #[test]
    fn runs_in_bf16_stand_beside_those_in_f32_of_the_same_recipe_and_seed() {
        let folder = tempfile::tempdir().unwrap();
        let tree = ResultsTree::at(folder.path());
        let full = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
        let low = Recipe { precision: Precision::Bf16, ..full.clone() };
        for (seed, accuracies) in [(1, [82.0, 81.0]), (2, [83.0, 82.0]), (3, [10.0, 10.0])] {
            store(&tree, &Recipe { seed, ..full.clone() }, accuracies);
        }
        for (seed, accuracies) in [(1, [82.5, 81.25]), (2, [83.0, 81.75]), (4, [10.0, 10.0])] {
            store(&tree, &Recipe { seed, ..low.clone() }, accuracies);
        }
        let results = Tables::build(&tree).unwrap().results;
        let (_, section) = results.split_once("## Training in bf16").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let rows: Vec<&str> = section.lines().filter(|line| line.contains("SIMD-aware")).collect();
        let [row] = rows[..] else { panic!("one row: {rows:?}") };
        for cell in [&full.hash(), "bf16", "82.50 ± 0.71", "82.75 ± 0.35", "0.00 ± 0.35", "1, 2"]
        {
            assert!(row.contains(&format!("| {cell} ")), "{cell} in {row}");
        }
    }

    #[test]
    fn only_the_part_between_the_markers_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::build(&ResultsTree::at(folder.path())).unwrap();
        let readme = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let once = tables.into_readme(&readme).unwrap();
        assert!(once.starts_with("head\n") && once.ends_with("\ntail\n") && !once.contains("old"));
        assert_eq!(tables.into_readme(&once).unwrap(), once);
        assert!(tables.into_readme("no markers").is_err());
    }
}

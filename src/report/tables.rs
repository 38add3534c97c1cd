//! The tables of the paper and of the authors' README, ours beside theirs, from the results tree
//! alone.

use super::authors::Authors;
use super::breakeven::{StoredSweep, breakeven_table};
use super::plot::stages_plot;
use super::precision::{precision_header, precision_rows};
use super::results::{ResultsTree, Summary};
use super::rows::{
    inference_header, inference_rows, node_cells, node_header, node_not_measured, run_cells,
    runs_header, simd_cells, simd_header, simd_not_measured, techniques_cells, techniques_header,
    techniques_not_run,
};
use super::run_folder::StoredRun;
use super::runs::{Group, by_recipe, headlines, technique_name};
use super::speedup::SpeedupSection;
use super::text::Table;
use super::trials::{trials_header, trials_rows};
use crate::error::{Error, Result};
use crate::network::zoo;
use crate::train::recipe::Technique;

const BEGIN: &str = "<!-- results:begin -->";
const END: &str = "<!-- results:end -->";

const READING: &str = "Accuracy in percent on the test set, mean ± standard deviation over the seeds. *After* is \
    the best epoch by test accuracy where the last stage keeps its best, since the authors selected so; *last \
    epoch* selects nothing.";

const BREAKEVEN: &str = "\n## Where group sparsity pays\n\nBy `cargo run --release --bin breakeven`: \
    `group_spmm` beside the library's dense product and its CSR product with equally many weights, in \
    turns in one run, medians. Geometric means over the shapes. *Rate* is of useful operations: near \
    1, sparsity pays up to a density near 1.\n";

const PRECISION: &str = "\n## Training in bf16\n\nThe same recipe and seeds, layers multiplying in bf16 \
    (`--precision bf16`; all but the last one in bf16-hidden) and in f32. Accuracies are measured in f32.\n\n";

const CHOICES: &str = "\n## Chosen on held-out images\n\nTrials by which recipes were settled on, scored \
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
        let experiments = Experiment::all(tree)?;
        let speedup = SpeedupSection::of(&tree.speedups()?)?;
        let sweeps = tree.sweeps()?;

        let readme = format!(
            "### Node pruning\n\n{}\n### SIMD-aware weight pruning\n\n{}\n{READING} Runs of the whole recipe \
             in f32, where there is one; all others stand in [RESULTS.md](RESULTS.md).\n\n{}",
            node_table(&authors, &experiments, headlines).markdown(),
            simd_table(&authors, &experiments, headlines).markdown(),
            speedup.readme
        );
        let mut results = format!(
            "# Results\n\nWritten by `cargo run --release --bin tables` from `results/`; no number is \
             typed by hand.\n\n## Node pruning\n\n{}\n## SIMD-aware weight pruning\n\n{}\n{READING} \
             *Weights left* are those of the compacted network, or of the groups that are left; sizes \
             are of weights and biases in f32, with all indices.\n\n## Every technique\n\n{}\n\
             *Both* prunes nodes, then groups of what is left; *traditional* removes single weights by \
             magnitude, in stages with retraining; *random groups* chooses by lot. ImageNet: among the \
             five highest scores.\n{}{}\n## Inference time\n\n{}\n\
             Medians of one call, the candidates in turns in one run: *dense*, *masked* and *compacted* in \
             libtorch, *scalpel* the pruned network on our own kernels; *speedup* is dense over scalpel, or \
             over compacted where our kernels were not yet timed.\n\n## Runs\n\n{}\n*Trained in* is by \
             the wall, all stages together, those that other recipes share included; runs side by side \
             take each other's time.\n",
            node_table(&authors, &experiments, by_recipe).markdown(),
            simd_table(&authors, &experiments, by_recipe).markdown(),
            techniques_table(&experiments).markdown(),
            section(PRECISION, &precision_table(&experiments)?),
            section(CHOICES, &trials_table(&experiments)?),
            inference_table(&experiments).markdown(),
            runs_table(&experiments).markdown()
        );
        results.push_str(&speedup.results);
        results.push_str(&sweeps_section(&sweeps));

        let mut plots = Vec::new();
        for experiment in &experiments {
            for group in by_recipe(&experiment.runs) {
                plots.extend(plot(&group)?);
            }
        }
        for sweep in &sweeps {
            plots.push(sweep.plot()?);
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

/// What lies in the tree of one technique on one network.
struct Experiment {
    network: &'static str,
    technique: Technique,
    /// Scored on the test set.
    runs: Vec<StoredRun>,
    /// Scored on held-out training images.
    trials: Vec<StoredRun>,
}

impl Experiment {
    /// Each technique on each network, whether or not it has run.
    fn all(tree: &ResultsTree) -> Result<Vec<Self>> {
        let each = zoo::NAMES
            .into_iter()
            .flat_map(|network| Technique::ALL.map(|technique| (network, technique)));
        each.map(|(network, technique)| {
            let on_test_set = |run: &StoredRun| run.summary.validation_images.is_none();
            let (runs, trials) = tree.runs(technique, network)?.into_iter().partition(on_test_set);
            Ok(Self { network, technique, runs, trials })
        })
        .collect()
    }

    /// Those of one technique.
    fn of(all: &[Self], technique: Technique) -> impl Iterator<Item = &Self> {
        all.iter().filter(move |experiment| experiment.technique == technique)
    }
}

/// Which of an experiment's runs a table shows, each recipe's together.
type Choose = for<'a> fn(&'a [StoredRun]) -> Vec<Group<'a>>;

fn node_table(authors: &Authors, experiments: &[Experiment], choose: Choose) -> Table {
    let mut table = node_header();
    for experiment in Experiment::of(experiments, Technique::NodePruning) {
        let stated = authors.node.iter().find(|row| row.network == experiment.network);
        let Some(stated) = stated else { continue };
        for group in choose(&experiment.runs) {
            table.row(node_cells(stated, &group));
        }
        if experiment.runs.is_empty() {
            table.row(node_not_measured(stated));
        }
    }
    table
}

fn simd_table(authors: &Authors, experiments: &[Experiment], choose: Choose) -> Table {
    let mut table = simd_header();
    for experiment in Experiment::of(experiments, Technique::SimdPruning) {
        let stated = authors.simd.iter().find(|row| row.network == experiment.network);
        for group in choose(&experiment.runs) {
            table.row(simd_cells(experiment.network, stated, &group));
        }
        if experiment.runs.is_empty() {
            table.row(simd_not_measured(experiment.network, stated));
        }
    }
    table
}

fn techniques_table(experiments: &[Experiment]) -> Table {
    let mut table = techniques_header();
    for experiment in experiments {
        for group in by_recipe(&experiment.runs) {
            table.row(techniques_cells(&group));
        }
        if experiment.runs.is_empty() {
            table.row(techniques_not_run(experiment.network, experiment.technique));
        }
    }
    table
}

fn precision_table(experiments: &[Experiment]) -> Result<Table> {
    let mut table = precision_header();
    for experiment in experiments {
        precision_rows(&mut table, &experiment.runs)?;
    }
    Ok(table)
}

fn trials_table(experiments: &[Experiment]) -> Result<Table> {
    let mut table = trials_header();
    for experiment in experiments {
        trials_rows(&mut table, &experiment.trials)?;
    }
    Ok(table)
}

fn inference_table(experiments: &[Experiment]) -> Table {
    let mut table = inference_header();
    for group in experiments.iter().flat_map(|experiment| by_recipe(&experiment.runs)) {
        group.runs.iter().for_each(|run| inference_rows(&mut table, run));
    }
    table
}

fn runs_table(experiments: &[Experiment]) -> Table {
    let mut table = runs_header();
    for group in experiments.iter().flat_map(|experiment| by_recipe(&experiment.runs)) {
        group.runs.iter().for_each(|run| table.row(run_cells(run)));
    }
    table
}

/// A table for each sweep; nothing where none was made.
fn sweeps_section(sweeps: &[StoredSweep]) -> String {
    if sweeps.is_empty() {
        return String::new();
    }
    let mut text = BREAKEVEN.to_owned();
    for sweep in sweeps {
        let (title, environment) = (sweep.title(), &sweep.environment);
        let commit = environment.commit.as_deref().unwrap_or("unknown");
        let ceilings = environment
            .ceilings
            .map_or_else(String::new, |ceilings| format!(" At best: {ceilings}."));
        text.push_str(&format!(
            "\n### {title}\n\nMeasured on {} ({}), commit {commit}, sweep {}.{ceilings}\n\n{}",
            environment.date,
            environment.hardware(),
            sweep.hash,
            breakeven_table(&sweep.points).markdown()
        ));
    }
    for (device, title) in
        [("cuda", "An NVIDIA GPU, through CUDA"), ("wgpu", "A GPU, through wgpu")]
    {
        let on_it = |sweep: &StoredSweep| {
            sweep.sweep.device.as_ref().is_some_and(|name| name.starts_with(device))
        };
        if !sweeps.iter().any(on_it) {
            text.push_str(&format!(
                "\n### {title}\n\nNot measured: `breakeven --device {device}` measures it.\n"
            ));
        }
    }
    text
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
    use crate::report::Environment;
    use crate::report::runs::NOT_MEASURED;
    use crate::report::{StageDuration, StageSummary};
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
            let recipe = Recipe::built_in(network, Technique::NodePruning, None).unwrap();
            let data = format!("| {} ", recipe.dataset);
            assert!(rows.iter().all(|row| row.contains(NOT_MEASURED) && row.contains(&data)));
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
            quick: recipe.quick,
            validation_images: recipe.validation_images,
            precision: recipe.precision,
            original_weights: recipe.original_weights.clone(),
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
    fn readme_shows_whole_recipes_in_f32_and_results_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let tree = ResultsTree::at(folder.path());
        let carried =
            |variant| Recipe::built_in("convnet", Technique::SimdPruning, variant).unwrap();
        let plain = carried(None).full();
        let low = Recipe { precision: Precision::Bf16, ..plain.clone() };
        let quick = Recipe { seed: 4, ..carried(None).quick() };
        store(&tree, &quick, [60.0, 50.0]);
        let shown = |text: &str| -> Vec<String> {
            let (_, table) = text.split_once("# SIMD-aware weight pruning").unwrap();
            let rows = table.lines().skip_while(|line| !line.starts_with('|'));
            let rows = rows.take_while(|line| line.starts_with('|'));
            let rows = rows.filter(|row| row.starts_with("| convnet "));
            rows.map(|row| row.trim_end_matches([' ', '|']).rsplit("| ").next().unwrap().to_owned())
                .collect()
        };
        // Better than nothing.
        assert_eq!(shown(&Tables::build(&tree).unwrap().readme), ["quick, seed 4"]);
        store(&tree, &low, [82.0, 81.0]);
        store(&tree, &carried(Some("short")).full(), [81.0, 80.0]);
        store(&tree, &plain, [83.0, 82.0]);
        let tables = Tables::build(&tree).unwrap();
        assert_eq!(shown(&tables.readme), ["seed 1", "recipe short, seed 1"]);
        assert_eq!(
            shown(&tables.results),
            ["seed 1", "recipe short, seed 1", "bf16, seed 1", "quick, seed 4"]
        );
    }

    #[test]
    fn every_run_says_how_long_its_training_took_where_that_was_counted() {
        let folder = tempfile::tempdir().unwrap();
        let tree = ResultsTree::at(folder.path());
        let plain = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
        let expected =
            [None, Some((61.0, "119 s")), Some((62.0, "2 min")), Some((7450.0, "2.1 h"))];
        for (seed, took) in (1..).zip(expected) {
            let recipe = Recipe { seed, ..plain.clone() };
            store(&tree, &recipe, [81.0, 80.0]);
            let Some((seconds, _)) = took else { continue };
            let stage = |name: &str, seconds| StageDuration { name: name.into(), seconds };
            let durations =
                serde_json::to_string(&[stage("original", 58.0), stage("simd-0", seconds)]);
            files::replace(&tree.run(&recipe).durations(), durations.unwrap()).unwrap();
        }
        let results = Tables::build(&tree).unwrap().results;
        let (_, runs) = results.split_once("## Runs").unwrap();
        let rows: Vec<&str> =
            runs.lines().filter(|line| line.starts_with("| SIMD-aware ")).collect();
        assert_eq!(rows.len(), expected.len());
        for (row, took) in rows.into_iter().zip(expected) {
            let text = took.map_or("not recorded", |(_, text)| text);
            assert!(row.contains(&format!("| {text} ")), "{text} in {row}");
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

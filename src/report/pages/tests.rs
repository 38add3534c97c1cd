use super::*;
use crate::files;
use crate::report::runs::NOT_MEASURED;
use crate::report::{Environment, StageDuration, StageSummary};
use crate::train::recipe::{Precision, Recipe};

fn build(tree: &ResultsTree) -> Tables {
    Tables::build(tree, &BTreeMap::new()).unwrap()
}

/// The text of a topic's page; empty where there is none.
fn page(tables: &Tables, name: &str) -> String {
    let path = Path::new(Section::FOLDER).join(format!("{name}.md"));
    let page = tables.files().into_iter().find(|(own, _)| *own == path);
    page.map_or_else(String::new, |(_, text)| text)
}

fn rows<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(&format!("| {start} "))).collect()
}

#[test]
fn an_empty_tree_gives_tables_that_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let tables = build(&ResultsTree::at(folder.path()));
    assert_eq!(tables, build(&ResultsTree::at(folder.path())));
    for network in zoo::NAMES {
        let recipe = Recipe::built_in(network, Technique::NodePruning, None).unwrap();
        for name in ["node-pruning", "simd-pruning"] {
            let text = page(&tables, name);
            let [row] = rows(&text, network)[..] else { panic!("{network} in {text}") };
            let needs = format!("needs {}", recipe.dataset);
            assert!(row.contains(NOT_MEASURED) && row.contains(&needs), "{row}");
        }
        let [row] = rows(&tables.headline, network)[..] else { panic!("{}", tables.headline) };
        assert!(row.contains(NOT_MEASURED), "{row}");
    }
    assert!(page(&tables, "node-pruning").contains("161/300 64/100"));
    assert!(tables.headline.contains("Not measured yet") && tables.plots().is_empty());
    assert!(page(&tables, "speedup").contains("`speedup --device cuda` measures it"));
}

#[test]
fn every_topic_is_a_page_with_its_numbers_that_results_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ResultsTree::at(folder.path());
    let recipe = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
    store(&tree, &recipe, [82.0, 81.0]);
    let tables = build(&tree);
    let files: BTreeMap<PathBuf, String> = tables.files().into_iter().collect();
    let results = &files[Path::new("RESULTS.md")];
    let html = tables.html();
    for section in &tables.document.sections {
        let path = format!("{}/{}", Section::FOLDER, section.name);
        assert!(results.contains(&format!("]({path}.md)")), "{path} in {results}");
        assert!(files[Path::new(&format!("{path}.md"))].contains(section.title));
        assert_eq!(section.csv().is_some(), files.contains_key(Path::new(&format!("{path}.csv"))));
        assert!(html.contains(section.title));
    }
    let csv = &files[Path::new("docs/results/simd-pruning.csv")];
    assert!(csv.contains("82.00 → 81.00") && !csv.contains("results/"), "{csv}");
    let link = format!("[seed 1](../../results/simd_pruning/convnet/{})", recipe.hash());
    assert!(page(&tables, "simd-pruning").contains(&link));
    let svg = &tables.plots()[0].1;
    assert!(html.contains(svg.as_str()), "the plot is in the page");
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
    let tables = build(&tree);
    let text = page(&tables, "held-out");
    let row = text.lines().find(|line| line.contains(&trial.hash())).unwrap();
    // The mean of the last five of eight epochs, and nothing that the plain recipe has too.
    assert!(row.contains("| 81.25, 80.50 ") && row.contains("| momentum = 0.75 "), "{row}");
    for (path, text) in tables.files() {
        let own = path.to_string_lossy().contains("held-out");
        assert!(own || !text.contains("81.25"), "{}", path.display());
    }
    assert!(tables.plots().is_empty() && !tables.headline.contains("81.25"));
}

#[test]
fn every_full_run_is_in_its_networks_picture_of_accuracy_and_size() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ResultsTree::at(folder.path());
    let plain = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
    let quick = Recipe::built_in("lenet-5", Technique::SimdPruning, None).unwrap();
    store(&tree, &Recipe { quick: true, ..quick }, [99.0, 98.0]);
    let tables = build(&tree);
    assert!(page(&tables, "size").is_empty() && tables.plots().is_empty(), "a quick run alone");
    let dots = || {
        let tables = build(&tree);
        assert!(
            page(&tables, "size").contains("(../../results/plots/accuracy-at-size-convnet.svg)")
        );
        assert!(tables.headline.contains("(results/plots/accuracy-at-size-convnet.svg)"));
        let plot = tables.plots().iter().find(|(name, _)| name == "accuracy-at-size-convnet");
        let (_, svg) = plot.unwrap();
        svg.matches("<circle").count()
    };
    store(&tree, &plain, [82.0, 81.0]);
    assert_eq!(dots(), 1 + 2, "a name and two stages");
    store(&tree, &Recipe { seed: plain.seed + 1, ..plain.clone() }, [82.5, 81.5]);
    assert_eq!(dots(), 1 + 4, "two stages of two seeds");
    // Far below the best.
    store(&tree, &Recipe { seed: plain.seed + 2, ..plain }, [82.25, 40.0]);
    assert_eq!(dots(), 1 + 5);
}

#[test]
fn patterns_stand_beside_the_recipe_that_they_are_the_counterpart_of() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ResultsTree::at(folder.path());
    let of =
        |technique, variant| Recipe::built_in("lenet-300-100", technique, variant).unwrap().full();
    store(&tree, &of(Technique::SimdPruning, None), [99.0, 98.5]);
    store(&tree, &of(Technique::SimdPruning, Some("lossless")), [99.25, 98.75]);
    assert!(page(&build(&tree), "patterns").is_empty(), "no upright run, no page");
    store(&tree, &of(Technique::UprightPruning, None), [99.0, 98.25]);
    store(&tree, &of(Technique::UprightPruning, Some("ordered")), [99.0, 98.375]);
    store(&tree, &of(Technique::UprightPruning, Some("refined")), [99.0, 98.4]);
    let text = page(&build(&tree), "patterns");
    let found: Vec<Vec<&str>> = rows(&text, "lenet-300-100")
        .into_iter()
        .map(|row| row.split('|').map(str::trim).skip(2).take(4).collect())
        .collect();
    let expected = [
        ["plain", "1 x 8", "50.0", "98.50"],
        ["plain", "8 x 1", "50.0", "98.25"],
        ["plain", "8 x 1, ordered", "50.0", "98.38"],
        ["plain", "8 x 1, refined", "50.0", "98.40"],
    ];
    assert_eq!(found, expected, "the other recipe has no counterpart: {text}");
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
    let text = page(&build(&tree), "bf16");
    let [row] = rows(&text, "convnet")[..] else { panic!("one row: {text}") };
    for cell in ["bf16", "82.50 ± 0.71", "82.75 ± 0.35", "0.00 ± 0.35", "1, 2"] {
        assert!(row.contains(&format!("| {cell} ")), "{cell} in {row}");
    }
}

#[test]
fn every_recipe_has_a_row_whole_ones_in_f32_first() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ResultsTree::at(folder.path());
    let carried = |variant| Recipe::built_in("convnet", Technique::SimdPruning, variant).unwrap();
    let plain = carried(None).full();
    let low = Recipe { precision: Precision::Bf16, ..plain.clone() };
    store(&tree, &Recipe { seed: 4, ..carried(None).quick() }, [60.0, 50.0]);
    store(&tree, &low, [82.0, 81.0]);
    store(&tree, &carried(Some("short")).full(), [81.0, 80.0]);
    store(&tree, &plain, [83.0, 82.0]);
    let text = page(&build(&tree), "simd-pruning");
    let label = |row: &&str| {
        let cell = row.trim_end_matches([' ', '|']).rsplit("| ").next().unwrap();
        cell[1..cell.find(']').unwrap()].to_owned()
    };
    let labels: Vec<String> = rows(&text, "convnet").iter().map(label).collect();
    assert_eq!(labels, ["seed 1", "recipe short, seed 1", "bf16, seed 1", "quick, seed 4"]);
}

#[test]
fn a_technique_is_stood_for_by_the_whole_recipe_with_the_most_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ResultsTree::at(folder.path());
    let carried = |variant| Recipe::built_in("convnet", Technique::SimdPruning, variant).unwrap();
    let side_by_side = || {
        let text = page(&build(&tree), "techniques");
        let row = rows(&text, "convnet")[0];
        assert!(text.find(row) < text.find("## Every recipe"), "{text}");
        row.to_owned()
    };
    assert!(!side_by_side().contains('%'), "nothing ran");
    store(&tree, &carried(None).quick(), [90.0, 90.0]);
    assert!(!side_by_side().contains('%'), "a quick run stands for nothing");
    store(&tree, &carried(Some("short")).full(), [82.0, 81.0]);
    store(&tree, &carried(Some("deep")).full(), [83.0, 80.0]);
    assert!(side_by_side().contains("[82.00 → 81.00 at 50.0%, 1 seed](../../results/"));
    for (seed, accuracies) in [(2, [83.0, 80.5]), (3, [83.0, 80.0])] {
        store(&tree, &Recipe { seed, ..carried(Some("deep")).full() }, accuracies);
    }
    assert!(side_by_side().contains("[83.00 → 80.17 at 50.0%, 3 seeds]"), "{}", side_by_side());
    let files = build(&tree).files();
    let csv = files.iter().find(|(path, _)| path.ends_with("techniques.csv"));
    let csv = &csv.expect("the page's CSV").1;
    assert!(csv.starts_with("network,technique,") && csv.contains("recipe short"), "{csv}");
}

#[test]
fn every_run_says_how_long_its_training_took_where_that_was_counted() {
    let folder = tempfile::tempdir().unwrap();
    let tree = ResultsTree::at(folder.path());
    let plain = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
    let expected = [None, Some((61.0, "119 s")), Some((62.0, "2 min")), Some((7450.0, "2.1 h"))];
    for (seed, took) in (1..).zip(expected) {
        let recipe = Recipe { seed, ..plain.clone() };
        store(&tree, &recipe, [81.0, 80.0]);
        let Some((seconds, _)) = took else { continue };
        let stage = |name: &str, seconds| StageDuration { name: name.into(), seconds };
        let durations = serde_json::to_string(&[stage("original", 58.0), stage("simd-0", seconds)]);
        files::replace(&tree.run(&recipe).durations(), durations.unwrap()).unwrap();
    }
    let text = page(&build(&tree), "runs");
    let rows = rows(&text, "SIMD-aware");
    assert_eq!(rows.len(), expected.len());
    for (row, took) in rows.into_iter().zip(expected) {
        let text = took.map_or("not recorded", |(_, text)| text);
        assert!(row.contains(&format!("| {text} ")), "{text} in {row}");
    }
}

#[test]
fn only_the_part_between_the_markers_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let tables = build(&ResultsTree::at(folder.path()));
    let readme = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
    let once = tables.into_readme(&readme).unwrap();
    assert!(once.starts_with("head\n") && once.ends_with("\ntail\n") && !once.contains("old"));
    assert_eq!(tables.into_readme(&once).unwrap(), once);
    assert!(tables.into_readme("no markers").is_err());
}

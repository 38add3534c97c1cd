use super::*;
use crate::experiment::summarise;
use crate::network::Weights;
use crate::network::zoo;
use crate::prune::whole::{Criterion, prune};
use crate::report::Environment;
use crate::train::recipe::Prune;
use crate::train::{Outcome, StageOutcome};

/// The recipe that the tests publish a run of.
fn built_in() -> Recipe {
    Recipe::built_in("lenet-300-100", Technique::SimdPruning, None).unwrap().full()
}

/// Puts a finished run of a recipe there, as it would lie there.
fn finish(recipe: &Recipe, root: &Path) {
    let network = zoo::lenet_300_100();
    let dense = Weights::random(&network, 1).unwrap();
    let weights = prune(&dense, Criterion::Random { width: 8, fraction: 0.9, seed: 1 }).unwrap();
    let checkpoints = root.join("checkpoints");
    let path = weights_path(&checkpoints, recipe, "mnist");
    for (path, weights) in
        [(&original_path(&checkpoints, recipe, "mnist"), &dense), (&path, &weights)]
    {
        files::replace(path, weights.to_bytes(None).unwrap()).unwrap();
    }
    let stage = |name: &str, correct: usize, weights: &Weights| StageOutcome {
        name: name.into(),
        correct,
        correct_last_epoch: correct - 10,
        top5: None,
        nodes_kept: Vec::new(),
        weights_kept: weights.count_kept(&network).unwrap().0,
        metrics: Vec::new(),
        seconds: None,
    };
    let outcome = Outcome {
        original: network.clone(),
        network: network.clone(),
        stages: vec![stage("original", 9800, &dense), stage("simd-4", 9000, &weights)],
        weights,
        path,
        test_total: 10_000,
        trained: true,
    };
    let folder = ResultsTree::at(root.join("results")).run(recipe);
    let summary = summarise(recipe, "mnist", &outcome).unwrap();
    let environment = Environment::read("cpu");
    folder.write(recipe, &outcome, &summary, &environment, None).unwrap();
}

#[test]
fn a_finished_run_is_published_with_its_card_and_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let recipe = built_in();
    finish(&recipe, root.path());
    let (tree, folder) = (ResultsTree::at(root.path().join("results")), root.path().join("zoo"));
    let checkpoints = root.path().join("checkpoints");
    let name = "lenet-300-100-simd-pruning";
    let said = publish(&recipe, Which::Pruned, name, &tree, &checkpoints, &folder).unwrap();
    assert_eq!(names(&folder), [name]);
    let (card, model) = open(&folder, name).unwrap();
    assert_eq!(card, said);
    assert_eq!((card.accuracy, card.accuracy_last_epoch), (90.0, 89.9));
    assert_eq!((card.format.as_str(), card.recipe), ("groups of 8", recipe.hash()));
    assert_eq!(card.bytes, model.bytes().total());
    assert_eq!(card.pixels, recipe.pixels);
    assert!(card.bytes < card.bytes_dense / 5);
    let stored = Model::load(&weights_path(&checkpoints, &recipe, "mnist")).unwrap();
    assert_eq!(model.to_weights().unwrap(), stored.to_weights().unwrap());

    let original = "lenet-300-100-original";
    publish(&recipe, Which::Original, original, &tree, &checkpoints, &folder).unwrap();
    assert_eq!(names(&folder), [original, name]);
    let (card, model) = open(&folder, original).unwrap();
    assert_eq!((card.accuracy, card.technique, card.format.as_str()), (98.0, None, "dense"));
    assert_eq!((card.weights_kept, card.bytes), (card.weights_total, card.bytes_dense));
    let stored = Model::load(&original_path(&checkpoints, &recipe, "mnist")).unwrap();
    assert_eq!(model.to_weights().unwrap(), stored.to_weights().unwrap());

    let error = open(&folder, "lenet-6").unwrap_err().to_string();
    assert!(error.contains("lenet-300-100-simd-pruning"), "{error}");
    let file = folder.join(format!("{name}.safetensors"));
    let mut bytes = files::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    files::replace(&file, bytes).unwrap();
    assert!(matches!(open(&folder, name), Err(Error::Checksum { .. })));
}

#[test]
fn names_tell_runs_of_one_technique_apart() {
    let recipe = Recipe::built_in("nin", Technique::SimdPruning, Some("short")).unwrap();
    let pruned = |variant, precision| name(&recipe, variant, precision, Which::Pruned);
    assert_eq!(pruned(None, None), "nin-simd-pruning");
    assert_eq!(pruned(Some("half_rate"), None), "nin-simd-pruning-half-rate");
    assert_eq!(pruned(Some("short"), Some(Precision::F32)), "nin-simd-pruning-short-f32");
    let original = name(&recipe, Some("short"), None, Which::Original);
    assert_eq!(original, "nin-original-short");
    let given = recipe.full().from_original(&sha256(b"weights")).unwrap();
    let expected = format!("nin-simd-pruning-from-{}", &sha256(b"weights")[..12]);
    assert_eq!(name(&given, None, None, Which::Pruned), expected);
}

#[test]
fn a_run_that_was_given_its_original_lies_beside_the_one_that_trained_it() {
    let root = tempfile::tempdir().unwrap();
    let (tree, folder) = (ResultsTree::at(root.path().join("results")), root.path().join("zoo"));
    let given = built_in().from_original(&sha256(b"weights")).unwrap();
    for recipe in [built_in(), given] {
        finish(&recipe, root.path());
        let name = name(&recipe, None, None, Which::Pruned);
        let checkpoints = root.path().join("checkpoints");
        publish(&recipe, Which::Pruned, &name, &tree, &checkpoints, &folder).unwrap();
        let (card, _) = open(&folder, &name).unwrap();
        assert_eq!(card.recipe, recipe.hash());
    }
    assert_eq!(names(&folder).len(), 2);
}

#[test]
fn what_is_not_finished_or_no_full_run_is_not_published() {
    let root = tempfile::tempdir().unwrap();
    let recipe = built_in();
    finish(&recipe, root.path());
    let tree = ResultsTree::at(root.path().join("results"));
    let (checkpoints, folder) = (root.path().join("checkpoints"), root.path().join("zoo"));
    let other = Recipe { seed: 2, ..recipe.clone() };
    let publish = |recipe| publish(recipe, Which::Pruned, "it", &tree, &checkpoints, &folder);
    let error = publish(&other).unwrap_err().to_string();
    assert!(error.contains("seed 2") && error.contains("to its end"), "{error}");

    let summary = tree.run(&recipe).summary();
    let text = files::read_text(&summary).unwrap();
    files::replace(&summary, text.replace("\"quick\": false", "\"quick\": true")).unwrap();
    let error = publish(&recipe).unwrap_err().to_string();
    assert!(error.contains("a full run"), "{error}");
    assert!(!folder.exists());
}

#[test]
fn baselines_leave_each_layer_as_many_weights_as_the_simd_aware_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let kept = |weights: &Weights, name: &str| {
        weights.get(name).unwrap().iter().filter(|&&weight| weight != 0.0).count()
    };
    for name in ["lenet-5-simd-pruning", "convnet-simd-pruning"] {
        let (card, model) = open(&folder, name).unwrap();
        let weights = model.to_weights().unwrap();
        let dense = Weights::random(&zoo::by_name(&card.network).unwrap(), 1).unwrap();
        for technique in [Technique::MagnitudePruning, Technique::RandomPruning] {
            let recipe = Recipe::built_in(&card.network, technique, None).unwrap();
            let last = recipe.stages.last().and_then(|stage| stage.prune.as_ref());
            let share = |layer: &str| match last {
                Some(Prune::Magnitude { fraction, fraction_of })
                | Some(Prune::Random { fraction, fraction_of, .. }) => {
                    *fraction_of.get(layer).unwrap_or(fraction)
                }
                other => panic!("{technique:?} removes shares, not {other:?}"),
            };
            for (parameter, values) in weights.iter() {
                let Some(layer) = parameter.strip_suffix(".weight") else { continue };
                let fraction = share(layer);
                let criterion = match technique {
                    Technique::RandomPruning => Criterion::Random { width: 8, fraction, seed: 1 },
                    _ => Criterion::Magnitude { fraction, per_layer: true },
                };
                let theirs = kept(&prune(&dense, criterion).unwrap(), parameter);
                // Shares have three digits, and what goes are whole groups.
                let tolerance = 8.0 + 5e-4 * values.len() as f64;
                let apart = theirs.abs_diff(kept(&weights, parameter)) as f64;
                assert!(apart <= tolerance, "{technique:?} {parameter}: {apart} apart");
            }
        }
    }
}

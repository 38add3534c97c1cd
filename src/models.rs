//! Pre-pruned models with their cards: what a run came to, small enough to be kept beside the code. Where the
//! training of the original took long it lies there too, for others to prune.
//!
//! `zoo/<name>.safetensors` holds a compacted network in the format that its pruning made it for,
//! `zoo/<name>.toml` says where it comes from and what it does.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Preprocessing;
use crate::data::fetch::sha256;
use crate::error::{Error, Result};
use crate::files;
use crate::network::zoo;
use crate::prune::compact::{compact, living_nodes};
use crate::report::ResultsTree;
use crate::sparse::{Format, Model};
use crate::train::recipe::{Precision, Recipe, Technique};
use crate::train::{original_path, weights_path};

/// What a card says of a model. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// A network of the zoo.
    pub network: String,
    /// How it was pruned; the original network, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<Technique>,
    /// Hash of the recipe: its results lie under it.
    pub recipe: String,
    /// Seed of the run.
    pub seed: u64,
    /// What it was trained and tested on.
    pub dataset: String,
    /// On the test set, of these very weights. Where the recipe's last stage keeps its best epoch,
    /// that epoch was chosen by this number, as the authors did.
    pub accuracy: f64,
    /// After the last epoch of the last stage, which chooses nothing.
    pub accuracy_last_epoch: f64,
    /// Of the original network.
    pub accuracy_before: f64,
    /// Living nodes of each masked layer; empty where no node was pruned.
    pub nodes_kept: Vec<usize>,
    /// Weights of the original network, biases not counted.
    pub weights_total: usize,
    /// Weights that are left.
    pub weights_kept: usize,
    /// `dense`, `groups of 8`, `csr`: how the weights are stored.
    pub format: String,
    /// Weights and biases of the original network.
    pub bytes_dense: usize,
    /// Those of this one, indices included.
    pub bytes: usize,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Hardware, date and commit of the training.
    pub trained: String,
    /// How intensities become the inputs that it was trained on.
    pub pixels: Preprocessing,
}

/// A model's file and its card in the folder of models.
fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.safetensors")), folder.join(format!("{name}.toml")))
}

/// Which of a run's networks a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// As the first stage trained it.
    Original,
    /// As the last stage left it.
    Pruned,
}

/// The name of a model: its network, its technique, and what sets the run apart from the plain recipe, where that is
/// another: the variant, the precision, the original that it was given (the first twelve digits of its SHA-256):
/// `nin-simd-pruning-short-f32`, `lenet-5-node-pruning-from-0123456789ab`.
pub fn name(
    recipe: &Recipe,
    variant: Option<&str>,
    precision: Option<Precision>,
    which: Which,
) -> String {
    let technique = match which {
        Which::Original => "original",
        Which::Pruned => recipe.technique.experiment(),
    };
    let original = recipe.original_weights.as_ref();
    let original = original.map(|sha256| format!("from-{}", sha256.get(..12).unwrap_or(sha256)));
    let precision = precision.map(Precision::name);
    let parts = [Some(&*recipe.network), Some(technique), variant, precision, original.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-").replace('_', "-")
}

/// Puts one of a finished run's networks into `folder`, under that name.
///
/// # Errors
/// A run that is not finished here, or was no full one on the real data; a file that cannot be
/// written.
pub fn publish(
    recipe: &Recipe,
    which: Which,
    name: &str,
    results: &ResultsTree,
    checkpoints: &Path,
    folder: &Path,
) -> Result<Card> {
    let run = results.run(recipe);
    let experiment = recipe.technique.experiment();
    let missing = |what: &Path| Error::Unavailable {
        what: format!("the result of {experiment} on {}, seed {}", recipe.network, recipe.seed),
        reason: format!("{} is not there", what.display()),
        remedy: format!("run {experiment} to its end with the same --results and --checkpoints"),
    };
    let weights_path = match which {
        Which::Original => original_path(checkpoints, recipe, &recipe.dataset),
        Which::Pruned => weights_path(checkpoints, recipe, &recipe.dataset),
    };
    for path in [run.summary(), weights_path.clone()] {
        if !path.exists() {
            return Err(missing(&path));
        }
    }
    let stored = run.read()?;
    let summary = &stored.summary;
    if summary.quick || summary.validation_images.is_some() || summary.is_synthetic() {
        let expected = "a full run that was scored on the real test set";
        return Err(Error::argument("publish a model", expected, "a quick or a trial run"));
    }
    let original = zoo::by_name(&recipe.network)?;
    let masked = Model::load(&weights_path)?;
    let weights = masked.to_weights()?;
    let network = masked.network().unwrap_or(&original);
    let masks = weights.node_masks(network)?;
    let nodes_kept = living_nodes(&original, network, &masks)?;
    let (small, small_weights) = compact(network, &weights, &masks)?;
    let (stage, technique, format) = match which {
        Which::Original => (summary.stages.first(), None, Format::Dense),
        Which::Pruned => (summary.stages.last(), Some(recipe.technique), recipe.storage_format()),
    };
    let stage =
        stage.ok_or_else(|| Error::malformed("summary.json", "at least one stage", "none"))?;
    let model = Model::new(&small_weights, Some(&small), format)?;
    let bytes = model.to_bytes()?;
    let environment = &stored.environment;
    let card = Card {
        network: recipe.network.clone(),
        technique,
        recipe: stored.hash.clone(),
        seed: recipe.seed,
        dataset: summary.dataset.clone(),
        accuracy: stage.accuracy,
        accuracy_last_epoch: stage.accuracy_last_epoch,
        accuracy_before: summary.accuracy_before,
        nodes_kept,
        weights_total: summary.weights_total,
        weights_kept: stage.weights_kept,
        format: match format {
            Format::Dense => "dense".into(),
            Format::Groups(width) => format!("groups of {width}"),
            Format::Csr => "csr".into(),
        },
        bytes_dense: summary.bytes_dense,
        bytes: model.bytes().total(),
        sha256: sha256(&bytes),
        trained: format!(
            "{}, {}, commit {}",
            environment.hardware(),
            environment.date,
            environment.commit.as_deref().unwrap_or("unknown")
        ),
        pixels: recipe.pixels.clone(),
    };
    let (file, toml) = paths(folder, name);
    let text = toml::to_string(&card)
        .map_err(|error| Error::argument("write a card", "finite numbers", error.to_string()))?;
    // The card last: a model without one is not yet published.
    files::replace(&file, bytes)?;
    files::replace(&toml, text)?;
    Ok(card)
}

/// A published model: its card and its weights, in the network that the file describes.
///
/// # Errors
/// A name that is not in the folder; a file that is not the one its card speaks of.
pub fn open(folder: &Path, name: &str) -> Result<(Card, Model)> {
    let (file, toml) = paths(folder, name);
    if !toml.exists() {
        let names = names(folder);
        let expected =
            if names.is_empty() { "a folder with models in it".into() } else { names.join(", ") };
        return Err(Error::argument(format!("model in {}", folder.display()), expected, name));
    }
    let card: Card = toml::from_str(&files::read_text(&toml)?).map_err(|error| {
        Error::malformed(toml.display().to_string(), "a model's card", error.to_string())
    })?;
    let bytes = files::read(&file)?;
    let found = sha256(&bytes);
    if found != card.sha256 {
        return Err(Error::Checksum { path: file, expected: card.sha256, found });
    }
    let model = Model::from_bytes(&bytes, &file.display().to_string())?;
    Ok((card, model))
}

/// The models in a folder, in order of name.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some(name.strip_suffix(".toml")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

#[cfg(all(test, feature = "torch"))]
mod tests {
    use super::*;
    use crate::experiment::summarise;
    use crate::network::Weights;
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
        let weights =
            prune(&dense, Criterion::Random { width: 8, fraction: 0.9, seed: 1 }).unwrap();
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
        let (tree, folder) =
            (ResultsTree::at(root.path().join("results")), root.path().join("zoo"));
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
        let (tree, folder) =
            (ResultsTree::at(root.path().join("results")), root.path().join("zoo"));
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
                        Technique::RandomPruning => {
                            Criterion::Random { width: 8, fraction, seed: 1 }
                        }
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
}

//! Recipes: every hyper-parameter of an experiment, as data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Preprocessing;
use crate::data::fetch::sha256;
use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, NodeKind, zoo};

/// Every hyper-parameter of one experiment on one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// A network of the zoo.
    pub network: String,
    /// What the stages do to it.
    pub technique: Technique,
    /// Such as `mnist`.
    pub dataset: String,
    /// Start of every random stream: initial weights, order of the images, dropout.
    pub seed: u64,
    /// Whether this is the short version of a recipe, for a first look (see [`Recipe::quick`]).
    #[serde(default)]
    pub quick: bool,
    /// Train on the first so many images only. All, where absent.
    #[serde(default)]
    pub train_images: Option<usize>,
    /// Hold out the last so many training images, and score on them instead of the test images: for
    /// choosing hyper-parameters without a look at the test set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<usize>,
    /// In what numbers the layers multiply during training; the weights themselves, and every
    /// measured accuracy, are f32.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Images per step.
    pub batch_size: usize,
    /// Momentum of the gradient descent.
    pub momentum: f64,
    /// Weight decay of all trained parameters but `beta`.
    pub weight_decay: f64,
    /// Weight decay of single parameters, by name, where it is another.
    #[serde(default)]
    pub weight_decay_of: BTreeMap<String, f64>,
    /// The number of the first epoch, from which the learning rate is counted (the authors count
    /// from 1, and for AlexNet from 0).
    pub first_epoch: usize,
    /// How intensities become inputs.
    pub pixels: Preprocessing,
    /// Where the weights start.
    pub initial: Initial,
    /// Where the `beta` of a mask starts and ends; needed by node pruning alone.
    #[serde(default)]
    pub beta: Option<Beta>,
    /// From the initial weights on, each from the result of the one before.
    pub stages: Vec<Stage>,
}

/// The numbers of a training step's products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 8 of them for the exponent: inputs, weights and gradients of convolutions and dense
    /// layers; normalisations, the loss and the weights that are stepped stay in f32.
    Bf16,
}

impl Precision {
    /// Whether it is the usual one.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// How a network is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// Whole nodes: for hardware with much parallelism.
    NodePruning,
    /// Aligned groups of weights: for hardware with little.
    SimdPruning,
    /// Nodes, then groups of what is left: for what lies between, such as a multi-core processor.
    CombinedPruning,
    /// Single weights by their magnitude: traditional pruning, a baseline.
    MagnitudePruning,
    /// Random groups: a baseline.
    RandomPruning,
}

impl Technique {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 5] = [
        Self::NodePruning,
        Self::SimdPruning,
        Self::CombinedPruning,
        Self::MagnitudePruning,
        Self::RandomPruning,
    ];

    /// The experiment's name: its binary, its recipe files and its folder of results.
    pub fn experiment(self) -> &'static str {
        match self {
            Self::NodePruning => "node_pruning",
            Self::SimdPruning => "simd_pruning",
            Self::CombinedPruning => "combined_pruning",
            Self::MagnitudePruning => "magnitude_pruning",
            Self::RandomPruning => "random_pruning",
        }
    }

    /// What it does, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::NodePruning => "Prunes whole nodes (for hardware with much parallelism)",
            Self::SimdPruning => {
                "Prunes aligned groups of weights (for hardware with little parallelism)"
            }
            Self::CombinedPruning => {
                "Prunes nodes, then groups of what is left (for multi-core processors)"
            }
            Self::MagnitudePruning => {
                "Prunes the smallest weights, in stages (traditional pruning, a baseline)"
            }
            Self::RandomPruning => "Prunes random groups of weights, in stages (a baseline)",
        }
    }

    /// Whether a recipe of this technique may have such a stage.
    fn allows(self, prune: &Prune) -> bool {
        match prune {
            Prune::Node { .. } => matches!(self, Self::NodePruning | Self::CombinedPruning),
            Prune::Simd { .. } => matches!(self, Self::SimdPruning | Self::CombinedPruning),
            Prune::Magnitude { .. } => self == Self::MagnitudePruning,
            Prune::Random { .. } => self == Self::RandomPruning,
        }
    }
}

/// Initial weights by kind of layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initial {
    /// Of convolutions.
    pub conv: Distribution,
    /// Of dense layers.
    pub ip: Distribution,
}

/// Where a layer's weights and biases start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Distribution {
    /// Weights and biases uniform within 1 / sqrt(inputs of a node): PyTorch's default.
    FanIn {},
    /// Weights normal around 0; one bias for all.
    Normal {
        /// Standard deviation of the weights.
        deviation: f64,
        /// The bias.
        bias: f64,
    },
}

/// Bounds of a mask's `beta`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beta {
    /// Where every node starts.
    pub initial: f64,
    /// What no node exceeds.
    pub limit: f64,
}

/// One stage of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Unique in its recipe.
    pub name: String,
    /// Learning rate at the start.
    pub learning_rate: f64,
    /// Epochs after which the learning rate falls to a tenth, each time.
    pub learning_rate_epochs: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Passes in the quick version, which drops the stage where this is absent.
    #[serde(default)]
    pub quick_epochs: Option<usize>,
    /// Whether the nodes that are blocked by now are removed for good: this stage and those behind it
    /// train the smaller network, and groups are cut from its rows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compact: bool,
    /// What is pruned; nothing where absent (original training, retraining).
    #[serde(default)]
    pub prune: Option<Prune>,
    /// Which weights the stage ends with.
    pub keep: Keep,
}

/// What a stage prunes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Prune {
    /// Lets `beta` of the targeted masks learn, and pulls it down.
    Node {
        /// Which masks.
        target: Target,
        /// What each step takes from `beta`, times the learning rate.
        penalty: f64,
    },
    /// Removes groups once, at the start of the stage, and trains what is left.
    Simd {
        /// Weights in a group.
        width: usize,
        /// Groups with a root mean square below it go.
        threshold: f64,
        /// In what the thresholds are measured.
        #[serde(default, skip_serializing_if = "Unit::is_weight")]
        unit: Unit,
        /// Another threshold for single layers, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        threshold_of: BTreeMap<String, f64>,
        /// Which layers.
        #[serde(default, skip_serializing_if = "Target::is_all")]
        target: Target,
    },
    /// Removes the smallest weights of each layer once, at the start of the stage, and trains what is
    /// left.
    Magnitude {
        /// How much of each layer's weights is gone after it, 0 to 1.
        fraction: f64,
        /// Another share for single layers, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        fraction_of: BTreeMap<String, f64>,
    },
    /// Removes random groups once, at the start of the stage, and trains what is left. Groups that
    /// are gone already count.
    Random {
        /// Weights in a group.
        width: usize,
        /// How much of each layer's groups is gone after it, 0 to 1.
        fraction: f64,
        /// Another share for single layers, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        fraction_of: BTreeMap<String, f64>,
    },
}

/// In what a threshold is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// As the weights are, as the authors do.
    #[default]
    Weight,
    /// In root mean squares of the weights that the layer has left: one number then serves layers
    /// whose weights are of different sizes.
    LayerRms,
}

impl Unit {
    fn is_weight(&self) -> bool {
        *self == Self::Weight
    }
}

/// The layers that a stage prunes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// All of them.
    #[default]
    All,
    /// Convolutions.
    Conv,
    /// Dense layers.
    Ip,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Target {
    fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// Whether layers with nodes of this kind are among them.
    pub fn includes(self, kind: NodeKind) -> bool {
        match self {
            Self::All => true,
            Self::Conv => kind == NodeKind::Conv,
            Self::Ip => kind == NodeKind::Ip,
        }
    }
}

/// Which weights a stage ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those of the best test accuracy, the ones it started from among them: selected on the test
    /// set, as the authors did.
    Best,
    /// Those of the last epoch.
    Last,
}

impl Stage {
    /// The learning rate of an epoch, by its number.
    pub fn learning_rate_at(&self, epoch: usize) -> f64 {
        self.learning_rate * 0.1_f64.powi((epoch / self.learning_rate_epochs) as i32)
    }
}

/// The recipes that this program carries, as text: those of `experiments/recipes`.
macro_rules! built_in {
    ($($network:literal: $($name:literal)+;)+) => {
        /// Network, name and text of each.
        const BUILT_IN: &[(&str, &str, &str)] = &[$($((
            $network,
            $name,
            include_str!(concat!("../../experiments/recipes/", $network, "/", $name, ".toml")),
        ),)+)+];
    };
}

built_in! {
    "lenet-300-100":
        "node_pruning" "simd_pruning" "combined_pruning" "magnitude_pruning" "random_pruning";
    "lenet-5":
        "node_pruning" "simd_pruning" "combined_pruning" "combined_pruning_all" "magnitude_pruning"
        "random_pruning";
    "convnet":
        "node_pruning" "simd_pruning" "combined_pruning" "combined_pruning_all" "magnitude_pruning"
        "random_pruning";
    "nin": "node_pruning" "simd_pruning" "combined_pruning" "magnitude_pruning" "random_pruning";
    "alexnet":
        "node_pruning" "simd_pruning" "combined_pruning" "combined_pruning_all" "magnitude_pruning"
        "random_pruning";
}

impl Recipe {
    /// The recipe that this program carries for a network and a technique. A technique may have
    /// variants beside the plain one, such as `lossless`.
    ///
    /// # Errors
    /// There is none.
    pub fn built_in(network: &str, technique: Technique, variant: Option<&str>) -> Result<Self> {
        let experiment = technique.experiment();
        let name =
            variant.map_or(experiment.to_owned(), |variant| format!("{experiment}_{variant}"));
        let found = BUILT_IN.iter().find(|(of, other, _)| *of == network && *other == name);
        let Some((.., text)) = found else {
            let expected =
                format!("one of {}, or a recipe of your own", names(technique).join(", "));
            return Err(Error::argument(
                format!("recipe for {experiment}"),
                expected,
                variant
                    .map_or(network.to_owned(), |variant| format!("{network} --variant {variant}")),
            ));
        };
        Self::parse(text, &format!("recipe {network}/{name}.toml"))
    }

    /// The recipes that this program carries: networks, techniques and variants.
    pub fn all_built_in() -> impl Iterator<Item = (&'static str, Technique, Option<&'static str>)> {
        BUILT_IN.iter().filter_map(|&(network, name, _)| {
            let technique =
                Technique::ALL.into_iter().find(|t| name.starts_with(t.experiment()))?;
            let variant = name.strip_prefix(technique.experiment())?.strip_prefix('_');
            Some((network, technique, variant))
        })
    }

    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// A file that cannot be read, is no recipe, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&files::read_text(path)?, &path.display().to_string())
    }

    /// Reads and checks a recipe from TOML; `name` is for messages.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            Error::malformed(name, "a recipe (see experiments/recipes)", error.to_string())
        })?;
        recipe.check(name)?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// Numbers that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| {
            Error::argument("write the recipe", "numbers that TOML can hold", error.to_string())
        })
    }

    /// The recipe as it runs at full length: without the fields that say how to shorten it.
    pub fn full(&self) -> Self {
        let stages =
            self.stages.iter().map(|s| Stage { quick_epochs: None, ..s.clone() }).collect();
        Self { stages, ..self.clone() }
    }

    /// The short version, as it runs: the stages that have `quick_epochs`, that many epochs each,
    /// and learning rates that fall as much earlier. Epochs are counted from 0, or a learning rate that
    /// falls after one epoch would have fallen before the first.
    pub fn quick(&self) -> Self {
        let mut compact = false; // what a dropped stage would have done, the next one does
        let shorten = |stage: &Stage| -> Option<Stage> {
            compact |= stage.compact;
            let epochs = stage.quick_epochs.filter(|&epochs| epochs > 0)?;
            let compact = std::mem::take(&mut compact);
            let share = epochs as f64 / stage.epochs.max(1) as f64;
            let falls = (stage.learning_rate_epochs as f64 * share).round() as usize;
            let learning_rate_epochs = falls.max(1);
            let quick_epochs = None;
            Some(Stage { epochs, learning_rate_epochs, quick_epochs, compact, ..stage.clone() })
        };
        let stages = self.stages.iter().filter_map(shorten).collect();
        Self { quick: true, first_epoch: 0, stages, ..self.clone() }
    }

    /// Hash of every field but the seed: what names the recipe's folder of results.
    pub fn hash(&self) -> String {
        digest(&Self { seed: 0, ..self.clone() })
    }

    /// Hash of everything that the result of stage `index` depends on, but the seed; `dataset` is
    /// the data set that was really there.
    pub fn stage_hash(&self, index: usize, dataset: &str) -> String {
        #[derive(Serialize)]
        struct Dependencies<'a> {
            network: &'a str,
            dataset: &'a str,
            train_images: Option<usize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            validation_images: Option<usize>,
            #[serde(skip_serializing_if = "Precision::is_f32")]
            precision: Precision,
            batch_size: usize,
            momentum: f64,
            weight_decay: f64,
            weight_decay_of: &'a BTreeMap<String, f64>,
            first_epoch: usize,
            pixels: &'a Preprocessing,
            initial: &'a Initial,
            beta: Option<&'a Beta>,
            stages: &'a [Stage],
        }
        let stages = &self.stages[..=index];
        let prunes_nodes = |stage: &Stage| matches!(stage.prune, Some(Prune::Node { .. }));
        digest(&Dependencies {
            network: &self.network,
            dataset,
            train_images: self.train_images,
            validation_images: self.validation_images,
            precision: self.precision,
            batch_size: self.batch_size,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            weight_decay_of: &self.weight_decay_of,
            first_epoch: self.first_epoch,
            pixels: &self.pixels,
            initial: &self.initial,
            beta: self.beta.as_ref().filter(|_| stages.iter().any(prunes_nodes)),
            stages,
        })
    }

    /// Refuses a recipe that contradicts itself.
    fn check(&self, name: &str) -> Result<()> {
        let require = |holds: bool, field: &str, expected: &str, found: String| {
            if holds {
                Ok(())
            } else {
                Err(Error::malformed(format!("{name}, {field}"), expected, found))
            }
        };
        let finite = |value: f64| value.is_finite() && value >= 0.0;
        let network = zoo::by_name(&self.network)?;
        require(self.batch_size > 0, "batch_size", "at least 1", self.batch_size.to_string())?;
        require(
            finite(self.momentum) && self.momentum < 1.0,
            "momentum",
            "0 to below 1",
            self.momentum.to_string(),
        )?;
        require(
            finite(self.weight_decay),
            "weight_decay",
            "0 or more",
            self.weight_decay.to_string(),
        )?;
        let parameters = network.parameters()?;
        for (parameter, decay) in &self.weight_decay_of {
            let known = parameters.iter().any(|p| p.name == *parameter);
            require(
                known && finite(*decay),
                "weight_decay_of",
                "a decay of 0 or more for a parameter of the network",
                format!("{parameter} = {decay}"),
            )?;
        }
        if let Err((field, expected, found)) = self.pixels.check(network.input[0]) {
            require(false, &format!("pixels.{field}"), &expected, found)?;
        }
        require(!self.stages.is_empty(), "stages", "at least one", "none".into())?;
        for (index, stage) in self.stages.iter().enumerate() {
            let field = |part: &str| format!("stage {}, {part}", stage.name);
            let fresh = self.stages[..index].iter().all(|other| other.name != stage.name);
            require(fresh, &field("name"), "a name of its own", stage.name.clone())?;
            require(stage.epochs > 0, &field("epochs"), "at least 1", "0".into())?;
            require(
                stage.learning_rate_epochs > 0,
                &field("learning_rate_epochs"),
                "at least 1",
                "0".into(),
            )?;
            require(
                finite(stage.learning_rate),
                &field("learning_rate"),
                "0 or more",
                stage.learning_rate.to_string(),
            )?;
            let Some(prune) = &stage.prune else { continue };
            require(
                self.technique.allows(prune),
                &field("prune"),
                "what the recipe's technique prunes",
                format!("{prune:?} in {}", self.technique.experiment()),
            )?;
            self.check_prune(prune, &network).or_else(|(part, expected, found)| {
                require(false, &field(part), &expected, found)
            })?;
        }
        Ok(())
    }
}

/// A field, what it should be and what it is.
type Complaint = (&'static str, String, String);

impl Recipe {
    /// What is wrong with a stage's pruning.
    fn check_prune(&self, prune: &Prune, network: &Network) -> Result<(), Complaint> {
        let known = |layer: &String| network.layers.iter().any(|other| other.name == *layer);
        let shares = |fraction: f64, fraction_of: &BTreeMap<String, f64>| {
            let sound = |share: f64| (0.0..=1.0).contains(&share);
            if !sound(fraction) || !fraction_of.iter().all(|(name, &of)| known(name) && sound(of)) {
                let expected = "shares between 0 and 1, of layers of the network";
                return Err(("prune", expected.into(), format!("{fraction}, {fraction_of:?}")));
            }
            Ok(())
        };
        let whole = |width: usize| match width {
            0 => Err(("prune", "a width of at least 1".to_owned(), "0".to_owned())),
            _ => Ok(()),
        };
        match prune {
            Prune::Node { penalty, .. } => {
                if !(*penalty >= 0.0 && penalty.is_finite()) {
                    return Err(("penalty", "0 or more".into(), penalty.to_string()));
                }
                let starts = |beta: &Beta| beta.initial.is_finite() && beta.initial >= 0.0;
                let sound = |beta: &Beta| starts(beta) && beta.limit >= beta.initial;
                if !self.beta.as_ref().is_some_and(sound) {
                    let expected = "the recipe's beta, with its initial value and a limit of at \
                                    least that, since a stage prunes nodes";
                    return Err(("prune", expected.into(), format!("beta {:?}", self.beta)));
                }
                Ok(())
            }
            Prune::Simd { width, threshold, threshold_of, .. } => {
                let sound = |threshold: f64| threshold > 0.0 && threshold.is_finite();
                if !sound(*threshold)
                    || !threshold_of.iter().all(|(name, &of)| known(name) && sound(of))
                {
                    let expected = "thresholds above 0, of layers of the network";
                    return Err((
                        "prune",
                        expected.into(),
                        format!("{threshold}, {threshold_of:?}"),
                    ));
                }
                whole(*width)
            }
            Prune::Magnitude { fraction, fraction_of } => shares(*fraction, fraction_of),
            Prune::Random { width, fraction, fraction_of } => {
                shares(*fraction, fraction_of)?;
                whole(*width)
            }
        }
    }
}

/// The networks, and variants, that have a recipe for a technique.
fn names(technique: Technique) -> Vec<String> {
    let of = Recipe::all_built_in().filter(|(_, other, _)| *other == technique);
    of.map(|(network, _, variant)| match variant {
        None => network.to_owned(),
        Some(variant) => format!("{network} --variant {variant}"),
    })
    .collect()
}

/// The first 12 hexadecimal digits of the SHA-256 of a value's JSON, keys in order.
pub(crate) fn digest(value: &impl Serialize) -> String {
    // Recipes hold finite numbers and string keys, which JSON can always hold; a value that it
    // could not would hash as null and be refused when the recipe is written.
    let json = serde_json::to_value(value).unwrap_or_default().to_string();
    sha256(json.as_bytes())[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_that_the_program_carries_is_sound_in_both_lengths() {
        let mut seen = 0;
        for (network, technique, variant) in Recipe::all_built_in() {
            let recipe = Recipe::built_in(network, technique, variant).unwrap();
            let name = format!("{network} {technique:?} {variant:?}");
            assert_eq!((recipe.network.as_str(), recipe.technique), (network, technique), "{name}");
            for recipe in [recipe.full(), recipe.quick()] {
                assert!(recipe.stages.iter().any(|stage| stage.prune.is_some()), "{name}");
                let again = Recipe::parse(&recipe.to_toml().unwrap(), &name).unwrap();
                assert_eq!(again.hash(), recipe.hash(), "{name}");
            }
            let compacts = |recipe: &Recipe| recipe.stages.iter().filter(|s| s.compact).count();
            assert_eq!(compacts(&recipe), usize::from(technique == Technique::CombinedPruning));
            assert_eq!(compacts(&recipe.quick()), compacts(&recipe), "{name}");
            seen += 1;
        }
        assert_eq!(seen, BUILT_IN.len(), "each name is a technique's, with or without a variant");
        for network in zoo::NAMES {
            for technique in Technique::ALL {
                Recipe::built_in(network, technique, None).unwrap();
            }
        }
        let error =
            Recipe::built_in("lenet-5", Technique::CombinedPruning, Some("none")).unwrap_err();
        assert!(error.to_string().contains("lenet-5 --variant all"), "{error}");
    }

    #[test]
    fn hashes_are_those_under_which_results_lie() {
        for (network, technique, hash) in [
            ("lenet-300-100", Technique::NodePruning, "955272d8f030"),
            ("lenet-300-100", Technique::SimdPruning, "cf7fa6bca7ed"),
        ] {
            let recipe = Recipe::built_in(network, technique, None).unwrap();
            assert_eq!(recipe.full().hash(), hash, "{network}");
        }
    }

    #[test]
    fn what_a_recipe_gets_wrong_is_named() {
        let text = include_str!("../../experiments/recipes/lenet-5/combined_pruning_all.toml");
        for (from, to, message) in [
            ("threshold = 0.04", "threshold = 0.0", "stage simd-0, prune"),
            (
                "threshold = 0.05",
                "threshold = 0.05, threshold_of = { ip9 = 0.1 }",
                "stage simd-1, prune",
            ),
            ("width = 8", "width = 0", "a width of at least 1"),
            ("penalty = 0.004", "penalty = -1.0", "stage node-1, penalty"),
            ("beta = { initial", "# { initial", "since a stage prunes nodes"),
            ("combined-pruning", "random-pruning", "what the recipe's technique prunes"),
            ("deviation = [0.3081]", "deviation = [0.0]", "pixels.deviation"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Recipe::parse(&text.replace(from, to), "recipe").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let share = "{ random = { width = 8, fraction = 1.5 } }";
        let simd = "{ simd = { width = 8, threshold = 0.08 } }";
        let text = text.replace("combined-pruning", "random-pruning").replace(simd, share);
        assert!(Recipe::parse(&text, "recipe").is_err());
    }
}

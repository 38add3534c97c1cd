//! Recipes: every hyper-parameter of an experiment, as data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::fetch::sha256;
use crate::error::{Error, Result};
use crate::files;
use crate::network::{NodeKind, zoo};

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
    pub pixels: Pixels,
    /// Where the weights start.
    pub initial: Initial,
    /// Where the `beta` of a mask starts and ends; needed by node pruning alone.
    #[serde(default)]
    pub beta: Option<Beta>,
    /// From the initial weights on, each from the result of the one before.
    pub stages: Vec<Stage>,
}

/// How a network is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// Whole nodes.
    NodePruning,
    /// Aligned groups of weights.
    SimdPruning,
}

impl Technique {
    /// The experiment's name: its binary, and its folder of results.
    pub fn experiment(self) -> &'static str {
        match self {
            Self::NodePruning => "node_pruning",
            Self::SimdPruning => "simd_pruning",
        }
    }
}

/// x = (intensity / 255 - mean) / deviation, per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pixels {
    /// Per channel, of intensities between 0 and 1.
    pub mean: Vec<f64>,
    /// Per channel, likewise.
    pub deviation: Vec<f64>,
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
    },
}

/// The masks that a node-pruning stage targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// All of them.
    All,
    /// Those of convolutions.
    Conv,
    /// Those of dense layers.
    Ip,
}

impl Target {
    /// Whether masks over nodes of this kind are targeted.
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

/// The recipes in `experiments/recipes`, by network and technique.
const BUILT_IN: [(&str, Technique, &str); 4] = [
    (
        "lenet-300-100",
        Technique::NodePruning,
        include_str!("../../experiments/recipes/lenet-300-100/node_pruning.toml"),
    ),
    (
        "lenet-300-100",
        Technique::SimdPruning,
        include_str!("../../experiments/recipes/lenet-300-100/simd_pruning.toml"),
    ),
    (
        "lenet-5",
        Technique::NodePruning,
        include_str!("../../experiments/recipes/lenet-5/node_pruning.toml"),
    ),
    (
        "lenet-5",
        Technique::SimdPruning,
        include_str!("../../experiments/recipes/lenet-5/simd_pruning.toml"),
    ),
];

impl Recipe {
    /// The recipe that this program carries for a network and a technique.
    ///
    /// # Errors
    /// There is none.
    pub fn built_in(network: &str, technique: Technique) -> Result<Self> {
        let found =
            BUILT_IN.iter().find(|(name, other, _)| *name == network && *other == technique);
        let Some((.., text)) = found else {
            let with = BUILT_IN.iter().filter(|(_, other, _)| *other == technique);
            let names: Vec<&str> = with.map(|(name, ..)| *name).collect();
            let expected = format!("one of {}, or a recipe of your own", names.join(", "));
            return Err(Error::argument(
                format!("recipe for {}", technique.experiment()),
                expected,
                network,
            ));
        };
        Self::parse(text, &format!("recipe {network}/{}.toml", technique.experiment()))
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
        let shorten = |stage: &Stage| -> Option<Stage> {
            let epochs = stage.quick_epochs.filter(|&epochs| epochs > 0)?;
            let share = epochs as f64 / stage.epochs.max(1) as f64;
            let falls = (stage.learning_rate_epochs as f64 * share).round() as usize;
            let learning_rate_epochs = falls.max(1);
            Some(Stage { epochs, learning_rate_epochs, quick_epochs: None, ..stage.clone() })
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
            batch_size: usize,
            momentum: f64,
            weight_decay: f64,
            weight_decay_of: &'a BTreeMap<String, f64>,
            first_epoch: usize,
            pixels: &'a Pixels,
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
        let channels = network.input[0];
        for (field, values) in [("mean", &self.pixels.mean), ("deviation", &self.pixels.deviation)]
        {
            let expected = format!("a number for each of the {channels} channels");
            require(
                values.len() == channels && values.iter().all(|v| v.is_finite()),
                &format!("pixels.{field}"),
                &expected,
                format!("{values:?}"),
            )?;
        }
        require(
            self.pixels.deviation.iter().all(|&d| d > 0.0),
            "pixels.deviation",
            "numbers above 0",
            format!("{:?}", self.pixels.deviation),
        )?;
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
            let technique = match &stage.prune {
                None => self.technique,
                Some(Prune::Node { penalty, .. }) => {
                    require(finite(*penalty), &field("penalty"), "0 or more", penalty.to_string())?;
                    let beta = self
                        .beta
                        .as_ref()
                        .is_some_and(|b| finite(b.initial) && b.limit >= b.initial);
                    require(
                        beta,
                        "beta",
                        "its initial value and a limit of at least that, since a stage prunes nodes",
                        format!("{:?}", self.beta),
                    )?;
                    Technique::NodePruning
                }
                Some(Prune::Simd { width, threshold }) => {
                    let sound = *width > 0 && *threshold > 0.0 && threshold.is_finite();
                    require(
                        sound,
                        &field("prune"),
                        "a width of at least 1 and a threshold above 0",
                        format!("{width}, {threshold}"),
                    )?;
                    Technique::SimdPruning
                }
            };
            require(
                technique == self.technique,
                &field("prune"),
                "what the recipe's technique prunes",
                format!("{technique:?}"),
            )?;
        }
        Ok(())
    }
}

/// The first 12 hexadecimal digits of the SHA-256 of a value's JSON, keys in order.
pub(crate) fn digest(value: &impl Serialize) -> String {
    // Recipes hold finite numbers and string keys, which JSON can always hold; a value that it
    // could not would hash as null and be refused when the recipe is written.
    let json = serde_json::to_value(value).unwrap_or_default().to_string();
    sha256(json.as_bytes())[..12].to_owned()
}

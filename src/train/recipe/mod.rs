//! Recipes: every hyper-parameter of an experiment, as data.

mod built_in;
mod check;
mod difference;
mod per_parameter;
mod stage;
mod technique;

pub use per_parameter::PerParameter;
pub use stage::{Keep, OneCycle, Prune, Stage, Target, Unit};
pub use technique::Technique;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Preprocessing;
use crate::data::fetch::sha256;
use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, zoo};
use crate::sparse::Format;

/// Every hyper-parameter of one experiment on one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// A network of the zoo, or the name of the one that is described.
    pub network: String,
    /// The network, where it is none of the zoo's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Network>,
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
    /// Weight decay of single parameters, where it is another.
    #[serde(default)]
    pub weight_decay_of: PerParameter,
    /// How many times the stage's learning rate single parameters learn at, where it is not 1.
    #[serde(default, skip_serializing_if = "PerParameter::is_empty")]
    pub learning_rate_factor_of: PerParameter,
    /// The number of the first epoch, from which the learning rate is counted (the authors count
    /// from 1, and for AlexNet from 0).
    pub first_epoch: usize,
    /// How intensities become inputs.
    pub pixels: Preprocessing,
    /// Where the weights start.
    pub initial: Initial,
    /// SHA-256 of the file with the original network's weights, where it was trained before: the first stage then
    /// has no epochs. Trained here, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_weights: Option<String>,
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
    /// As bf16, but for the last convolution or dense layer, which makes the scores: it stays in f32.
    Bf16Hidden,
}

impl Precision {
    /// Each there is.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Bf16Hidden];

    /// Whether it is the usual one.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// As `--precision` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Bf16Hidden => "bf16-hidden",
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
    /// Weights normal with variance 2 / (inputs of a node), which keeps the scale of activations after
    /// ReLUs (He et al., 2015), less the mean of each node's weights; biases 0. After ReLUs all inputs are
    /// positive on average: without the mean, nodes see what differs between images, not what they share,
    /// and learn from the first step.
    CentredHe {},
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

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// A file that cannot be read, is no recipe, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&files::read_text(path)?, &path.display().to_string())
    }

    /// Reads and checks a recipe for a network, which it need not describe itself.
    ///
    /// # Errors
    /// As [`Recipe::load`]; a recipe for another network.
    pub fn load_for(network: &Network, path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut recipe = Self::read(&files::read_text(path)?, &name)?;
        if recipe.network != network.name {
            let expected = format!("a recipe for {}", network.name);
            return Err(Error::malformed(name, expected, format!("one for {}", recipe.network)));
        }
        if !network.is_of_zoo() && recipe.description.is_none() {
            recipe.description = Some(network.clone());
        }
        recipe.check(&name)?;
        if recipe.original_network()? != *network {
            let expected = format!("a recipe for {} as it is described", network.name);
            let found = format!("one for {} as it describes that", recipe.network);
            return Err(Error::malformed(name, expected, found));
        }
        Ok(recipe)
    }

    /// Reads and checks a recipe from TOML; `name` is for messages.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let recipe = Self::read(text, name)?;
        recipe.check(name)?;
        Ok(recipe)
    }

    fn read(text: &str, name: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            Error::malformed(name, "a recipe (see experiments/recipes)", error.to_string())
        })
    }

    /// The network before anything was pruned.
    ///
    /// # Errors
    /// A name that is not in the zoo, without a description.
    pub fn original_network(&self) -> Result<Network> {
        self.description.clone().map_or_else(|| zoo::by_name(&self.network), Ok)
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

    /// How many training images it reads, counted from the first one; none is all.
    pub fn first_images(&self) -> Option<usize> {
        // Those that are held out are the last ones.
        self.train_images.filter(|_| self.validation_images.is_none())
    }

    /// How its pruned network is stored: as the last stage that removed weights left it.
    pub fn storage_format(&self) -> Format {
        let of = |stage: &Stage| match stage.prune {
            Some(Prune::Simd { width, .. } | Prune::Random { width, .. }) => {
                Some(Format::Groups(width))
            }
            Some(Prune::Upright { height, .. }) => Some(Format::Upright(height)),
            Some(Prune::Magnitude { .. }) => Some(Format::Csr),
            Some(Prune::Node { .. }) | None => None,
        };
        self.stages.iter().rev().find_map(of).unwrap_or(Format::Dense)
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
            let falls_earlier = |falls: usize| ((falls as f64 * share).round() as usize).max(1);
            let learning_rate_epochs = stage.learning_rate_epochs.map(falls_earlier);
            let quick_epochs = None;
            let prune = stage.prune.clone().map(|prune| prune.shortened(share));
            let (name, keep) = (stage.name.clone(), stage.keep.shortened(share));
            let Stage { learning_rate, one_cycle, weight_decay_factor, .. } = *stage;
            Some(Stage {
                name,
                learning_rate,
                epochs,
                learning_rate_epochs,
                one_cycle,
                weight_decay_factor,
                quick_epochs,
                compact,
                prune,
                keep,
            })
        };
        let stages = self.stages.iter().filter_map(shorten).collect();
        Self { quick: true, first_epoch: 0, stages, ..self.clone() }
    }

    /// The recipe as it runs from an original network that is trained already, by the SHA-256 of its file: the
    /// first stage keeps its weights as they are.
    ///
    /// # Errors
    /// A recipe whose first stage prunes.
    pub fn from_original(&self, sha256: &str) -> Result<Self> {
        let mut recipe = Self { original_weights: Some(sha256.to_owned()), ..self.clone() };
        match recipe.stages.first_mut() {
            Some(Stage { prune: None, epochs, .. }) => *epochs = 0,
            other => {
                let expected =
                    "a recipe whose first stage trains the original network, to leave that out";
                let found =
                    other.map_or("no stage".into(), |stage| format!("{} first", stage.name));
                return Err(Error::argument("--original", expected, found));
            }
        }
        Ok(recipe)
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
            #[serde(skip_serializing_if = "Option::is_none")]
            description: Option<&'a Network>,
            dataset: &'a str,
            train_images: Option<usize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            validation_images: Option<usize>,
            #[serde(skip_serializing_if = "Precision::is_f32")]
            precision: Precision,
            batch_size: usize,
            momentum: f64,
            weight_decay: f64,
            weight_decay_of: &'a PerParameter,
            #[serde(skip_serializing_if = "PerParameter::is_empty")]
            learning_rate_factor_of: &'a PerParameter,
            first_epoch: usize,
            pixels: &'a Preprocessing,
            initial: &'a Initial,
            #[serde(skip_serializing_if = "Option::is_none")]
            original_weights: Option<&'a str>,
            beta: Option<&'a Beta>,
            stages: &'a [Stage],
        }
        let stages = &self.stages[..=index];
        let prunes_nodes = |stage: &Stage| matches!(stage.prune, Some(Prune::Node { .. }));
        digest(&Dependencies {
            network: &self.network,
            description: self.description.as_ref(),
            dataset,
            train_images: self.train_images,
            validation_images: self.validation_images,
            precision: self.precision,
            batch_size: self.batch_size,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            weight_decay_of: &self.weight_decay_of,
            learning_rate_factor_of: &self.learning_rate_factor_of,
            first_epoch: self.first_epoch,
            pixels: &self.pixels,
            initial: &self.initial,
            original_weights: self.original_weights.as_deref(),
            beta: self.beta.as_ref().filter(|_| stages.iter().any(prunes_nodes)),
            stages,
        })
    }
}

/// The first 12 hexadecimal digits of the SHA-256 of a value's JSON, keys in order.
pub(crate) fn digest(value: &impl Serialize) -> String {
    // Recipes hold finite numbers and string keys, which JSON can always hold; a value that it
    // could not would hash as null and be refused when the recipe is written.
    let json = serde_json::to_value(value).unwrap_or_default().to_string();
    sha256(json.as_bytes())[..12].to_owned()
}

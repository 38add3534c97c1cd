//! The stages of a recipe: how long each trains, and what it prunes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::network::NodeKind;

/// One stage of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Unique in its recipe.
    pub name: String,
    /// Learning rate at the start; of one cycle, the largest.
    pub learning_rate: f64,
    /// Epochs after which the learning rate falls to a tenth, each time. Absent where it takes one cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate_epochs: Option<usize>,
    /// One cycle of the learning rate over the whole stage, instead of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_cycle: Option<OneCycle>,
    /// How many times the recipe's weight decays this stage's are; once, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay_factor: Option<f64>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Passes in the quick version, which drops the stage where this is absent.
    #[serde(default)]
    pub quick_epochs: Option<usize>,
    /// Whether the nodes that are blocked by now are removed for good: this stage and those after it
    /// train the smaller network, and groups are cut from its rows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compact: bool,
    /// What is pruned; nothing where absent (original training, retraining).
    #[serde(default)]
    pub prune: Option<Prune>,
    /// Which weights the stage ends with.
    pub keep: Keep,
}

impl Stage {
    /// First epochs in which weights that are gone learn, too.
    pub fn soft_epochs(&self) -> usize {
        match self.prune {
            Some(Prune::Upright { soft_epochs, .. }) => soft_epochs,
            _ => 0,
        }
    }

    /// The learning rate in an epoch, by its number, once that share of the stage's steps is done, 0 to 1.
    pub fn learning_rate_at(&self, epoch: usize, done: f64) -> f64 {
        let falls = self.learning_rate_epochs.map_or(0, |epochs| epoch / epochs);
        match self.one_cycle {
            Some(cycle) => self.learning_rate * cycle.share_at(done),
            None => self.learning_rate * 0.1_f64.powi(falls as i32),
        }
    }
}

/// A learning rate that rises from a 25th of its largest value and then falls to 0, along half a cosine each, a little
/// with every step (Smith and Topin 2018; the factor and the curves are those of PyTorch's `OneCycleLR`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneCycle {
    /// The share of the stage's steps in which it rises, 0 to 1.
    pub warm_up: f64,
}

impl OneCycle {
    /// The share of its largest value that the learning rate has once that share of the steps is done.
    fn share_at(self, done: f64) -> f64 {
        let first = 1.0 / 25.0;
        let half_cosine = |done: f64| (1.0 - (std::f64::consts::PI * done).cos()) / 2.0;
        if done < self.warm_up {
            return first + (1.0 - first) * half_cosine(done / self.warm_up);
        }
        1.0 - half_cosine((done - self.warm_up) / (1.0 - self.warm_up))
    }
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
        /// How many living nodes are few enough, by layer: once a layer has no more, its mask stays as it is. Layers
        /// that are not named have no such number, as the authors' have none.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        stop_at: BTreeMap<String, usize>,
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
    /// Removes upright groups once, at the start of the stage, and trains what is left: those of the smallest root
    /// mean squares, from all targeted layers together.
    Upright {
        /// Weights in a group.
        height: usize,
        /// How much of the network's weights is gone after it, 0 to 1.
        fraction: f64,
        /// In what the root mean squares are measured.
        #[serde(default, skip_serializing_if = "Unit::is_weight")]
        unit: Unit,
        /// How many times the others' threshold that of single layers is, by name, where it is not once.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        threshold_factor_of: BTreeMap<String, f64>,
        /// Whether nodes that read the same inputs are put into the same strip before.
        #[serde(default, skip_serializing_if = "is_false")]
        order: bool,
        /// With `order`: the share of weights that is gone in the end, for which rows are ordered, and then exchanged
        /// as long as that keeps more. Where absent, the order is for this stage's own share, without exchanges.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order_for: Option<f64>,
        /// Whether the rows that the height leaves over at the bottom of a layer are groups, too, of fewer weights;
        /// else they stay, as the paper's partial groups do.
        #[serde(default, skip_serializing_if = "is_false")]
        partial: bool,
        /// First epochs of the stage in which groups that are gone learn, too: after each of them the smallest of
        /// all go anew, so that a group may come back. (Soft pruning, He et al. 2018, there of filters.)
        #[serde(default, skip_serializing_if = "is_zero")]
        soft_epochs: usize,
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

impl Prune {
    /// As it is where a stage trains that share of its epochs.
    pub(super) fn shortened(mut self, share: f64) -> Self {
        if let Self::Upright { soft_epochs, .. } = &mut self {
            *soft_epochs = (*soft_epochs as f64 * share).round() as usize;
        }
        self
    }
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
    /// The mean of those after each epoch, from that one of the stage on, counted from 1 (stochastic weight averaging,
    /// Izmailov et al. 2018).
    Average {
        /// The first epoch that counts.
        from: usize,
    },
}

impl Keep {
    /// As it is where a stage trains that share of its epochs.
    pub(super) fn shortened(self, share: f64) -> Self {
        match self {
            Self::Average { from } => Self::Average { from: (from as f64 * share).ceil() as usize },
            Self::Best | Self::Last => self,
        }
    }

    /// How many epochs' weights the mean is of, after so many of the stage.
    pub fn averaged(self, epochs_done: usize) -> usize {
        match self {
            Self::Average { from } => (epochs_done + 1).saturating_sub(from),
            Self::Best | Self::Last => 0,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "original"
        learning_rate = 0.5
        one_cycle = { warm_up = 0.25 }
        epochs = 8
        keep = "last"
    "#;

    #[test]
    fn one_cycle_rises_to_the_learning_rate_and_falls_to_nothing() {
        let stage: Stage = toml::from_str(TEXT).unwrap();
        let at = |done| stage.learning_rate_at(1, done);
        let expected = [(0.0, 0.02), (0.125, 0.26), (0.25, 0.5), (0.625, 0.25), (1.0, 0.0)];
        for (done, rate) in expected {
            approx::assert_abs_diff_eq!(at(done), rate, epsilon = 1e-12);
        }
        let steps: Vec<f64> = (0..=40).map(|step| at(f64::from(step) / 40.0)).collect();
        assert!(
            steps.windows(2).enumerate().all(|(step, pair)| (step < 10) == (pair[0] < pair[1]))
        );
        let without = Stage { one_cycle: Some(OneCycle { warm_up: 0.0 }), ..stage };
        assert_eq!(without.learning_rate_at(1, 0.0), 0.5);
    }

    #[test]
    fn steps_fall_by_the_epochs_number_alone() {
        let text = TEXT.replace("one_cycle = { warm_up = 0.25 }", "learning_rate_epochs = 3");
        let stage: Stage = toml::from_str(&text).unwrap();
        for (epoch, done, rate) in [(2, 0.9, 0.5), (3, 0.0, 0.05), (6, 0.5, 0.005)] {
            approx::assert_relative_eq!(stage.learning_rate_at(epoch, done), rate);
        }
    }
}

//! The techniques that a recipe may be of.

use serde::{Deserialize, Serialize};

use super::Prune;

/// How a network is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// Whole nodes: for hardware with much parallelism.
    NodePruning,
    /// Aligned groups of weights: for hardware with little.
    SimdPruning,
    /// Groups of one column and several rows: for the same hardware, at a higher rate.
    UprightPruning,
    /// Nodes, then groups of what is left: for what lies between, such as a multi-core processor.
    CombinedPruning,
    /// Single weights by their magnitude: traditional pruning, a baseline.
    MagnitudePruning,
    /// Random groups: a baseline.
    RandomPruning,
}

impl Technique {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [
        Self::NodePruning,
        Self::SimdPruning,
        Self::UprightPruning,
        Self::CombinedPruning,
        Self::MagnitudePruning,
        Self::RandomPruning,
    ];

    /// The experiment's name: its binary, its recipe files and its folder of results.
    pub fn experiment(self) -> &'static str {
        match self {
            Self::NodePruning => "node_pruning",
            Self::SimdPruning => "simd_pruning",
            Self::UprightPruning => "upright_pruning",
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
            Self::UprightPruning => {
                "Prunes upright groups of weights, one input of several nodes (beyond the paper)"
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
    pub(super) fn allows(self, prune: &Prune) -> bool {
        match prune {
            Prune::Node { .. } => matches!(self, Self::NodePruning | Self::CombinedPruning),
            Prune::Simd { .. } => matches!(self, Self::SimdPruning | Self::CombinedPruning),
            Prune::Upright { .. } => self == Self::UprightPruning,
            Prune::Magnitude { .. } => self == Self::MagnitudePruning,
            Prune::Random { .. } => self == Self::RandomPruning,
        }
    }
}

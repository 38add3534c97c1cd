//! What may be done with a pruned network: which nodes are left out and how layers may be stored.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::network::{Network, NodeMasks, Weights};
use crate::prune::compact::{compact, zero_masked};
use crate::sparse::Format;

/// How a pruned network is run. All policies compute the same scores from the same weights and masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "experiments", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// As if nothing had been pruned: every weight is stored and multiplied.
    Dense,
    /// The weights that are left, in compressed rows: what the paper calls traditional.
    #[serde(alias = "traditional")]
    #[cfg_attr(feature = "experiments", value(alias = "traditional"))]
    Magnitude,
    /// The groups that are left, all nodes.
    Simd,
    /// The upright groups that are left, all nodes.
    Upright,
    /// The nodes that are left, dense.
    Node,
    /// The groups that are left of the nodes that are left.
    #[serde(alias = "both")]
    #[cfg_attr(feature = "experiments", value(alias = "both"))]
    Combined,
    /// Of the nodes that are left, every layer in the format and by the kernel that is the fastest on this
    /// machine, or all in one format where the network is faster so.
    Scalpel,
}

impl Policy {
    /// All of them, as they stand in tables.
    pub const ALL: [Self; 7] = [
        Self::Dense,
        Self::Magnitude,
        Self::Simd,
        Self::Upright,
        Self::Node,
        Self::Combined,
        Self::Scalpel,
    ];

    /// As it is written on a command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Magnitude => "magnitude",
            Self::Simd => "simd",
            Self::Upright => "upright",
            Self::Node => "node",
            Self::Combined => "combined",
            Self::Scalpel => "scalpel",
        }
    }

    /// The network without masks that is run: blocked nodes are removed, or emit 0.
    pub(super) fn prepare(
        self,
        network: &Network,
        weights: &Weights,
        masks: &NodeMasks,
    ) -> Result<(Network, Weights)> {
        match self {
            Self::Dense | Self::Magnitude | Self::Simd | Self::Upright => {
                Ok((network.clone(), zero_masked(network, weights, masks)?))
            }
            Self::Node | Self::Combined | Self::Scalpel => compact(network, weights, masks),
        }
    }

    /// The ways to run a network that this policy leaves open: for each, the formats that a layer may take.
    pub(super) fn ways(self, group_width: usize) -> Vec<Vec<Format>> {
        let (groups, upright) = (Format::Groups(group_width), Format::Upright(group_width));
        match self {
            Self::Dense | Self::Node => vec![vec![Format::Dense]],
            Self::Magnitude => vec![vec![Format::Csr]],
            Self::Simd | Self::Combined => vec![vec![groups]],
            Self::Upright => vec![vec![upright]],
            Self::Scalpel => {
                let all = vec![groups, Format::Dense, Format::Csr, upright];
                vec![all, vec![groups], vec![Format::Dense]]
            }
        }
    }
}

//! What a technique makes of a network, and the published one of several.

use std::path::Path;

use crate::engine::Policy;
use crate::error::Result;
use crate::import::NetworkWeights;
use crate::models::{self, Card};
use crate::network::{Network, NodeMasks, Weights, zoo};
use crate::train::recipe::Technique;

/// Weights in a group, where nothing says otherwise.
pub(super) const GROUP_WIDTH: usize = 8;

/// What a technique makes of a network.
#[derive(Clone, Debug)]
pub struct PrunedModel {
    /// The policy that it is pruned for; `scalpel` for any but `dense`.
    pub policy: Policy,
    /// The network, compacted or with masks.
    pub network: Network,
    /// Its weights; those that were removed are 0.
    pub weights: Weights,
    /// The nodes that are blocked.
    pub masks: NodeMasks,
    /// Weights in a group.
    pub group_width: usize,
    /// Where the weights come from.
    pub from: String,
    /// What is known of its accuracy, where it was trained.
    pub card: Option<Card>,
}

impl PrunedModel {
    /// Somebody's weights, as they are, for any policy.
    ///
    /// # Errors
    /// Masks that are not of the network.
    pub(super) fn given(own: NetworkWeights, from: String) -> Result<Self> {
        let NetworkWeights { network, weights, group_width } = own;
        Ok(Self {
            policy: Policy::Scalpel,
            masks: weights.node_masks(&network)?,
            network,
            weights,
            group_width: group_width.unwrap_or(GROUP_WIDTH),
            from,
            card: None,
        })
    }

    /// Whether a policy runs it.
    pub(super) fn is_for(&self, policy: Policy) -> bool {
        let for_any = self.policy == Policy::Scalpel && policy != Policy::Dense;
        for_any || self.policy == policy
    }
}

/// The published models of a technique, of the plain recipe and its variants: the one that is most often right after
/// pruning first, and the plain one first where several are.
pub(super) fn published(
    network: &str,
    policy: Policy,
    technique: Technique,
    folder: &Path,
) -> Result<Vec<PrunedModel>> {
    let plain = format!("{network}-{}", technique.experiment().replace('_', "-"));
    let is_of_it = |name: &String| {
        name.strip_prefix(&plain).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut all = Vec::new();
    for name in models::names(folder).into_iter().filter(is_of_it) {
        let (card, model) = models::open(folder, &name)?;
        let weights = model.to_weights()?;
        let network = match model.network() {
            Some(network) => network.clone(),
            None => zoo::by_name(network)?,
        };
        let accuracy = card.accuracy;
        let pruned = PrunedModel {
            policy,
            masks: weights.node_masks(&network)?,
            network,
            weights,
            group_width: model.group_width().unwrap_or(GROUP_WIDTH),
            from: format!("zoo/{name}"),
            card: Some(card),
        };
        all.push((accuracy, pruned));
    }
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Ok(all.into_iter().map(|(_, model)| model).collect())
}

//! The share of each layer's weights that pruning leaves, for networks of which no pruned model is published.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::pruned_model::{PrunedModel, published};
use crate::engine::Policy;
use crate::error::{Error, Result};
use crate::network::{Network, NodeKind, Op, zoo};
use crate::train::recipe::Technique;

/// The share of each layer's weights that is left.
pub(super) struct Densities {
    of: BTreeMap<String, f64>,
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    network: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    source: Option<String>,
    #[serde(default)]
    density: BTreeMap<String, f64>,
    like: Option<String>,
}

impl Densities {
    /// Those of a network's own published model, else those of the table.
    pub fn of(network: &Network, folder: &Path) -> Result<Self> {
        if let Some(own) = Self::published(&network.name, folder)? {
            return Ok(own);
        }
        let missing = |reason: &str, remedy: String| Error::Unavailable {
            what: format!("the share of {}'s weights that pruning leaves", network.name),
            reason: reason.into(),
            remedy,
        };
        let table: Table = toml::from_str(include_str!("densities.toml"))
            .map_err(|error| Error::malformed("densities.toml", "densities", error.to_string()))?;
        let Some(row) = table.network.into_iter().find(|row| row.name == network.name) else {
            let remedy = format!("run simd_pruning on {} and publish its model", network.name);
            return Err(missing("no SIMD-aware pruning of it is published", remedy));
        };
        let Some(other) = row.like else {
            return Ok(Self { of: row.density, source: row.source.unwrap_or_default() });
        };
        let Some(like) = Self::published(&other, folder)? else {
            let remedy = format!("run simd_pruning on {other} and publish its model");
            return Err(missing(&format!("that of {other} is not published either"), remedy));
        };
        let theirs = layers(&zoo::by_name(&other)?);
        let density = |name: &String| like.of.get(name).copied().unwrap_or(1.0);
        let [first, between @ .., last] = theirs.as_slice() else {
            return Err(missing("the network like it has no layers", "name another".into()));
        };
        let middle = between.iter().filter(|(_, kind)| *kind == NodeKind::Conv);
        let middle: Vec<f64> = middle.map(|(name, _)| density(name)).collect();
        let mean = middle.iter().sum::<f64>() / middle.len().max(1) as f64;
        let own = layers(network);
        let count = own.len();
        let of = own.into_iter().enumerate().map(|(place, (name, _))| {
            let share = match place {
                0 => density(&first.0),
                _ if place + 1 == count => density(&last.0),
                _ => mean,
            };
            (name, share)
        });
        Ok(Self { of: of.collect(), source: format!("{}, by position", like.source) })
    }

    fn published(name: &str, folder: &Path) -> Result<Option<Self>> {
        let models = published(name, Policy::Simd, Technique::SimdPruning, folder)?;
        let Some(PrunedModel { network, weights, from, .. }) = models.into_iter().next() else {
            return Ok(None);
        };
        let mut of = BTreeMap::new();
        for (layer, _) in layers(&network) {
            let array = weights.get(&format!("{layer}.weight"))?;
            let kept = array.iter().filter(|&&weight| weight != 0.0).count();
            of.insert(layer, kept as f64 / array.len().max(1) as f64);
        }
        Ok(Some(Self { of, source: format!("densities of {from}") }))
    }

    /// The share of a layer's weights that is left.
    pub fn share(&self, layer: &str) -> Result<f64> {
        self.of
            .get(layer)
            .copied()
            .ok_or_else(|| Error::malformed("densities", format!("one of {layer}"), "none"))
    }
}

/// The convolutions and dense layers of a network.
pub(super) fn layers(network: &Network) -> Vec<(String, NodeKind)> {
    let kind = |op: &Op| match op {
        Op::Conv(_) => Some(NodeKind::Conv),
        Op::Linear(_) => Some(NodeKind::Ip),
        _ => None,
    };
    let all = network.layers.iter();
    all.filter_map(|layer| Some((layer.name.clone(), kind(&layer.op)?))).collect()
}

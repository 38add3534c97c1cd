//! The authors' published numbers, as data, to stand beside ours.

use serde::Deserialize;

use crate::device::class::HardwareClass;
use crate::error::{Error, Result};

/// The authors' tables.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authors {
    /// Node pruning.
    pub node: Vec<NodeRow>,
    /// SIMD-aware weight pruning.
    pub simd: Vec<SimdRow>,
    /// The paper's means over its networks.
    pub speedup: Vec<MeanSpeedup>,
}

/// What the paper states of a class of hardware, means over its networks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanSpeedup {
    /// The class.
    pub class: HardwareClass,
    /// Times faster than the dense network, as Scalpel prunes it.
    pub scalpel: f64,
    /// As traditional pruning does.
    pub traditional: f64,
    /// By how much the model is smaller, in percent.
    pub bytes_reduced: f64,
}

/// A row of the table of node pruning.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRow {
    /// A network of the zoo.
    pub network: String,
    /// As it is written in a table.
    pub dataset: String,
    /// Accuracy before, in percent.
    pub before: f64,
    /// Accuracy after, in percent.
    pub after: f64,
    /// Nodes kept in each masked layer.
    pub kept: Vec<usize>,
}

/// What is stated of SIMD-aware pruning.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimdRow {
    /// A network of the zoo.
    pub network: String,
    /// As it is written in a table.
    pub dataset: String,
    /// Accuracy before, in percent; the accuracy after is not stated.
    pub before: f64,
    /// Weights in a group.
    pub width: usize,
    /// Weights removed after each stage, in percent.
    pub removed: Vec<f64>,
}

impl Authors {
    /// The paper's mean speedup on a class of hardware.
    pub fn mean_speedup(&self, class: HardwareClass) -> Option<f64> {
        self.speedup.iter().find(|row| row.class == class).map(|row| row.scalpel)
    }

    /// The tables that this version carries.
    ///
    /// # Errors
    /// A table that was edited into something else.
    pub fn published() -> Result<Self> {
        toml::from_str(include_str!("authors.toml")).map_err(|error| {
            Error::malformed("authors.toml", "the authors' tables", error.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;

    #[test]
    fn every_network_of_the_zoo_has_a_row_with_a_count_for_each_mask() {
        let authors = Authors::published().unwrap();
        let names: Vec<&str> = authors.node.iter().map(|row| row.network.as_str()).collect();
        assert_eq!(names, zoo::NAMES);
        for row in &authors.node {
            let sites = zoo::by_name(&row.network).unwrap().mask_sites().unwrap();
            let totals: Vec<usize> = sites.iter().map(|site| site.nodes).collect();
            assert_eq!(row.kept.len(), totals.len(), "{}", row.network);
            assert!(row.kept.iter().zip(totals).all(|(&kept, total)| kept <= total));
        }
    }
}

//! Storage formats of pruned weights, their exact size in bytes, and their files.
//!
//! - [`GroupSparse`]: aligned groups of weights with one index each (SIMD-aware pruning).
//! - [`UprightSparse`]: groups of one column and several rows, with one index each.
//! - [`Csr`]: compressed sparse rows, an index for each weight (traditional pruning).
//! - Node pruning needs no format: what [`crate::prune::compact`] leaves is dense.

use serde::{Deserialize, Serialize};

mod csr;
mod file;
mod group;
mod index;
mod upright;

pub use csr::Csr;
pub use file::{Format, Model, StoredArray};
pub use group::GroupSparse;
pub use upright::UprightSparse;

/// How weights are grouped: in [`GroupSparse`] or [`UprightSparse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "experiments", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Neighbours of one row: the paper's groups.
    #[default]
    Groups,
    /// Neighbours of one column.
    Upright,
}

impl Pattern {
    /// As it is written on a command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Upright => "upright",
        }
    }
}

/// The exact size of stored weights, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The weights themselves.
    pub values: usize,
    /// Indices and row pointers.
    pub indices: usize,
}

impl Bytes {
    /// Of all that is stored.
    pub fn total(self) -> usize {
        self.values + self.indices
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            values: sum.values + part.values,
            indices: sum.indices + part.indices,
        })
    }
}

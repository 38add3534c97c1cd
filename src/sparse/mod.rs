//! Storage formats of pruned weights, their exact size in bytes, and their files.
//!
//! - [`GroupSparse`]: aligned groups of weights with one index each (SIMD-aware pruning).
//! - [`Csr`]: compressed sparse rows, an index for each weight (traditional pruning).
//! - Node pruning needs no format: what [`crate::prune::compact`] leaves is dense.

mod csr;
mod file;
mod group;
mod index;

pub use csr::Csr;
pub use file::{Format, Model, StoredArray};
pub use group::GroupSparse;

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

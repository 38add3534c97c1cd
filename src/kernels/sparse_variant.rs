//! The variants of the sparse products of both patterns, as one type.

use super::group_spmm::{self, Columns};
use super::upright_spmm;
use crate::error::Result;
use crate::sparse::Pattern;

/// A variant of the kernels of a pattern.
#[derive(Clone, Copy, Debug)]
pub enum SparseVariant {
    /// For groups of one row.
    Groups(&'static group_spmm::Variant),
    /// For upright groups.
    Upright(&'static upright_spmm::Variant),
}

impl SparseVariant {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Groups(variant) => variant.name,
            Self::Upright(variant) => variant.name,
        }
    }

    /// Whether it is for one column alone.
    pub fn one_column(self) -> bool {
        match self {
            Self::Groups(variant) => variant.design.columns == Columns::One,
            Self::Upright(variant) => variant.design.one_column(),
        }
    }

    /// Whether a product of `rows` rows and `n` columns is best given to it.
    pub fn suits(self, rows: usize, n: usize) -> bool {
        match self {
            Self::Groups(variant) => variant.design.columns.suit(rows, n),
            Self::Upright(variant) => variant.design.columns.suit(n),
        }
    }

    /// Whether this processor has its instructions.
    pub fn runs_here(self) -> bool {
        match self {
            Self::Groups(variant) => variant.target.available(),
            Self::Upright(variant) => variant.target.available(),
        }
    }

    /// All of a pattern, the preferred ones first.
    pub fn all(pattern: Pattern) -> Vec<Self> {
        match pattern {
            Pattern::Groups => group_spmm::VARIANTS.iter().map(Self::Groups).collect(),
            Pattern::Upright => upright_spmm::VARIANTS.iter().map(Self::Upright).collect(),
        }
    }

    /// Those of a pattern that are worth timing for `n` columns.
    ///
    /// # Errors
    /// A variant that `SCALPEL_KERNEL` names, which is unknown, or which this processor or `n` rules out.
    pub fn candidates(pattern: Pattern, n: usize) -> Result<Vec<Self>> {
        Ok(match pattern {
            Pattern::Groups => group_spmm::candidates(n)?.into_iter().map(Self::Groups).collect(),
            Pattern::Upright => {
                upright_spmm::candidates(n)?.into_iter().map(Self::Upright).collect()
            }
        })
    }
}

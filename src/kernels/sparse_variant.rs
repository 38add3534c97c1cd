//! The variants of the sparse products of both patterns, as one type: on CPUs, and on GPUs.

use super::registry::Isa;
use super::sparse_product::{Columns, candidates, preferred};
use super::{group_spmm, upright_spmm};
use crate::device::gpu::Language;
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

    fn columns(self) -> Columns {
        match self {
            Self::Groups(variant) => variant.design.columns,
            Self::Upright(variant) => variant.design.columns,
        }
    }

    fn target(self) -> Isa {
        match self {
            Self::Groups(variant) => variant.target,
            Self::Upright(variant) => variant.target,
        }
    }

    /// Whether it is for one column alone.
    pub fn one_column(self) -> bool {
        matches!(self.columns(), Columns::One)
    }

    /// Whether a product of `rows` rows and `n` columns is best given to it.
    pub fn suits(self, rows: usize, n: usize) -> bool {
        self.columns().suit(rows, n)
    }

    /// Whether this processor has its instructions.
    pub fn runs_here(self) -> bool {
        self.target().available()
    }

    /// All of a pattern, the preferred ones first.
    pub fn all(pattern: Pattern) -> Vec<Self> {
        match pattern {
            Pattern::Groups => group_spmm::VARIANTS.iter().map(Self::Groups).collect(),
            Pattern::Upright => upright_spmm::VARIANTS.iter().map(Self::Upright).collect(),
        }
    }

    /// The one that a product of `rows` rows and `n` columns is given: the one that `SCALPEL_KERNEL` names, else the
    /// first that suits it here.
    ///
    /// # Errors
    /// A forced variant that is unknown, or whose instructions this processor lacks.
    pub fn preferred(pattern: Pattern, rows: usize, n: usize) -> Result<Self> {
        Ok(match pattern {
            Pattern::Groups => Self::Groups(preferred(rows, n)?),
            Pattern::Upright => Self::Upright(preferred(rows, n)?),
        })
    }

    /// Those of a pattern that are worth timing for `n` columns.
    ///
    /// # Errors
    /// A variant that `SCALPEL_KERNEL` names, which is unknown, or whose instructions this processor lacks.
    pub fn candidates(pattern: Pattern, n: usize) -> Result<Vec<Self>> {
        Ok(match pattern {
            Pattern::Groups => candidates(n)?.into_iter().map(Self::Groups).collect(),
            Pattern::Upright => candidates(n)?.into_iter().map(Self::Upright).collect(),
        })
    }
}

/// A variant of the kernels of a pattern on GPUs.
#[derive(Clone, Copy, Debug)]
pub enum GpuSparseVariant {
    /// For groups of one row.
    Groups(&'static group_spmm::gpu::Variant),
    /// For upright groups.
    Upright(&'static upright_spmm::gpu::Variant),
}

impl GpuSparseVariant {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Groups(variant) => variant.name,
            Self::Upright(variant) => variant.name,
        }
    }

    fn language(self) -> Language {
        match self {
            Self::Groups(variant) => variant.target,
            Self::Upright(variant) => variant.target,
        }
    }

    /// Whether it is for one column alone.
    fn one_column(self) -> bool {
        match self {
            Self::Groups(variant) => variant.design == group_spmm::gpu::Design::Vector,
            Self::Upright(variant) => variant.design == upright_spmm::gpu::Design::Vector,
        }
    }

    /// Those of a pattern that are written in a language and take n columns, the preferred ones first.
    pub fn all(pattern: Pattern, language: Language, n: usize) -> Vec<Self> {
        let all: Vec<Self> = match pattern {
            Pattern::Groups => group_spmm::gpu::VARIANTS.iter().map(Self::Groups).collect(),
            Pattern::Upright => upright_spmm::gpu::VARIANTS.iter().map(Self::Upright).collect(),
        };
        let fits =
            |variant: &Self| variant.language() == language && (n == 1 || !variant.one_column());
        all.into_iter().filter(fits).collect()
    }
}

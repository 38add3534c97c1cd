//! The table of an operation's implementations: one type for all operations, on CPUs and GPUs.
//!
//! Each operation lists its variants in a `VARIANTS` table, the preferred ones first. Dispatch, autotuning, the
//! conformance suite and the benches read that table; `SCALPEL_KERNEL=<name>` forces one of its lines.

use std::fmt;

use crate::device::cpu::{Avx2, Avx512};
use crate::error::{Error, Result};

/// The environment variable that forces a variant by name.
pub const VARIABLE: &str = "SCALPEL_KERNEL";

/// One implementation of an operation: `D` says how it computes, `T` what it was compiled for.
#[derive(Debug)]
pub struct Variant<D, T = Isa> {
    /// `<op>_<type>_<instruction set or language>_<design>`, such as `group_spmm_f32_avx512_n48`.
    pub name: &'static str,
    /// The instruction set, or a GPU's language.
    pub target: T,
    /// How it computes.
    pub design: D,
}

impl<D, T> Variant<D, T> {
    /// A line of a table.
    pub(super) const fn new(name: &'static str, target: T, design: D) -> Self {
        Self { name, target, design }
    }
}

impl<D> Variant<D> {
    /// The refusal of a variant whose instructions this processor lacks.
    pub(super) fn unavailable(&self) -> Error {
        Error::Unavailable {
            what: format!("the kernel {}", self.name),
            reason: format!("this processor lacks {}", self.target),
            remedy: format!("choose another with {VARIABLE}, or none"),
        }
    }
}

/// An instruction set that kernels are compiled for; a larger one includes the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every processor has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512F, with AVX2 and FMA.
    Avx512,
}

impl Isa {
    /// Whether this processor has it.
    pub fn available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 => Avx2::new().is_some(),
            Self::Avx512 => Avx512::new().is_some(),
        }
    }

    /// The name of its CPU feature, as tools print it.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2+fma",
            Self::Avx512 => "avx512f",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.feature())
    }
}

/// The variant of that name.
///
/// # Errors
/// There is none; the message lists those there are.
pub(super) fn by_name<'t, D, T>(
    table: &'t [Variant<D, T>],
    name: &str,
) -> Result<&'t Variant<D, T>> {
    table
        .iter()
        .find(|variant| variant.name == name)
        .ok_or_else(|| Error::unknown(VARIABLE, table.iter().map(|variant| variant.name), name))
}

/// The variant of a table that [`VARIABLE`] forces: only where it names one of the operation of that prefix.
///
/// # Errors
/// A name with the operation's prefix that is not in the table.
pub(super) fn forced<'t, D, T>(
    table: &'t [Variant<D, T>],
    prefix: &str,
) -> Result<Option<&'t Variant<D, T>>> {
    let name = std::env::var(VARIABLE).ok().filter(|name| name.starts_with(prefix));
    name.map(|name| by_name(table, &name)).transpose()
}

/// Packs for the first of some variants that is not [`Error::Unavailable`] here.
///
/// # Errors
/// What packing refuses; no variant at all.
pub(super) fn first_available<V, K>(
    variants: impl IntoIterator<Item = V>,
    pack: impl Fn(V) -> Result<K>,
) -> Result<K> {
    let mut refusal = Error::argument("a kernel", "a variant for these columns", "none");
    for variant in variants {
        match pack(variant) {
            Err(error @ Error::Unavailable { .. }) => refusal = error,
            packed => return packed,
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_in_the_table_is_refused_with_those_that_are() {
        let table = [
            Variant::new("op_f32_avx2", Isa::Avx2, ()),
            Variant::new("op_f32_portable", Isa::Portable, ()),
        ];
        assert_eq!(by_name(&table, "op_f32_avx2").unwrap().target, Isa::Avx2);
        let Error::Unknown { known, found, .. } = by_name(&table, "op_f32_neon").unwrap_err()
        else {
            panic!("another error")
        };
        assert_eq!((known.len(), found.as_str()), (2, "op_f32_neon"));
    }

    #[test]
    fn the_first_variant_that_is_available_is_packed() {
        let pack = |name: &'static str| match name {
            "absent" => Err(Variant::new(name, Isa::Avx512, ()).unavailable()),
            "wrong" => Err(Error::argument("pack", "a bias of 3 entries", "4")),
            name => Ok(name),
        };
        assert_eq!(first_available(["absent", "here", "wrong"], pack).unwrap(), "here");
        assert!(
            first_available(["absent", "wrong", "here"], pack).is_err(),
            "only absence is passed over"
        );
        let error = first_available(["absent"], pack).unwrap_err().to_string();
        assert!(error.contains("avx512f"), "{error}");
    }
}

//! The kernels that this project is for, one folder per operation.
//!
//! Each folder holds the contract and the dispatch (`mod.rs`), plain loops (`reference.rs`), the
//! variants by instruction set, and one conformance suite that runs every variant of the `VARIANTS`
//! table. `SCALPEL_KERNEL=<name>` forces a variant. [`convolution`] has no variants of its own: it is
//! `group_spmm` on operands that lie otherwise ([`layout`]).

pub mod convolution;
pub mod csr_spmm;
pub mod group_spmm;
pub mod layout;
pub mod masked_dense;

use crate::error::{Error, Result};

/// The variable that forces a variant by name.
pub const VARIABLE: &str = "SCALPEL_KERNEL";

/// The variant that [`VARIABLE`] forces, where it is one of the operation of that prefix.
fn forced(prefix: &str) -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|name| name.starts_with(prefix))
}

/// Where a name is in a table.
fn position<'a>(names: impl Iterator<Item = &'a str> + Clone, name: &str) -> Result<usize> {
    names.clone().position(|known| known == name).ok_or_else(|| {
        let names: Vec<&str> = names.collect();
        Error::argument(VARIABLE, format!("one of {}", names.join(", ")), name)
    })
}

/// Packs for the first variant that this processor has.
fn first_available<V, K>(
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

/// The refusal of a variant whose instructions this processor lacks.
fn unavailable(name: &str, needs: &str) -> Error {
    Error::Unavailable {
        what: format!("the kernel {name}"),
        reason: format!("this processor lacks {needs}"),
        remedy: format!("choose another with {VARIABLE}, or none"),
    }
}

/// A bias of `rows` entries, zeros where there is none.
fn bias(operation: &str, bias: Option<&[f32]>, rows: usize) -> Result<Vec<f32>> {
    match bias {
        None => Ok(vec![0.0; rows]),
        Some(bias) if bias.len() == rows => Ok(bias.to_vec()),
        Some(bias) => {
            let expected = format!("a bias of {rows} entries");
            Err(Error::argument(operation, expected, bias.len().to_string()))
        }
    }
}

/// `value`, or 0 in place of a negative one if `relu`; NaN stays NaN.
#[inline(always)]
fn activate(value: f32, relu: bool) -> f32 {
    if relu && value < 0.0 { 0.0 } else { value }
}

//! Weights from files that people have: `safetensors`, dense or sparse, whole or in shards, and what `torch.save`
//! leaves. They are read rightly or refused by name; what is done to them on the way, and what is passed over, is
//! said ([`Imported::notes`]).

mod matching;
mod names;
mod pickle;
mod pytorch;
mod safetensors;

pub use matching::{NetworkWeights, matching, print_notes};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, Weights};

/// The weights of a file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Under the authors' names, with or without masks.
    pub weights: Weights,
    /// The network that the file describes, if it does.
    pub network: Option<Network>,
    /// The arrays that the file stores without their zeros, in order of name.
    pub sparse: Vec<String>,
    /// Weights in a group, where the file stores groups.
    pub group_width: Option<usize>,
    /// What was done for it, a sentence each: numbers that were widened, masks that were applied, arrays that were
    /// passed over.
    pub notes: Vec<String>,
}

impl Imported {
    /// The arrays that a network has no parameter or mask for, in order of name.
    ///
    /// # Errors
    /// A network that contradicts itself.
    pub fn unused(&self, network: &Network) -> Result<Vec<&str>> {
        let mut known: Vec<String> = network.parameters()?.into_iter().map(|p| p.name).collect();
        for site in network.mask_sites()? {
            known.extend(["alpha", "beta"].map(|part| format!("{}.{part}", site.name)));
        }
        let names = self.weights.iter().map(|(name, _)| name);
        Ok(names.filter(|name| !known.iter().any(|known| known == name)).collect())
    }
}

/// Reads a file's weights. `key` chooses among several dictionaries of tensors in a file of PyTorch; keys of one in
/// another are joined by dots.
///
/// # Errors
/// A file that is neither `safetensors` (or an index of its shards) nor one of PyTorch; a damaged one; several
/// dictionaries of tensors and no key; two arrays of one name.
pub fn read(path: &Path, key: Option<&str>) -> Result<Imported> {
    let name = path.display().to_string();
    from_bytes(&files::read(path)?, &name, path.parent(), key)
}

/// As [`read`], from bytes; `name` is for messages, and shards lie in `folder`, where there is one.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(
    bytes: &[u8],
    name: &str,
    folder: Option<&Path>,
    key: Option<&str>,
) -> Result<Imported> {
    if pytorch::is_one(bytes) {
        return pytorch::read(bytes, name, key)?.imported(name);
    }
    if let Some(key) = key {
        let expected = "a file of PyTorch, in whose dictionaries there are keys";
        return Err(Error::argument(format!("--key {key}"), expected, name));
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return safetensors::sharded(bytes, name, folder);
    }
    safetensors::read(bytes, name)
}

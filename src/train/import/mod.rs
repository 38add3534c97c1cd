//! Weights from files: `safetensors`, dense or sparse, and what `torch.save` leaves.

mod pickle;
mod pytorch;

use std::path::Path;

use crate::error::Result;
use crate::files;
use crate::network::{Network, Weights};
use crate::sparse::Model;

/// Reads weights under the authors' names, with or without masks, and the network that the file
/// describes, if it does. A `module.` before the names is dropped.
///
/// # Errors
/// A file that is neither `safetensors` nor a state dict of PyTorch; a damaged one.
pub fn read(path: &Path) -> Result<(Weights, Option<Network>)> {
    let (bytes, name) = (files::read(path)?, path.display().to_string());
    if pytorch::is_one(&bytes) {
        return Ok((pytorch::read(&bytes, &name)?.without_wrapper_prefix(), None));
    }
    let model = Model::from_bytes(&bytes, &name)?;
    Ok((model.to_weights()?.without_wrapper_prefix(), model.network().cloned()))
}

//! Weights from files of other programs: `safetensors`, or what libtorch itself can read.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::network::{Network, Weights};
use crate::sparse::Model;

/// How a file that is not `safetensors` can become one.
const CONVERSION: &str = "python3 -c \"import sys, torch; from safetensors.torch import save_file; \
    d = torch.load(sys.argv[1], map_location='cpu'); d = d.get('state_dict', d); \
    save_file({k: v.contiguous().float() for k, v in d.items()}, sys.argv[2])\" \
    in.pth.tar out.safetensors";

/// Reads weights under the authors' names, dense or sparse, with or without masks, and the network
/// that the file describes, if it does. A `module.` before the names is dropped.
///
/// # Errors
/// A file that is neither `safetensors` nor a TorchScript archive; what to do about it.
pub fn read(path: &Path) -> Result<(Weights, Option<Network>)> {
    let bytes = files::read(path)?;
    if !is_pytorch(&bytes) {
        let model = Model::from_bytes(&bytes, &path.display().to_string())?;
        return Ok((model.to_weights()?.without_wrapper_prefix(), model.network().cloned()));
    }
    Ok((read_by_libtorch(path)?.without_wrapper_prefix(), None))
}

/// Whether a file begins as PyTorch's do: a zip archive, or a pickle of protocol 2 and up.
fn is_pytorch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0x80, 2])
}

#[cfg(feature = "torch")]
fn read_by_libtorch(path: &Path) -> Result<Weights> {
    let arrays = tch::Tensor::loadz_multi(path).map_err(|error| {
        let reason = error.to_string();
        unreadable(path, reason.lines().next().unwrap_or_default())
    })?;
    if arrays.is_empty() {
        return Err(unreadable(path, "it holds no named array"));
    }
    let copy = |(name, tensor)| Ok((name, crate::baselines::torch::to_array(&tensor)?));
    arrays.into_iter().map(copy).collect()
}

#[cfg(not(feature = "torch"))]
fn read_by_libtorch(path: &Path) -> Result<Weights> {
    Err(unreadable(path, "this build has no libtorch"))
}

fn unreadable(path: &Path, reason: &str) -> Error {
    Error::malformed(
        path.display().to_string(),
        format!(
            "a safetensors file, or an archive that libtorch can read without Python (TorchScript); \
             a state dict saved by torch.save is a Python pickle, which it cannot. Convert it: {CONVERSION}"
        ),
        reason,
    )
}

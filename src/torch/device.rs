//! Where tensors live: the processor, or an NVIDIA GPU.

use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use tch::Device;

use super::memory;
use crate::error::{Error, Result};

/// A device by the name it has on the command line: `cpu`, `cuda`, `cuda:1`, ready for libtorch. From then
/// on the process keeps the memory that it frees.
///
/// # Errors
/// Another name; CUDA where libtorch cannot use it, and why.
pub fn device(name: &str) -> Result<Device> {
    memory::keep_freed();
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let index = match name.split_once(':') {
        None if name == "cuda" => Some(0),
        Some(("cuda", index)) => usize::from_str(index).ok(),
        _ => None,
    };
    let Some(index) = index else {
        return Err(Error::argument("device", "cpu, cuda or cuda:<number>", name));
    };
    // First: libtorch looks for CUDA at the first question about it, and keeps to what it found.
    let loaded = load_cuda();
    let count = tch::Cuda::device_count();
    if count <= index as i64 {
        return Err(Error::Unavailable {
            what: format!("the device {name}"),
            reason: match loaded {
                Ok(()) => format!("libtorch sees {count} NVIDIA GPUs"),
                Err(reason) => format!("libtorch's part for CUDA does not load: {reason}"),
            },
            remedy: "use --device cpu, or check the driver with nvidia-smi; where libtorch has no CUDA, run \
                     `cargo xtask setup` on a machine with the driver"
                .into(),
        });
    }
    Ok(Device::Cuda(index))
}

/// Loads `libtorch_cuda.so`, which registers CUDA with libtorch. The linker drops it from our
/// binaries, since nothing names a symbol of it. Nothing may have been asked of libtorch before that makes it look
/// for CUDA: whether it is there, or a seed, which it would pass on.
fn load_cuda() -> Result<(), libloading::Error> {
    static LOADED: OnceLock<()> = OnceLock::new();
    if LOADED.get().is_some() {
        return Ok(());
    }
    let library = if cfg!(windows) { "torch_cuda.dll" } else { "libtorch_cuda.so" };
    // SAFETY: the library is part of the libtorch that this process already runs; its initialisers
    // register kernels and have no other preconditions.
    let loaded = unsafe { libloading::Library::new(Path::new(library)) }?;
    std::mem::forget(loaded); // its kernels are used until the process ends
    LOADED.get_or_init(|| ());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_is_refused_by_name() {
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
        for name in ["gpu", "cuda:x", "tpu:0"] {
            assert!(device(name).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn absent_cuda_is_an_error_that_says_what_to_do() {
        match device("cuda") {
            Ok(device) => assert_eq!(device, Device::Cuda(0)),
            Err(error) => assert!(error.to_string().contains("--device cpu"), "{error}"),
        }
    }
}

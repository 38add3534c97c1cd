//! What this machine has to run kernels on, or why it has it not.
//!
//! A CPU is its instruction sets ([`cpu`]). A GPU is a [`Gpu`](gpu::Gpu), whether it is driven through
//! CUDA (`cuda`) or through Vulkan, Metal or Direct3D (`wgpu`, each a feature): the host side of a kernel is written
//! once for all of them. [`class`] says what kind of hardware the paper would call it.

pub mod class;
#[cfg(test)]
pub(crate) mod compile_only;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod gpu;
mod replay;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use std::sync::Arc;

use crate::error::{Error, Result};

/// A device, as it is called on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// `cpu`.
    Cpu,
    /// `cuda`, `cuda:1`: an NVIDIA GPU by the driver's order.
    Cuda(usize),
    /// `cuda-shim`: our CUDA kernels compiled as C++ and run on the processor, to test and to rehearse.
    CudaShim,
    /// `wgpu`.
    Wgpu,
}

impl DeviceSpec {
    /// The device of that name.
    ///
    /// # Errors
    /// Another name.
    pub fn parse(name: &str) -> Result<Self> {
        let numbered = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (name, numbered) {
            ("cpu", _) => Ok(Self::Cpu),
            ("wgpu", _) => Ok(Self::Wgpu),
            ("cuda-shim", _) => Ok(Self::CudaShim),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(ordinal)) => Ok(Self::Cuda(ordinal)),
            _ => {
                let expected = "cpu, cuda, cuda:<number>, wgpu, or cuda-shim to rehearse";
                Err(Error::argument("--device", expected, name))
            }
        }
    }
}

/// The GPU that wgpu drives: [`Wgpu::new`](wgpu::Wgpu::new).
///
/// # Errors
/// As there; a build without the feature `wgpu`.
pub fn open_wgpu() -> Result<Arc<dyn gpu::Gpu>> {
    #[cfg(feature = "wgpu")]
    return Ok(Arc::new(wgpu::Wgpu::new()?));
    #[cfg(not(feature = "wgpu"))]
    Err(Error::Unavailable {
        what: "a GPU through wgpu".into(),
        reason: "this program was built without the feature `wgpu`".into(),
        remedy: "build it with `--features wgpu`".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!(DeviceSpec::parse("cpu").unwrap(), DeviceSpec::Cpu);
        assert_eq!(DeviceSpec::parse("cuda:3").unwrap(), DeviceSpec::Cuda(3));
        assert_eq!(DeviceSpec::parse("cuda-shim").unwrap(), DeviceSpec::CudaShim);
        for name in ["", "cuda:", "cuda:x", "CPU", "vulkan"] {
            assert!(
                DeviceSpec::parse(name).unwrap_err().to_string().contains("cuda:<number>"),
                "{name}"
            );
        }
    }
}

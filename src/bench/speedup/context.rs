//! Where whole networks are measured: a device, threads, and the libraries beside ours.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::pytorch::PyTorch;
use crate::baselines::{conv_libraries, dense_libraries};
use crate::device::cuda::{Cuda, shim::Shim};
use crate::device::gpu::Gpu;
use crate::device::{DeviceSpec, open_wgpu};
use crate::engine::{self, DenseLibraries};
use crate::error::{Error, Result};
use crate::kernels::convolution::ConvLibrary;
use crate::kernels::library_gemm::DenseLibrary;

/// Where a contest takes place.
pub struct BenchContext<'a> {
    /// As it is called on the command line.
    pub name: String,
    /// What runs our networks.
    pub device: engine::Device<'a>,
    /// What runs the library's, where it is the same device.
    pub library: Option<tch::Device>,
    /// Threads of the CPU: those of the pool, and of libtorch.
    pub threads: usize,
    /// Libraries whose dense products may take our dense layers and convolutions.
    pub libraries: Vec<Arc<dyn DenseLibrary>>,
    /// Libraries whose own convolutions may.
    pub convolutions: Vec<Arc<dyn ConvLibrary>>,
    /// PyTorch through Python, which captures networks in CUDA graphs.
    pub(super) pytorch: Option<Rc<RefCell<PyTorch>>>,
}

impl BenchContext<'_> {
    /// What may take our layers of dense weights.
    pub fn libraries(&self) -> DenseLibraries<'_> {
        DenseLibraries { products: &self.libraries, convolutions: &self.convolutions }
    }

    /// Threads for the scores that everybody is compared with: all, where a GPU is timed and not the processor.
    pub(super) fn checking_threads(&self) -> usize {
        match self.device {
            engine::Device::Cpu => self.threads,
            engine::Device::Gpu(_) => {
                std::thread::available_parallelism().map_or(self.threads, usize::from)
            }
        }
    }

    /// The same with PyTorch in a Python as a further baseline, on the device on which libtorch runs, and its
    /// version.
    ///
    /// # Errors
    /// An interpreter without PyTorch; a device that PyTorch does not run on.
    pub fn with_pytorch(mut self, interpreter: &str) -> Result<(Self, String)> {
        let device = match self.library {
            Some(tch::Device::Cuda(index)) => format!("cuda:{index}"),
            Some(tch::Device::Cpu) => "cpu".into(),
            _ => {
                return Err(Error::argument(
                    "--pytorch",
                    "a device that PyTorch runs on",
                    self.name,
                ));
            }
        };
        let pytorch = PyTorch::start(interpreter, &device)?;
        let version = pytorch.version().to_owned();
        self.pytorch = Some(Rc::new(RefCell::new(pytorch)));
        Ok((self, version))
    }
}

/// What a device's name stands for.
pub struct BenchDevice {
    name: String,
    gpu: Option<Arc<dyn Gpu>>,
}

impl BenchDevice {
    /// The device of that name: `cpu`, `cuda`, `cuda:1`, `cuda-shim` or `wgpu`.
    ///
    /// # Errors
    /// Another name; what the device or its libraries lack.
    pub fn open(name: &str) -> Result<Self> {
        let gpu: Option<Arc<dyn Gpu>> = match DeviceSpec::parse(name)? {
            DeviceSpec::Cpu => None,
            DeviceSpec::Wgpu => Some(open_wgpu()?),
            DeviceSpec::CudaShim => Some(Arc::new(Shim::new()?)),
            DeviceSpec::Cuda(ordinal) => Some(Arc::new(Cuda::new(ordinal)?)),
        };
        Ok(Self { name: name.to_owned(), gpu })
    }

    /// The GPU, where it is one.
    pub fn gpu(&self) -> Option<&dyn Gpu> {
        self.gpu.as_deref()
    }

    /// Makes it a bench context, with so many threads of the processor: those of rayon's global pool and of libtorch
    /// are set to them. On a GPU through CUDA, libtorch runs on the same one; through wgpu it cannot. On a CPU,
    /// MKL, OpenBLAS and BLIS may take dense layers, and libtorch's convolutions (oneDNN) convolutions, on threads of
    /// ours.
    ///
    /// # Errors
    /// The global pool has been made already; a libtorch without CUDA; a library whose variable names no file of it.
    pub fn context(&self, threads: usize) -> Result<BenchContext<'_>> {
        let library = match self.name.as_str() {
            "wgpu" => None,
            // What stands in for a GPU is the processor.
            "cuda-shim" => Some(tch::Device::Cpu),
            name => Some(crate::torch::device(name)?),
        };
        tch::set_num_threads(threads as i32);
        // The calling thread is one of the pool's: nobody has to be woken for the first step.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
        pool.build_global().map_err(|error| {
            Error::argument("set the threads", "a pool that is not made yet", error.to_string())
        })?;
        let (libraries, convolutions) = match &self.gpu {
            None => (dense_libraries()?, conv_libraries()),
            Some(_) => (Vec::new(), Vec::new()),
        };
        let device = self.gpu().map_or(engine::Device::Cpu, engine::Device::Gpu);
        let name = self.name.clone();
        Ok(BenchContext { name, device, library, threads, libraries, convolutions, pytorch: None })
    }
}

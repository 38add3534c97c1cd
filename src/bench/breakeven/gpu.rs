//! The sweep on a GPU: group-sparse products of ours beside cuBLAS and cuSPARSE, or, through wgpu where
//! no vendor's library exists, beside our own dense and compressed-row kernels.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, ArrayView2};
use rand::RngExt;

use super::Case;
use crate::baselines::rotation::{Rotation, Set};
use crate::baselines::{Libraries, Product, Products, cuda::CudaLibraries};
use crate::device::cuda::{Cuda, shim::Shim};
use crate::device::gpu::{self, Buffer, Gpu, Replay};
use crate::device::{DeviceSpec, open_wgpu};
use crate::error::{Error, Result};
use crate::kernels::gpu::{Bound, Operands, Packed};
use crate::kernels::{GpuSparseVariant, csr_spmm, masked_dense};
use crate::report::{BreakevenPoint, Ceilings, Sweep};
use crate::seed;
use crate::sparse::Csr;
use crate::timing::{MeasureConfig, interleave_by};

/// The shapes [M, K] of the sweep on GPUs.
pub const SHAPES: [[usize; 2]; 5] =
    [[300, 784], [4096, 9216], [4096, 4096], [384, 2304], [192, 192]];
/// Its N.
pub const COLUMNS: [usize; 4] = [1, 16, 128, 1024];

/// A GPU and the library to beat on it.
pub struct Device {
    /// The GPU.
    pub gpu: Arc<dyn Gpu>,
    /// The vendor's library, or what stands in for one.
    pub libraries: Libraries,
}

/// The device of that name: `cuda`, `cuda:1`, `cuda-shim` or `wgpu`.
///
/// # Errors
/// Another name; what the device or its libraries lack.
pub fn device(name: &str) -> Result<Device> {
    match DeviceSpec::parse(name)? {
        DeviceSpec::Cuda(ordinal) => {
            let cuda = Arc::new(Cuda::new(ordinal)?);
            let products = Box::new(CudaLibraries::new(Arc::clone(&cuda), false)?);
            let libraries = Libraries { products, dense: Vec::new() };
            Ok(Device { gpu: cuda, libraries })
        }
        DeviceSpec::Wgpu => Ok(Device::of_ours(open_wgpu()?)),
        DeviceSpec::CudaShim => Ok(Device::of_ours(Arc::new(Shim::new()?))),
        DeviceSpec::Cpu => Err(Error::argument("--device", "a GPU", name)),
    }
}

impl Device {
    /// A GPU that no vendor's library runs on: our own dense and compressed-row kernels are to beat.
    fn of_ours(gpu: Arc<dyn Gpu>) -> Self {
        let products = Box::new(OurProducts { gpu: Arc::clone(&gpu) });
        Self { libraries: Libraries { products, dense: Vec::new() }, gpu }
    }

    /// What the device reaches at best: a large copy by its driver, and a large square product of random numbers
    /// by the library. A CPU that stands in for a GPU is not asked.
    ///
    /// # Errors
    /// The device refuses.
    pub fn ceilings(&self) -> Result<Option<Ceilings>> {
        let gpu = &self.gpu;
        if gpu.limits().software {
            return Ok(None);
        }
        let config = MeasureConfig::new(7, Duration::from_millis(5));
        // Far more than any cache, if the device binds it.
        let bytes = gpu.limits().buffer_bytes.min(1 << 28) / 4 * 4;
        let (from, to) = (gpu.allocate(bytes)?, gpu.allocate(bytes)?);
        let copy = gpu.prepare_copy(&from, &to, bytes)?;
        let mut replay = Replay::default();
        let mut turn = |calls: u32| replay.seconds(&**gpu, calls, &mut || gpu.enqueue(&copy));
        let seconds = interleave_by(&mut [&mut turn], config)?[0].median;
        let copy_gb_per_s = 2.0 * bytes as f64 / seconds / 1e9;
        // Random numbers: on ones or zeros a GPU draws less power, and runs faster than on any real product.
        let side = 4096;
        let mut rng = seed::stream(1, "ceilings", &[]);
        let mut random = || rng.random_range(-1.0_f32..1.0);
        let w = Array2::from_shape_simple_fn((side, side), &mut random);
        let x: Vec<f32> = (0..side * side).map(|_| random()).collect();
        let mut product = self.libraries.products.dense(w.view(), &x, side)?;
        let mut turn = |calls: u32| product.seconds(calls);
        let seconds = interleave_by(&mut [&mut turn], config)?[0].median;
        let dense_gflops = 2.0 * (side as f64).powi(3) / seconds / 1e9;
        Ok(Some(Ceilings { copy_gb_per_s, dense_gflops }))
    }
}

/// Our own dense and compressed-row products, all nodes living.
struct OurProducts {
    gpu: Arc<dyn Gpu>,
}

impl Products for OurProducts {
    fn name(&self) -> String {
        "our own masked_dense and csr_spmm".into()
    }

    fn dense(&self, w: ArrayView2<'_, f32>, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let operands = Operands::plain([w.nrows(), w.ncols()], n)?;
        let product = masked_dense::gpu::Product { weights: w, bias: None, relu: false };
        let pack = || masked_dense::gpu::pack(&*self.gpu, &product, &operands);
        candidate(&self.gpu, pack, x, w.nrows() * n)
    }

    fn csr(&self, w: &Csr, x: &[f32], n: usize) -> Result<Box<dyn Product>> {
        let operands = Operands::plain(w.shape(), n)?;
        let layer = csr_spmm::CsrLayer { weights: w, bias: None, relu: false };
        let pack = || csr_spmm::gpu::pack(&*self.gpu, &layer, &operands);
        candidate(&self.gpu, pack, x, w.shape()[0] * n)
    }
}

/// A packed product with its buffers.
struct Own {
    gpu: Arc<dyn Gpu>,
    bound: Bound,
    y: Buffer,
}

impl Set for Own {
    fn enqueue(&self) -> Result<()> {
        self.bound.enqueue(&*self.gpu)
    }

    fn y(&self) -> &Buffer {
        &self.y
    }
}

/// A product of ours as a candidate, on as many sets of operands as the device's cache asks for.
///
/// # Errors
/// What `pack` says; no memory.
pub fn candidate(
    gpu: &Arc<dyn Gpu>,
    pack: impl Fn() -> Result<Packed>,
    x: &[f32],
    floats: usize,
) -> Result<Box<dyn Product>> {
    candidate_of(gpu, pack()?, pack, x, floats)
}

/// As [`candidate`], the first set's product packed already.
fn candidate_of(
    gpu: &Arc<dyn Gpu>,
    first: Packed,
    pack: impl Fn() -> Result<Packed>,
    x: &[f32],
    floats: usize,
) -> Result<Box<dyn Product>> {
    let bytes = first.bytes() + size_of_val(x) + 4 * floats;
    let first = Cell::new(Some(first));
    let make = || -> Result<Box<dyn Set>> {
        let (x, y) = (gpu::upload(&**gpu, x)?, gpu.allocate(4 * floats)?);
        let packed = first.take().map_or_else(&pack, Ok)?;
        let bound = packed.bind(&**gpu, &x, &y)?;
        Ok(Box::new(Own { gpu: Arc::clone(gpu), bound, y }))
    };
    Ok(Box::new(Rotation::new(Arc::clone(gpu), bytes, floats, make)?))
}

/// Compares and times products of ours with the library's, all in turns: a point for each of `variants`,
/// or for the one that the dispatch takes.
///
/// # Errors
/// A candidate that fails, or that computes something else.
pub fn measure(
    case: &Case,
    device: &Device,
    variants: Option<&[GpuSparseVariant]>,
) -> Result<Vec<BreakevenPoint>> {
    let gpu = &device.gpu;
    let operands = Operands::plain([case.m, case.k], case.n)?;
    let mut ours: Vec<(String, Box<dyn Product + '_>)> = Vec::new();
    match variants {
        None => {
            let pack = || case.pack_on(&**gpu, None, &operands);
            let first = pack()?;
            let name = first.name();
            let made = candidate_of(gpu, first, pack, &case.x, case.m * case.n)?;
            ours.push((name.into(), made));
        }
        Some(variants) => {
            for &variant in variants {
                let pack = || case.pack_on(&**gpu, Some(variant), &operands);
                match candidate(gpu, pack, &case.x, case.m * case.n) {
                    Err(Error::Unavailable { .. }) => {}
                    made => ours.push((variant.name().into(), made?)),
                }
            }
        }
    }
    super::compare(case, ours, &device.libraries, 1)
}

/// Measures every point of a sweep, each with the variant that the dispatch takes, and gives them to
/// `done` one by one.
///
/// # Errors
/// As [`Case::new`] and [`measure`]; what `done` says.
pub fn run(
    sweep: &Sweep,
    device: &Device,
    mut done: impl FnMut(&BreakevenPoint) -> Result<()>,
) -> Result<Vec<BreakevenPoint>> {
    let mut points = Vec::new();
    // All that can be refused is refused before anything is measured.
    for &width in &sweep.widths {
        let [m, k] = [width, width];
        let case = Case::new([m, k], sweep.pattern, width, 0.0, 1)?;
        case.pack_on(&*device.gpu, None, &Operands::plain([m, k], 1)?)?;
    }
    super::for_each_point(sweep, |shape, width, density, n| {
        let case = Case::new(shape, sweep.pattern, width, density, n)?;
        let measured = measure(&case, device, None)?;
        measured.iter().try_for_each(&mut done)?;
        points.extend(measured);
        Ok(())
    })?;
    Ok(points)
}

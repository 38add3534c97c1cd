//! NVIDIA GPUs: the driver, streams, and programs compiled at run time. Nothing of CUDA is needed to
//! build; what is absent at run time is an error that says what to install.

mod fibers;
pub mod libraries;
pub mod nvrtc;
pub mod shim;
mod sizes;

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::sys::{
    CUdevice_attribute, CUevent_flags, CUgraphInstantiate_flags, CUstream, CUstreamCaptureMode,
};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr,
    DriverError, result,
};
use cudarc::nvrtc::Ptx;

pub use self::sizes::{Sizes, sizes_of};
use super::gpu::{self, Buffer, Gpu, Language, Launch, Limits, Program, Source, Step, backend};
use crate::error::{Error, Result};

/// The oldest architecture that CUDA 13 compiles for.
const OLDEST: (i32, i32) = (7, 5);

/// Buffers of a launch, of which our kernels need ten.
const MOST_BUFFERS: usize = 16;

/// An NVIDIA GPU, with one stream on which everything happens in order. What a thread records
/// ([`Gpu::record`]) goes to a stream of its own, so that other threads go on meanwhile.
#[derive(Debug)]
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    architecture: String,
    limits: Limits,
    modules: Mutex<HashMap<String, Arc<CudaModule>>>,
}

/// What a step of CUDA is.
#[derive(Debug)]
enum Work {
    Launch(Bound),
    Copy { from: Buffer, to: Buffer, bytes: usize },
    Recording(Recording),
}

/// A graph, and all that its kernels work on.
struct Recording {
    /// May be launched by one thread at a time.
    graph: Mutex<CudaGraph>,
    steps: Vec<Step>,
}

// SAFETY: CUDA's graphs may be used by any thread, but by one at a time, which the mutex sees to.
unsafe impl Send for Recording {}
// SAFETY: as above.
unsafe impl Sync for Recording {}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recording({} steps)", self.steps.len())
    }
}

thread_local! {
    /// The stream to which this thread's work goes while it records; null while it does not.
    static CAPTURING: Cell<CUstream> = const { Cell::new(std::ptr::null_mut()) };
}

/// A launch with its arguments.
#[derive(Debug)]
struct Bound {
    function: CudaFunction,
    grid: (u32, u32, u32),
    threads: u32,
    /// Kept alive as long as the step.
    _buffers: Vec<Buffer>,
    pointers: Vec<u64>,
    parameters: Vec<u32>,
}

#[derive(Debug)]
struct Compiled {
    function: CudaFunction,
    threads: u32,
}

impl Cuda {
    /// The GPU of that number, in the driver's order.
    ///
    /// # Errors
    /// No driver, no such GPU, one too old for CUDA 13, no NVRTC: each with what to do about it.
    pub fn new(ordinal: usize) -> Result<Self> {
        driver()?;
        nvrtc::available()?;
        let context = CudaContext::new(ordinal).map_err(|error| Error::Unavailable {
            what: format!("CUDA device {ordinal}"),
            reason: error.to_string(),
            remedy: "see `nvidia-smi -L` for the devices that the driver has".into(),
        })?;
        let capability = context.compute_capability().map_err(failed("ask its capability"))?;
        if capability < OLDEST {
            return Err(Error::Unavailable {
                what: format!("CUDA device {ordinal}"),
                reason: format!("its compute capability is {}.{}", capability.0, capability.1),
                remedy: format!("CUDA 13 needs a GPU of {}.{} or newer", OLDEST.0, OLDEST.1),
            });
        }
        let attribute = |attribute| {
            context
                .attribute(attribute)
                .map(|value| value as usize)
                .map_err(failed("ask its limits"))
        };
        let limits = Limits {
            // Kernels count floats in 32 bits.
            buffer_bytes: context
                .total_mem()
                .map_err(failed("ask its memory"))?
                .min(4 * u32::MAX as usize),
            shared_bytes: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
            )?,
            threads: 1024,
            grid: 65_535,
            buffers: MOST_BUFFERS as u32,
            multiprocessors: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )? as u32,
            cache_bytes: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
            software: false,
        };
        let architecture = format!("sm_{}{}", capability.0, capability.1);
        // SAFETY: every buffer is made, used and freed on this one stream, so that nothing has to wait for
        // another; an event at each use would cost as much as a small kernel.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed("make a stream"))?;
        Ok(Self { context, stream, architecture, limits, modules: Mutex::default() })
    }

    /// The stream on which everything happens.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The stream to which this thread's work goes: [`Cuda::stream`], or the one of its recording. A library's
    /// handle is given it before each call.
    pub fn current_stream(&self) -> CUstream {
        if backend::is_recording(self) { CAPTURING.get() } else { self.stream.cu_stream() }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(failed("enter its context"))
    }

    fn launch(&self, bound: &Bound) -> Result<()> {
        let (x, y, z) = bound.grid;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let count = bound.pointers.len();
        let mut arguments = [std::ptr::null_mut::<c_void>(); MOST_BUFFERS + 1];
        for (argument, pointer) in arguments.iter_mut().zip(&bound.pointers) {
            *argument = std::ptr::from_ref(pointer).cast_mut().cast();
        }
        arguments[count] = bound.parameters.as_ptr().cast_mut().cast();
        // SAFETY: the kernel takes as many pointers and then a struct of as many words: every entry
        // point's host side says so, and the suite runs each. The buffers live as long as the step.
        unsafe {
            result::launch_kernel(
                bound.function.cu_function(),
                bound.grid,
                (bound.threads, 1, 1),
                0,
                self.current_stream(),
                &mut arguments[..=count],
            )
        }
        .map_err(failed("launch a kernel"))
    }

    /// Sends what `work` enqueues from this thread to a stream of its own, and gives the graph of it.
    fn capture(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<(CudaGraph, Vec<Step>)> {
        self.bind()?;
        let stream = self.context.new_stream().map_err(failed("make a stream"))?;
        // Relaxed: a library may ask the driver things that a stricter mode forbids meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).map_err(failed("begin a recording"))?;
        let before = CAPTURING.replace(stream.cu_stream());
        let steps = backend::recorded(self, work);
        CAPTURING.set(before);
        // The capture is ended even where the work failed, or the stream could not be destroyed.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        let steps = steps?;
        let graph = graph.map_err(failed("record its work"))?.ok_or_else(|| {
            Error::argument("the GPU, asked to record its work", "a graph", "none")
        })?;
        Ok((graph, steps))
    }

    /// The address of a buffer.
    ///
    /// # Errors
    /// A buffer of another device.
    pub fn address(&self, buffer: &Buffer) -> Result<u64> {
        let memory: &CudaSlice<u8> = buffer.memory()?;
        Ok(memory.device_ptr(&self.stream).0)
    }

    /// Compiled modules are cached under all that goes into them.
    fn module(&self, source: &Source<'_>) -> Result<Arc<CudaModule>> {
        let constants: Vec<_> = source.all_constants().collect();
        let header = gpu::CUDA_HEADER.1;
        let key = format!("{}\n{constants:?}\n{header}\n{}", self.architecture, source.cuda()?);
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(&key) {
            return Ok(Arc::clone(module));
        }
        let image = nvrtc::compile(source, &self.architecture)?;
        let module = self.context.load_module(Ptx::from_binary(image.code));
        let module = module.map_err(failed("load a module"))?;
        modules.insert(key, Arc::clone(&module));
        Ok(module)
    }
}

impl Gpu for Cuda {
    fn language(&self) -> Language {
        Language::Cuda
    }

    fn name(&self) -> String {
        let name = self.context.name().unwrap_or_else(|_| "an NVIDIA GPU".into());
        format!("{name} ({}, CUDA)", self.architecture)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        backend::check_bytes(bytes, &self.limits)?;
        self.bind()?;
        // Kernels read vectors of four floats, so a buffer ends with a whole one.
        let memory = self.stream.alloc_zeros::<u8>(bytes.next_multiple_of(16).max(16));
        Ok(Buffer::new(bytes, memory.map_err(failed(&format!("allocate {bytes} bytes")))?))
    }

    fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        backend::check_room(buffer, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        let to = self.address(buffer)?;
        // SAFETY: the buffer has room for the bytes. The copy is after all work of the stream, and
        // the bytes are not touched before it is done.
        let copied = unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(failed("copy to it"))
    }

    fn read(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        backend::check_room(buffer, bytes.len())?;
        self.bind()?;
        if bytes.is_empty() {
            return self.wait();
        }
        let from = self.address(buffer)?;
        // SAFETY: as in `write`.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(failed("copy from it"))
    }

    fn program(&self, source: &Source<'_>) -> Result<Program> {
        self.bind()?;
        let function = self.module(source)?.load_function(source.entry);
        let function = function.map_err(failed(&format!("find the kernel {}", source.entry)))?;
        Ok(Program::new(Compiled { function, threads: source.threads }))
    }

    fn prepare(&self, launch: &Launch<'_>) -> Result<Step> {
        backend::check_launch(launch, &self.limits)?;
        let compiled: &Compiled = launch.program.get()?;
        let pointers =
            launch.buffers.iter().map(|buffer| self.address(buffer)).collect::<Result<_>>()?;
        let [x, y, z] = launch.grid;
        Ok(Step::new(Work::Launch(Bound {
            function: compiled.function.clone(),
            grid: (x, y, z),
            threads: compiled.threads,
            _buffers: launch.buffers.iter().map(|&buffer| buffer.clone()).collect(),
            pointers,
            parameters: launch.parameters.to_vec(),
        })))
    }

    fn prepare_copy(&self, from: &Buffer, to: &Buffer, bytes: usize) -> Result<Step> {
        backend::check_copy(from, to, bytes)?;
        // Both are of this device.
        self.address(from)?;
        self.address(to)?;
        Ok(Step::new(Work::Copy { from: from.clone(), to: to.clone(), bytes }))
    }

    fn enqueue(&self, step: &Step) -> Result<()> {
        let work: &Work = step.get()?;
        if let Work::Recording(recording) = work
            && backend::is_recording(self)
        {
            // Its steps become part of the recording that is being made.
            return recording.steps.iter().try_for_each(|step| self.enqueue(step));
        }
        backend::is_recorded(self, step); // so that its buffers live as long as the recording
        self.bind()?;
        match work {
            Work::Launch(bound) => self.launch(bound),
            Work::Copy { from, to, bytes } => {
                let (from, to) = (self.address(from)?, self.address(to)?);
                // SAFETY: both buffers hold as many bytes, and live as long as the step.
                unsafe { result::memcpy_dtod_async(to, from, *bytes, self.current_stream()) }
                    .map_err(failed("copy between buffers"))
            }
            Work::Recording(recording) => {
                let graph = recording.graph.lock().unwrap_or_else(PoisonError::into_inner);
                // SAFETY: the graph is alive, and nobody else launches it now.
                unsafe { result::graph::launch(graph.cu_graph_exec(), self.stream.cu_stream()) }
                    .map_err(failed("replay a recording"))
            }
        }
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Step> {
        if backend::is_recording(self) {
            // Refuses it.
            backend::recorded(self, work)?;
        }
        let (graph, steps) = self.capture(work)?;
        Ok(Step::new(Work::Recording(Recording { graph: Mutex::new(graph), steps })))
    }

    fn wait(&self) -> Result<()> {
        self.bind()?;
        self.stream.synchronize().map_err(failed("finish its work"))
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.bind()?;
        let event = || {
            let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
            self.context.new_event(flags).map_err(failed("make an event"))
        };
        let (start, end) = (event()?, event()?);
        start.record(&self.stream).map_err(failed("record an event"))?;
        work()?;
        end.record(&self.stream).map_err(failed("record an event"))?;
        // Waits for both.
        let elapsed = start.elapsed_ms(&end).map_err(failed("finish its work"))?;
        Ok(f64::from(elapsed) / 1e3)
    }
}

/// Says whether the driver can be called.
fn driver() -> Result<()> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    // SAFETY: the driver's initialisers have no preconditions.
    if *FOUND.get_or_init(|| unsafe { cudarc::driver::sys::is_culib_present() }) {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: "an NVIDIA driver".into(),
        reason: "the system's loader does not find libcuda".into(),
        remedy: "on a machine with an NVIDIA GPU, install its driver (580 or newer for CUDA 13)"
            .into(),
    })
}

/// Wraps an error of the driver with what was attempted.
fn failed(operation: &str) -> impl FnOnce(DriverError) -> Error {
    let operation = operation.to_owned();
    move |error| {
        Error::argument(format!("the GPU, asked to {operation}"), "success", error.to_string())
    }
}

#[cfg(test)]
mod tests;

//! A GPU as our kernels see it: buffers, programs, and launches of a program on buffers.
//!
//! A kernel exists in two languages, CUDA C++ and WGSL, under the same stem and with the same entry
//! points, constants, buffers and parameters, so that everything on the host's side, packing, tile
//! sizes and grids, is one piece of code. In CUDA an entry point takes its buffers as pointers, in
//! order, and then a struct of its parameters; in WGSL its buffers are the bindings of group 0, in
//! order, and its parameters the uniform after them.

pub mod backend;

use std::any::Any;
use std::fmt::{Debug, Write as _};
use std::sync::Arc;

pub use super::replay::Replay;
use crate::error::{Error, Result};

/// The language that a GPU's programs are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// CUDA C++.
    Cuda,
    /// WGSL.
    Wgsl,
}

impl Language {
    /// As it stands in the names of variants: `cuda`, `wgsl`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Wgsl => "wgsl",
        }
    }
}

/// What a GPU bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest buffer that a program may be given.
    pub buffer_bytes: usize,
    /// Bytes of memory that the threads of a block share.
    pub shared_bytes: usize,
    /// Threads of a block.
    pub threads: u32,
    /// Blocks along each side of a grid.
    pub grid: u32,
    /// Buffers of a launch.
    pub buffers: u32,
    /// Multiprocessors, where the driver tells; else a guess.
    pub multiprocessors: u32,
    /// Bytes of the last cache before memory; 0 where the driver does not tell.
    pub cache_bytes: usize,
    /// Whether it is a CPU that stands in for a GPU: its times are no GPU's.
    pub software: bool,
}

/// A program before it is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The stem of its files, such as `group_spmm`.
    pub stem: &'static str,
    /// The file under `cuda/`.
    pub cuda: Option<&'static str>,
    /// The file under `shaders/`.
    pub wgsl: Option<&'static str>,
    /// The entry point.
    pub entry: &'static str,
    /// Constants fixed at compile time: macros in CUDA, `const` in WGSL (an `override` may not size a
    /// thread's own arrays).
    pub constants: &'a [(&'static str, u32)],
    /// Threads of a block: the constant `THREADS`.
    pub threads: u32,
}

impl Source<'_> {
    /// The constants, `THREADS` among them.
    pub fn all_constants(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.constants.iter().copied().chain([("THREADS", self.threads)])
    }

    /// The text in WGSL: constants, what all shaders share, and of the file what stands before its first
    /// part and the entry point's own part. Parts begin with a line `//:<part>`, for the entry point
    /// `<stem>_<part>`: each has its own bindings.
    ///
    /// # Errors
    /// It is not written in WGSL.
    pub fn wgsl(&self) -> Result<String> {
        let file = self.wgsl.ok_or_else(|| self.absent(Language::Wgsl))?;
        let mut text = String::new();
        for (name, value) in self.all_constants() {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        text += include_str!("../../../shaders/shared.wgsl");
        let mut parts = file.split("//:");
        text += parts.next().unwrap_or_default();
        for part in parts {
            let (name, body) = part.split_once('\n').unwrap_or((part, ""));
            if self.entry.strip_prefix(self.stem) == Some(&format!("_{name}")) {
                text += body;
            }
        }
        Ok(text)
    }

    /// The file in CUDA C++.
    ///
    /// # Errors
    /// It is not written in CUDA C++.
    pub fn cuda(&self) -> Result<&'static str> {
        self.cuda.ok_or_else(|| self.absent(Language::Cuda))
    }

    fn absent(&self, language: Language) -> Error {
        let expected = format!("a program in {}", language.tag());
        Error::argument(format!("compile {}", self.stem), expected, "none")
    }
}

/// What every `.cu` file includes.
pub const CUDA_HEADER: (&str, &str) = ("shared.cuh", include_str!("../../../cuda/shared.cuh"));

/// Memory of a GPU. Clones are the same memory.
#[derive(Clone)]
pub struct Buffer {
    bytes: usize,
    memory: Arc<dyn Any + Send + Sync>,
}

impl Buffer {
    /// For a backend: memory of its own type.
    pub fn new(bytes: usize, memory: impl Any + Send + Sync) -> Self {
        Self { bytes, memory: Arc::new(memory) }
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For a backend: the memory that it made.
    ///
    /// # Errors
    /// The buffer is another backend's.
    pub fn memory<T: Any>(&self) -> Result<&T> {
        self.memory.downcast_ref().ok_or_else(foreign)
    }
}

impl Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes)
    }
}

/// A compiled program.
#[derive(Clone)]
pub struct Program(Arc<dyn Any + Send + Sync>);

impl Program {
    /// For a backend: a program of its own type.
    pub fn new(program: impl Any + Send + Sync) -> Self {
        Self(Arc::new(program))
    }

    /// For a backend: the program that it made.
    ///
    /// # Errors
    /// The program is another backend's.
    pub fn get<T: Any>(&self) -> Result<&T> {
        self.0.downcast_ref().ok_or_else(foreign)
    }
}

impl Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Program")
    }
}

/// Work that has been checked and bound to its buffers, to be enqueued again and again: a launch, a copy, or
/// a recording of several. Clones are the same step.
#[derive(Clone)]
pub struct Step(Arc<dyn Any + Send + Sync>);

impl Step {
    /// For a backend: a step of its own type.
    pub fn new(step: impl Any + Send + Sync) -> Self {
        Self(Arc::new(step))
    }

    /// For a backend: the step that it made.
    ///
    /// # Errors
    /// The step is another backend's.
    pub fn get<T: Any>(&self) -> Result<&T> {
        self.0.downcast_ref().ok_or_else(foreign)
    }
}

impl Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}

fn foreign() -> Error {
    Error::argument("a GPU", "buffers, programs and steps of its own", "another device's")
}

/// A program on buffers.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The program.
    pub program: &'a Program,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Its buffers, in order.
    pub buffers: &'a [&'a Buffer],
    /// Its parameters, in order; floats as their bits.
    pub parameters: &'a [u32],
}

/// A GPU.
pub trait Gpu: Send + Sync + Debug {
    /// What its programs are written in.
    fn language(&self) -> Language;

    /// The device's name and its driver's.
    fn name(&self) -> String;

    /// What it bears.
    fn limits(&self) -> Limits;

    /// Memory full of zeros. A buffer of no bytes can be bound like any other.
    ///
    /// # Errors
    /// More than is there, or than the device binds at once.
    fn allocate(&self, bytes: usize) -> Result<Buffer>;

    /// Copies bytes to the start of a buffer.
    ///
    /// # Errors
    /// More bytes than it has.
    fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()>;

    /// Waits for all steps before it and copies bytes from the start of a buffer.
    ///
    /// # Errors
    /// More bytes than it has; a step that failed.
    fn read(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()>;

    /// Compiles a program, once for each source, entry point and set of constants.
    ///
    /// # Errors
    /// What the compiler says; limits that it does not keep to.
    fn program(&self, source: &Source<'_>) -> Result<Program>;

    /// Checks a launch and binds it.
    ///
    /// # Errors
    /// A grid beyond the limits; buffers that the program does not take, where the device can tell.
    fn prepare(&self, launch: &Launch<'_>) -> Result<Step>;

    /// A copy of so many bytes from the start of one buffer to the start of another.
    ///
    /// # Errors
    /// More bytes than either has.
    fn prepare_copy(&self, from: &Buffer, to: &Buffer, bytes: usize) -> Result<Step>;

    /// Hands a step to the device, after all steps before it.
    ///
    /// # Errors
    /// The device refuses.
    fn enqueue(&self, step: &Step) -> Result<()>;

    /// Runs `work` and records the steps that it enqueues from this thread instead of running them: one step
    /// that runs them all in order. Through CUDA that is a graph: replaying it costs the host one call, however
    /// many kernels it has. `work` may neither read from the device nor wait for it.
    ///
    /// # Errors
    /// What `work` says; a recording inside a recording; what the device cannot record.
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Step>;

    /// Waits for all steps.
    ///
    /// # Errors
    /// A step that failed.
    fn wait(&self) -> Result<()>;

    /// Seconds of the device's own clock that the steps take which `work` enqueues.
    ///
    /// # Errors
    /// What `work` says; a step that failed.
    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64>;
}

/// A buffer with these values.
///
/// # Errors
/// As [`Gpu::allocate`].
pub fn upload<T: bytemuck::NoUninit>(gpu: &dyn Gpu, values: &[T]) -> Result<Buffer> {
    let buffer = gpu.allocate(size_of_val(values))?;
    gpu.write(&buffer, bytemuck::cast_slice(values))?;
    Ok(buffer)
}

/// The first `count` values of a buffer, after all steps.
///
/// # Errors
/// As [`Gpu::read`].
pub fn download(gpu: &dyn Gpu, buffer: &Buffer, count: usize) -> Result<Vec<f32>> {
    let mut values = vec![0.0; count];
    gpu.read(buffer, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

#[cfg(test)]
pub(crate) mod tests;

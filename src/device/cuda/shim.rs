//! A stand-in for a GPU, for tests and rehearsals: compiles the very same `.cu` files as C++ and runs them on the CPU,
//! block after block, a block's threads as fibers.
//!
//! It reports threads of a block that wait at different places (a divergent barrier), accesses outside
//! a shared array, and writes just outside a buffer. Threads run in ascending order at one launch and in
//! descending order at the next, so that a missing barrier shows.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;
use tempfile::TempDir;

use super::fibers::{Place, State, pause, run_block};
use crate::device::gpu::{
    Buffer, CUDA_HEADER, Gpu, Language, Launch, Limits, Program, Source, Step, backend,
};
use crate::error::{Error, Result};

const SHIM_HEADER: (&str, &str) = ("shim.h", include_str!("../../../cuda/shim.h"));

/// What must lie unchanged on both sides of a buffer, in units of 16 bytes.
const GUARD: u128 = 0x5ca1_be15_ca1b_e15c_a1be_15ca_1be1_5ca1;
const GUARDS: usize = 8;

/// The stand-in: `cuda-shim` on a command line. Its times are no GPU's.
#[derive(Debug)]
pub struct Shim {
    compiler: &'static str,
    folder: TempDir,
    programs: Mutex<HashMap<String, Arc<Compiled>>>,
    launches: Mutex<usize>,
}

/// A buffer's words, guards included.
struct Memory(Mutex<Vec<u128>>);

#[derive(Debug)]
struct Compiled {
    library: Library,
    threads: u32,
    /// The library's state is one for all launches.
    running: Mutex<()>,
}

/// What a step of the stand-in is.
enum Work {
    Launch(Bound),
    Copy { from: Buffer, to: Buffer, bytes: usize },
    Recording(Vec<Step>),
}

struct Bound {
    compiled: Arc<Compiled>,
    name: String,
    grid: [u32; 3],
    buffers: Vec<Buffer>,
    parameters: Vec<u32>,
}

impl Shim {
    /// A stand-in of its own.
    ///
    /// # Errors
    /// No C++ compiler.
    pub fn new() -> Result<Self> {
        let answers = |compiler: &&str| {
            Command::new(compiler).arg("--version").output().is_ok_and(|out| out.status.success())
        };
        let compiler = ["g++", "clang++", "c++"].into_iter().find(answers);
        let compiler = compiler.ok_or_else(|| Error::Unavailable {
            what: "the CUDA shim".into(),
            reason: "none of g++, clang++ and c++ answers".into(),
            remedy: "install a C++ compiler".into(),
        })?;
        let folder = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
        Ok(Self { compiler, folder, programs: Mutex::default(), launches: Mutex::new(0) })
    }

    /// One for all tests of a process, so that each program is compiled once.
    #[cfg(test)]
    pub(crate) fn shared() -> Result<&'static Self> {
        static SHIM: std::sync::OnceLock<Result<Shim>> = std::sync::OnceLock::new();
        SHIM.get_or_init(Self::new).as_ref().map_err(|error| Error::Unavailable {
            what: "the CUDA shim".into(),
            reason: error.to_string(),
            remedy: "install a C++ compiler".into(),
        })
    }

    fn compile(&self, source: &Source<'_>, number: usize) -> Result<Compiled> {
        let folder = self.folder.path().join(number.to_string());
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let file = format!("{}.cu", source.stem);
        let mut main = String::from("#define SCALPEL_SHIM\n");
        for (name, value) in source.all_constants() {
            let _ = writeln!(main, "#define {name} {value}");
        }
        let _ = writeln!(main, "#include \"{file}\"");
        let entry = source.entry;
        let _ = writeln!(main, "extern \"C\" void shim_run(void **a) {{ shim_call({entry}, a); }}");
        for (name, text) in [CUDA_HEADER, SHIM_HEADER, (&file, source.cuda()?), ("main.cpp", &main)]
        {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Error::io("write", path))?;
        }
        let library = folder.join("kernel.so");
        let mut compiler = Command::new(self.compiler);
        compiler.args(["-std=c++17", "-O1", "-fPIC", "-shared", "-fno-exceptions", "-w", "-o"]);
        compiler.arg(&library).arg(folder.join("main.cpp"));
        let output = compiler.output().map_err(Error::io("run", self.compiler))?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::malformed(format!("cuda/{file}"), "a program that compiles", log));
        }
        // SAFETY: the library is ours, and has no initialisers that ask for anything.
        let loaded = unsafe { Library::new(&library) };
        let library = loaded.map_err(|error| {
            Error::malformed(format!("cuda/{file}"), "a library", error.to_string())
        })?;
        Ok(Compiled { library, threads: source.threads, running: Mutex::new(()) })
    }
}

impl Gpu for Shim {
    fn language(&self) -> Language {
        Language::Cuda
    }

    fn name(&self) -> String {
        "CUDA on a CPU".into()
    }

    fn limits(&self) -> Limits {
        Limits {
            // Small, so that splitting is tested.
            buffer_bytes: 1 << 20,
            shared_bytes: 48 << 10,
            threads: 1024,
            grid: 65_535,
            buffers: 16,
            multiprocessors: 4,
            cache_bytes: 0,
            software: true,
        }
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        backend::check_bytes(bytes, &self.limits())?;
        let mut words = vec![0_u128; bytes.div_ceil(16) + 2 * GUARDS];
        let end = words.len() - GUARDS;
        words[..GUARDS].fill(GUARD);
        words[end..].fill(GUARD);
        Ok(Buffer::new(bytes, Memory(Mutex::new(words))))
    }

    fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        backend::check_room(buffer, bytes.len())?;
        let mut words = buffer.memory::<Memory>()?.lock();
        bytemuck::cast_slice_mut(&mut words[GUARDS..])[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        backend::check_room(buffer, bytes.len())?;
        let words = buffer.memory::<Memory>()?.lock();
        bytes.copy_from_slice(&bytemuck::cast_slice(&words[GUARDS..])[..bytes.len()]);
        Ok(())
    }

    fn program(&self, source: &Source<'_>) -> Result<Program> {
        let constants: Vec<_> = source.all_constants().collect();
        let key = format!("{} {} {constants:?}", source.stem, source.entry);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let number = programs.len();
        let compiled = match programs.get(&key) {
            Some(compiled) => Arc::clone(compiled),
            None => {
                let compiled = Arc::new(self.compile(source, number)?);
                programs.insert(key.clone(), Arc::clone(&compiled));
                compiled
            }
        };
        Ok(Program::new((key, compiled)))
    }

    fn prepare(&self, launch: &Launch<'_>) -> Result<Step> {
        backend::check_launch(launch, &self.limits())?;
        let (name, compiled): &(String, Arc<Compiled>) = launch.program.get()?;
        Ok(Step::new(Work::Launch(Bound {
            compiled: Arc::clone(compiled),
            name: name.clone(),
            grid: launch.grid,
            buffers: launch.buffers.iter().map(|&buffer| buffer.clone()).collect(),
            parameters: launch.parameters.to_vec(),
        })))
    }

    fn prepare_copy(&self, from: &Buffer, to: &Buffer, bytes: usize) -> Result<Step> {
        backend::check_copy(from, to, bytes)?;
        Ok(Step::new(Work::Copy { from: from.clone(), to: to.clone(), bytes }))
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Step> {
        Ok(Step::new(Work::Recording(backend::recorded(self, work)?)))
    }

    fn enqueue(&self, step: &Step) -> Result<()> {
        let work: &Work = step.get()?;
        if let Work::Recording(steps) = work {
            return steps.iter().try_for_each(|step| self.enqueue(step));
        }
        if backend::is_recorded(self, step) {
            return Ok(());
        }
        match work {
            Work::Launch(bound) => {
                let descending = {
                    let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
                    *launches += 1;
                    launches.is_multiple_of(2)
                };
                bound.run(descending)
            }
            Work::Copy { from, to, bytes } => {
                let mut through = vec![0; *bytes];
                self.read(from, &mut through)?;
                self.write(to, &through)
            }
            Work::Recording(_) => Ok(()),
        }
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = std::time::Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u128>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bound {
    fn run(&self, descending: bool) -> Result<()> {
        let _running = self.compiled.running.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = |found: String| {
            Error::argument(format!("the kernel {}", self.name), "a sound launch", found)
        };
        let memories =
            self.buffers.iter().map(Buffer::memory::<Memory>).collect::<Result<Vec<_>>>()?;
        // Addresses are taken once and the locks given back: a buffer may be bound twice.
        let addresses: Vec<*mut u128> =
            memories.iter().map(|memory| memory.lock()[GUARDS..].as_mut_ptr()).collect();
        let mut arguments: Vec<*mut c_void> =
            addresses.iter().map(|place| std::ptr::from_ref(place).cast_mut().cast()).collect();
        arguments.push(self.parameters.as_ptr().cast_mut().cast());

        let library = &self.compiled.library;
        // SAFETY: shim.h and the generated main.cpp define these, of these types.
        let (state, run, reset) = unsafe {
            (
                *library.get::<*mut State>(b"shim_state\0").map_err(|e| wrong(e.to_string()))?,
                *library
                    .get::<extern "C" fn(*mut *mut c_void)>(b"shim_run\0")
                    .map_err(|e| wrong(e.to_string()))?,
                *library
                    .get::<extern "C" fn()>(b"shim_reset\0")
                    .map_err(|e| wrong(e.to_string()))?,
            )
        };
        let [x, y, z] = self.grid;
        let blocks =
            (0..z).flat_map(|z| (0..y).flat_map(move |y| (0..x).map(move |x| Place { x, y, z })));
        for block in blocks {
            // SAFETY: nobody else uses the library's state while `running` is held.
            unsafe {
                (*state).block = block;
                (*state).threads = Place { x: self.compiled.threads, y: 1, z: 1 };
                (*state).blocks = Place { x, y, z };
                (*state).serial = (*state).serial.wrapping_add(1);
                (*state).pause = pause;
            }
            reset();
            run_block(state, run, arguments.as_mut_ptr(), self.compiled.threads, descending)
                .map_err(wrong)?;
        }
        for (index, memory) in memories.iter().enumerate() {
            let words = memory.lock();
            let guards = words[..GUARDS].iter().chain(&words[words.len() - GUARDS..]);
            if guards.into_iter().any(|&word| word != GUARD) {
                return Err(wrong(format!("a write outside buffer {index}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::gpu::{download, upload};
    use crate::test_support;

    const SOURCE: &str = r#"
        #include "shared.cuh"
        struct Params { u32 count; };
        extern "C" __global__ void rotate(const float *x, float *y, Params p) {
            SHARED(float, tile, THREADS);
            const u32 place = blockIdx.x * THREADS + threadIdx.x;
            tile[threadIdx.x] = x[place];
            if (BARRIER && (BARRIER == 1 || threadIdx.x > 0)) __syncthreads();
            const float other = tile[(threadIdx.x + p.count) % BOUND];
            y[place + OUTSIDE] = warp_sum(other);
        }
    "#;

    fn rotate(barrier: u32, bound: u32, outside: u32) -> Result<Vec<f32>> {
        let shim = Shim::shared()?;
        let constants = [("BARRIER", barrier), ("BOUND", bound), ("OUTSIDE", outside)];
        let source = Source {
            stem: "rotate",
            cuda: Some(SOURCE),
            wgsl: None,
            entry: "rotate",
            constants: &constants,
            threads: 64,
        };
        let program = shim.program(&source)?;
        let x: Vec<f32> = (0..128).map(|value| value as f32).collect();
        let (x, y) = (upload(shim, &x)?, shim.allocate(128 * 4)?);
        let buffers = [&x, &y];
        let launch =
            Launch { program: &program, grid: [2, 1, 1], buffers: &buffers, parameters: &[32] };
        shim.enqueue(&shim.prepare(&launch)?)?;
        download(shim, &y, 128)
    }

    #[test]
    fn threads_wait_for_each_other_and_what_they_do_wrong_is_told() {
        if let Err(error) = Shim::shared() {
            return test_support::skip("cuda-shim", &error.to_string());
        }
        for _ in 0..2 {
            let y = rotate(1, 64, 0).unwrap();
            // Each warp sums the other warp's values of its block.
            let sum = |first: usize| (first..first + 32).sum::<usize>() as f32;
            assert_eq!([y[0], y[32], y[64], y[127]], [sum(32), sum(0), sum(96), sum(64)]);
        }
        let error =
            |barrier, bound, outside| rotate(barrier, bound, outside).unwrap_err().to_string();
        assert!(error(2, 64, 0).contains("a divergent barrier"), "{}", error(2, 64, 0));
        assert!(error(1, 1000, 0).contains("shared array tile of 64: an access out of bounds: 64"));
        assert!(error(1, 64, 1).contains("a write outside buffer 1"), "{}", error(1, 64, 1));
        // Without a barrier, one of the two orders reads what was not written yet.
        assert!((0..2).any(|_| rotate(0, 64, 0).unwrap().iter().any(|value| value.is_nan())));
    }
}

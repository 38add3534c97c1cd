//! GPUs of any maker, through Vulkan, Metal or Direct3D 12.
//!
//! Steps are collected and handed over in one compute pass when somebody waits, reads or asks for the
//! time. Validation errors and lost devices are errors, never panics.

mod open;
mod timestamps;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wgpu::util::DeviceExt as _;

use self::timestamps::Timestamps;
use crate::device::gpu::{Buffer, Gpu, Language, Launch, Limits, Program, Source, Step, backend};
use crate::error::{Error, Result};

/// The variable that chooses an adapter by a part of its name.
pub const VARIABLE: &str = "SCALPEL_WGPU_ADAPTER";

/// The variable that makes every shader check its indices at run time, for debugging: `1`.
pub const CHECKED: &str = "SCALPEL_WGPU_CHECKED";

fn runtime_checks() -> wgpu::ShaderRuntimeChecks {
    if std::env::var(CHECKED).is_ok_and(|value| value == "1") {
        wgpu::ShaderRuntimeChecks::checked()
    } else {
        wgpu::ShaderRuntimeChecks::unchecked()
    }
}

/// Steps that are handed over at the latest.
const PENDING: usize = 256;

/// An adapter and its device.
#[derive(Debug)]
pub struct Wgpu {
    info: wgpu::AdapterInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: Limits,
    checks: wgpu::ShaderRuntimeChecks,
    timestamps: Option<Timestamps>,
    pipelines: Mutex<HashMap<String, Compiled>>,
    pending: Mutex<Vec<Arc<Work>>>,
    /// The buffer of the last read, to read through again.
    staging: Mutex<Option<wgpu::Buffer>>,
    /// What went wrong outside of a checked call.
    uncaptured: Arc<Mutex<Option<String>>>,
}

#[derive(Clone, Debug)]
struct Compiled {
    pipeline: wgpu::ComputePipeline,
    entry: &'static str,
}

/// What a step of wgpu is.
#[derive(Debug)]
enum Work {
    Launch(Bound),
    Copy { from: wgpu::Buffer, to: wgpu::Buffer, bytes: u64 },
}

/// What a step is made of: what it does, or the steps that it replays.
#[derive(Debug)]
enum Made {
    Work(Arc<Work>),
    Recording(Vec<Step>),
}

#[derive(Debug)]
struct Bound {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: [u32; 3],
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wgpu {
    /// One for all tests of a process.
    #[cfg(test)]
    pub(crate) fn shared() -> Result<&'static Self> {
        static GPU: std::sync::OnceLock<Result<Wgpu>> = std::sync::OnceLock::new();
        GPU.get_or_init(Self::new).as_ref().map_err(|error| Error::Unavailable {
            what: "a GPU for wgpu".into(),
            reason: error.to_string(),
            remedy: "install a Vulkan driver".into(),
        })
    }

    /// Runs `work` and gives what the validation layer said about it, if anything.
    fn checked<T>(&self, operation: &str, work: impl FnOnce() -> T) -> Result<T> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let done = work();
        let memory = pollster::block_on(memory.pop());
        let validation = pollster::block_on(validation.pop());
        match memory.or(validation) {
            None => Ok(done),
            Some(error) => Err(self.refused(operation, error)),
        }
    }

    fn refused(&self, operation: &str, reason: impl std::fmt::Display) -> Error {
        let what = format!("{}, asked to {operation}", self.info.name);
        Error::argument(what, "success", reason.to_string())
    }

    /// Hands all pending steps over.
    fn flush(&self) -> Result<()> {
        // Held until they are handed over: a thread that finds no steps may rely on its own being on the
        // way, whoever took them.
        let mut pending = locked(&self.pending);
        let steps = std::mem::take(&mut *pending);
        if !steps.is_empty() {
            self.submit(&steps)?;
        }
        drop(pending);
        self.unharmed()
    }

    /// Hands steps over at once, neighbouring launches in one compute pass.
    fn submit(&self, steps: &[Arc<Work>]) -> Result<()> {
        self.checked("run kernels", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let is_copy = |step: &Arc<Work>| matches!(**step, Work::Copy { .. });
            for steps in steps.chunk_by(|a, b| is_copy(a) == is_copy(b)) {
                let mut pass = None;
                for step in steps {
                    match &**step {
                        Work::Copy { from, to, bytes } => {
                            encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(*bytes));
                        }
                        Work::Launch(Bound { pipeline, group, grid: [x, y, z] }) => {
                            let pass = pass.get_or_insert_with(|| {
                                encoder.begin_compute_pass(&Default::default()).forget_lifetime()
                            });
                            pass.set_pipeline(pipeline);
                            pass.set_bind_group(0, group, &[]);
                            pass.dispatch_workgroups(*x, *y, *z);
                        }
                    }
                }
            }
            self.queue.submit([encoder.finish()]);
        })
    }

    fn unharmed(&self) -> Result<()> {
        match locked(&self.uncaptured).take() {
            None => Ok(()),
            Some(reason) => Err(self.refused("run kernels", reason)),
        }
    }

    fn poll(&self) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        polled.map(|_| ()).map_err(|error| self.refused("finish its work", error))
    }

    /// Copies from a buffer of the device, through one that the host can map.
    fn copy_out(&self, from: &wgpu::Buffer, bytes: &mut [u8]) -> Result<()> {
        let size = (bytes.len() as u64).next_multiple_of(4);
        let kept = locked(&self.staging).take().filter(|buffer| buffer.size() >= size);
        let copied = self.checked("copy from it", || {
            let through = kept.unwrap_or_else(|| {
                self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            });
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(from, 0, &through, 0, Some(size));
            self.queue.submit([encoder.finish()]);
            through.map_async(wgpu::MapMode::Read, 0..size, |_| ());
            through
        });
        let through = copied?;
        self.poll()?;
        {
            let mapped = through.get_mapped_range(0..size);
            let mapped = mapped.map_err(|error| self.refused("copy from it", error))?;
            bytes.copy_from_slice(&mapped[..bytes.len()]);
        }
        through.unmap();
        *locked(&self.staging) = Some(through);
        Ok(())
    }
}

impl Gpu for Wgpu {
    fn language(&self) -> Language {
        Language::Wgsl
    }

    fn name(&self) -> String {
        let wgpu::AdapterInfo { name, backend, driver_info, .. } = &self.info;
        format!("{name} ({backend:?}, {driver_info})")
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        backend::check_bytes(bytes, &self.limits)?;
        let size = (bytes as u64).next_multiple_of(16).max(16);
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let operation = format!("allocate {bytes} bytes");
        let buffer = self.checked(&operation, || self.device.create_buffer(&descriptor))?;
        Ok(Buffer::new(bytes, buffer))
    }

    fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        backend::check_room(buffer, bytes.len())?;
        let to: &wgpu::Buffer = buffer.memory()?;
        // What was enqueued before must not see the new bytes.
        self.flush()?;
        let whole = bytes.len() / 4 * 4;
        self.checked("copy to it", || {
            self.queue.write_buffer(to, 0, &bytes[..whole]);
            if whole < bytes.len() {
                let mut last = [0; 4];
                last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.queue.write_buffer(to, whole as u64, &last);
            }
        })
    }

    fn read(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        backend::check_room(buffer, bytes.len())?;
        self.flush()?;
        if bytes.is_empty() {
            return self.poll();
        }
        self.copy_out(buffer.memory()?, bytes)
    }

    fn program(&self, source: &Source<'_>) -> Result<Program> {
        let text = source.wgsl()?;
        let key = format!("{}\n{text}", source.entry);
        let mut pipelines = locked(&self.pipelines);
        if let Some(compiled) = pipelines.get(&key) {
            return Ok(Program::new(compiled.clone()));
        }
        let what = format!("compile shaders/{}.wgsl, {}", source.stem, source.entry);
        let pipeline = self.checked(&what, || {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(source.stem),
                source: wgpu::ShaderSource::Wgsl(text.into()),
            };
            // SAFETY: the shaders are ours, and the same kernels run in CUDA C++ without such checks: their
            // loops end, they divide by sizes that the host has seen not to be 0, and every index stays below
            // what `Packed::bind` has seen the buffers to hold. The suite runs each of them, in CUDA C++ also
            // with guards around every buffer and every shared array.
            let module =
                unsafe { self.device.create_shader_module_trusted(descriptor, self.checks) };
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(source.entry),
                layout: None,
                module: &module,
                entry_point: Some(source.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // No kernel reads what no thread of its workgroup has written.
                    zero_initialize_workgroup_memory: self.checks.bounds_checks,
                    ..Default::default()
                },
                cache: None,
            })
        })?;
        let compiled = Compiled { pipeline, entry: source.entry };
        pipelines.insert(key, compiled.clone());
        Ok(Program::new(compiled))
    }

    fn prepare(&self, launch: &Launch<'_>) -> Result<Step> {
        backend::check_launch(launch, &self.limits)?;
        let compiled: &Compiled = launch.program.get()?;
        // A uniform's size is a multiple of 16 bytes.
        let mut parameters = launch.parameters.to_vec();
        parameters.resize(parameters.len().next_multiple_of(4), 0);
        let buffers: Vec<&wgpu::Buffer> =
            launch.buffers.iter().map(|buffer| buffer.memory()).collect::<Result<_>>()?;
        let group = self.checked(&format!("bind {}", compiled.entry), || {
            let uniform = self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: bytemuck::cast_slice(&parameters),
                usage: wgpu::BufferUsages::UNIFORM,
            });
            let bindings = buffers.into_iter().chain([&uniform]).zip(0..);
            let entries: Vec<_> = bindings
                .map(|(buffer, binding)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffer.as_entire_binding(),
                })
                .collect();
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &compiled.pipeline.get_bind_group_layout(0),
                entries: &entries,
            })
        })?;
        let pipeline = compiled.pipeline.clone();
        let bound = Bound { pipeline, group, grid: launch.grid };
        Ok(Step::new(Made::Work(Arc::new(Work::Launch(bound)))))
    }

    fn prepare_copy(&self, from: &Buffer, to: &Buffer, bytes: usize) -> Result<Step> {
        backend::check_copy(from, to, bytes)?;
        let (from, to): (&wgpu::Buffer, &wgpu::Buffer) = (from.memory()?, to.memory()?);
        // Copies are of whole words, which every buffer ends with.
        let bytes = (bytes as u64).next_multiple_of(4);
        let copy = Work::Copy { from: from.clone(), to: to.clone(), bytes };
        Ok(Step::new(Made::Work(Arc::new(copy))))
    }

    fn enqueue(&self, step: &Step) -> Result<()> {
        let work = match step.get()? {
            Made::Work(work) => work,
            Made::Recording(steps) => return steps.iter().try_for_each(|step| self.enqueue(step)),
        };
        let nothing = match &**work {
            Work::Launch(bound) => bound.grid.contains(&0),
            Work::Copy { bytes, .. } => *bytes == 0,
        };
        if nothing || backend::is_recorded(self, step) {
            return Ok(());
        }
        let full = {
            let mut pending = locked(&self.pending);
            pending.push(Arc::clone(work));
            pending.len() >= PENDING
        };
        if full { self.flush() } else { Ok(()) }
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Step> {
        Ok(Step::new(Made::Recording(backend::recorded(self, work)?)))
    }

    fn wait(&self) -> Result<()> {
        self.flush()?;
        self.poll()
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.wait()?;
        let Some(timestamps) = &self.timestamps else {
            let start = std::time::Instant::now();
            work()?;
            self.wait()?;
            return Ok(start.elapsed().as_secs_f64());
        };
        // Passes of their own, since the steps may be handed over in several.
        self.note(timestamps, 0)?;
        work()?;
        self.flush()?;
        self.note(timestamps, 1)?;
        let mut ticks = [0_u64; 2];
        self.checked("tell the time", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.resolve_query_set(&timestamps.queries, 0..2, &timestamps.resolved, 0);
            self.queue.submit([encoder.finish()]);
        })?;
        self.copy_out(&timestamps.resolved, bytemuck::cast_slice_mut(&mut ticks))?;
        let period = f64::from(self.queue.get_timestamp_period());
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * period * 1e-9)
    }
}

#[cfg(test)]
mod tests;

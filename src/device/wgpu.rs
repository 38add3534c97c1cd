//! GPUs of any maker, through Vulkan, Metal or Direct3D 12.
//!
//! Steps are collected and handed over in one compute pass when somebody waits, reads or asks for the
//! time. Validation errors and lost devices are errors, never panics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wgpu::util::DeviceExt as _;

use super::gpu::{self, Buffer, Gpu, Language, Launch, Limits, Program, Source, Step};
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

#[derive(Debug)]
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
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
    /// The adapter that [`VARIABLE`] names, else the fastest.
    ///
    /// # Errors
    /// There is none, or none of that name.
    pub fn new() -> Result<Self> {
        let wanted = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        Self::with(wanted.as_deref())
    }

    /// The first adapter whose name contains `wanted`; the fastest, if that is `None`.
    ///
    /// # Errors
    /// There is none, or none of that name.
    pub fn with(wanted: Option<&str>) -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            _ => 3,
        };
        adapters.sort_by_key(rank);
        let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
        let fits = |adapter: &wgpu::Adapter| {
            let name = adapter.get_info().name.to_lowercase();
            wanted.is_none_or(|wanted| name.contains(&wanted.to_lowercase()))
        };
        let adapter = adapters.into_iter().find(fits).ok_or_else(|| Error::Unavailable {
            what: wanted.map_or("a GPU".into(), |name| format!("a GPU named {name}")),
            reason: match &names[..] {
                [] => "no Vulkan, Metal or Direct3D 12 driver shows one".into(),
                names => format!("there are only: {}", names.join(", ")),
            },
            remedy: format!(
                "install the GPU's Vulkan driver (Mesa's software one serves for tests: Debian's \
                 mesa-vulkan-drivers), or choose with {VARIABLE}"
            ),
        })?;
        Self::open(&adapter)
    }

    fn open(adapter: &wgpu::Adapter) -> Result<Self> {
        let has = adapter.limits();
        let timed = wgpu::Features::TIMESTAMP_QUERY & adapter.features();
        // All that the adapter has is asked for: what a launch needs is checked against it before use.
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("scalpel"),
            required_features: timed,
            required_limits: has.clone(),
            ..Default::default()
        };
        let info = adapter.get_info();
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| {
                Error::Unavailable {
                    what: info.name.clone(),
                    reason: error.to_string(),
                    remedy: format!("choose another adapter with {VARIABLE}"),
                }
            })?;
        let uncaptured = Arc::new(Mutex::new(None));
        let told = Arc::clone(&uncaptured);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            locked(&told).get_or_insert(error.to_string());
        }));
        // No API of wgpu's tells; of an NVIDIA GPU its own driver does. Else usual sizes.
        let told = super::cuda::sizes_of(&info.device_pci_bus_id);
        let guessed = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => (64, 64 << 20),
            wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu => (16, 16 << 20),
            _ => (8, 0),
        };
        let bound = has.max_storage_buffer_binding_size.min(has.max_buffer_size);
        let limits = Limits {
            // Sizes are counted in 32 bits by the shaders.
            buffer_bytes: usize::try_from(bound).unwrap_or(usize::MAX).min(4 * (u32::MAX as usize)),
            shared_bytes: has.max_compute_workgroup_storage_size as usize,
            threads: has
                .max_compute_invocations_per_workgroup
                .min(has.max_compute_workgroup_size_x),
            grid: has.max_compute_workgroups_per_dimension,
            buffers: has.max_storage_buffers_per_shader_stage,
            multiprocessors: told.map_or(guessed.0, |told| told.multiprocessors),
            cache_bytes: told.map_or(guessed.1, |told| told.cache_bytes),
            software: info.device_type == wgpu::DeviceType::Cpu,
        };
        let timestamps = (!timed.is_empty()).then(|| Timestamps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 256,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
        });
        Ok(Self {
            info,
            device,
            queue,
            limits,
            checks: runtime_checks(),
            timestamps,
            pipelines: Mutex::default(),
            pending: Mutex::default(),
            staging: Mutex::default(),
            uncaptured,
        })
    }

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

    /// Notes the device's time, after all that was handed over, by an empty pass.
    fn note(&self, timestamps: &Timestamps, place: u32) -> Result<()> {
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &timestamps.queries,
            beginning_of_pass_write_index: None,
            end_of_pass_write_index: Some(place),
        };
        self.checked("note the time", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(writes),
            }));
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
        gpu::check_bytes(bytes, &self.limits)?;
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
        gpu::check_room(buffer, bytes.len())?;
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
        gpu::check_room(buffer, bytes.len())?;
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
        gpu::check_launch(launch, &self.limits)?;
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
        gpu::check_copy(from, to, bytes)?;
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
        if nothing || gpu::is_recorded(self, step) {
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
        Ok(Step::new(Made::Recording(gpu::recorded(self, work)?)))
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
mod tests {
    use super::*;
    use crate::test_support;

    fn source(wgsl: &'static str) -> Source<'static> {
        Source {
            stem: "test",
            cuda: None,
            wgsl: Some(wgsl),
            entry: "main",
            constants: &[],
            threads: 1,
        }
    }

    const DOUBLE: &str = "
        @group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @group(0) @binding(1) var<uniform> factor: vec4<u32>;
        @compute @workgroup_size(THREADS)
        fn main(@builtin(workgroup_id) block: vec3<u32>) {
            y[block.x] *= f32(factor.x);
        }";

    #[test]
    fn what_a_driver_refuses_is_an_error_and_what_follows_runs() {
        let gpu = match Wgpu::shared() {
            Ok(gpu) => gpu,
            Err(error) => return test_support::skip("wgpu", &error.to_string()),
        };
        let error = gpu.program(&source("fn main() {")).unwrap_err().to_string();
        assert!(error.contains("compile shaders/test.wgsl"), "{error}");
        let limits = gpu.limits();
        let error = gpu.allocate(limits.buffer_bytes + 1).unwrap_err().to_string();
        assert!(error.contains("as the device binds"), "{error}");

        let program = gpu.program(&source(DOUBLE)).unwrap();
        let y = gpu::upload(gpu, &[1.0_f32, 2.0, 3.0]).unwrap();
        let launch = |buffers: &[&Buffer], grid| {
            gpu.prepare(&Launch { program: &program, grid, buffers, parameters: &[2] })
        };
        assert!(launch(&[&y], [limits.grid + 1, 1, 1]).is_err());
        assert!(launch(&[&y, &y], [1, 1, 1]).is_err(), "a buffer too many");
        let step = launch(&[&y], [3, 1, 1]).unwrap();
        let seconds = gpu.time(&mut || {
            gpu.enqueue(&step)?;
            gpu.enqueue(&step)
        });
        assert!(seconds.unwrap() > 0.0);
        gpu.enqueue(&launch(&[&y], [0, 1, 1]).unwrap()).unwrap();
        assert_eq!(gpu::download(gpu, &y, 3).unwrap(), [4.0, 8.0, 12.0]);
        assert!(gpu::download(gpu, &y, 5).is_err());
    }

    #[test]
    fn steps_that_are_handed_over_in_several_passes_are_all_timed() {
        let gpu = match Wgpu::shared() {
            Ok(gpu) => gpu,
            Err(error) => return test_support::skip("wgpu", &error.to_string()),
        };
        let program = gpu.program(&source(DOUBLE)).unwrap();
        let y = gpu::upload(gpu, &vec![0.0_f32; 20_000]).unwrap();
        let buffers = [&y];
        let launch =
            Launch { program: &program, grid: [20_000, 1, 1], buffers: &buffers, parameters: &[2] };
        let step = gpu.prepare(&launch).unwrap();
        let time = |steps: usize| {
            gpu.time(&mut || (0..steps).try_for_each(|_| gpu.enqueue(&step))).unwrap()
        };
        time(1);
        // Other tests share the device: the best of three is its own.
        let few = (0..3).map(|_| time(PENDING / 4)).fold(f64::INFINITY, f64::min);
        let many = time(4 * PENDING - 20);
        // Fifteen times the work; of the last pass alone it would be less than four times.
        assert!(many > 6.0 * few, "{few} s and {many} s");
    }

    #[test]
    fn threads_that_share_a_device_see_their_own_steps_done() {
        let gpu = match Wgpu::shared() {
            Ok(gpu) => gpu,
            Err(error) => return test_support::skip("wgpu", &error.to_string()),
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let program = gpu.program(&source(DOUBLE)).unwrap();
                    for _ in 0..50 {
                        let y = gpu::upload(gpu, &[1.0_f32, 2.0]).unwrap();
                        let buffers = [&y];
                        let launch = Launch {
                            program: &program,
                            grid: [2, 1, 1],
                            buffers: &buffers,
                            parameters: &[2],
                        };
                        // Many steps, so that handing them over takes a while.
                        let step = gpu.prepare(&launch).unwrap();
                        (0..40).for_each(|_| gpu.enqueue(&step).unwrap());
                        let doubled = 2.0_f32.powi(40);
                        assert_eq!(gpu::download(gpu, &y, 2).unwrap(), [doubled, 2.0 * doubled]);
                    }
                });
            }
        });
    }

    #[test]
    fn an_adapter_that_is_not_there_is_named() {
        let error = Wgpu::with(Some("no such adapter")).unwrap_err().to_string();
        assert!(error.contains("named no such adapter") && error.contains(VARIABLE), "{error}");
    }
}

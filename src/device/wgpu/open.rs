//! From an adapter's name to a device: what it bears, and how that was found out.

use std::sync::{Arc, Mutex};

use super::timestamps::Timestamps;
use super::{VARIABLE, Wgpu, locked, runtime_checks};
use crate::device::gpu::Limits;
use crate::error::{Error, Result};

/// Multiprocessors of an NVIDIA GPU and bytes of its L2 cache.
#[cfg(feature = "cuda")]
fn told_by_cuda(info: &wgpu::AdapterInfo) -> Option<(u32, usize)> {
    let sizes = crate::device::cuda::sizes_of(&info.device_pci_bus_id)?;
    Some((sizes.multiprocessors, sizes.cache_bytes))
}

/// Nothing: this program was built without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
fn told_by_cuda(_: &wgpu::AdapterInfo) -> Option<(u32, usize)> {
    None
}

/// What an adapter bears.
fn limits_of(has: &wgpu::Limits, info: &wgpu::AdapterInfo) -> Limits {
    // No API of wgpu's tells; of an NVIDIA GPU its own driver does. Else usual sizes.
    let guessed = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => (64, 64 << 20),
        wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu => (16, 16 << 20),
        _ => (8, 0),
    };
    let (multiprocessors, cache_bytes) = told_by_cuda(info).unwrap_or(guessed);
    let bound = has.max_storage_buffer_binding_size.min(has.max_buffer_size);
    Limits {
        // Sizes are counted in 32 bits by the shaders.
        buffer_bytes: usize::try_from(bound).unwrap_or(usize::MAX).min(4 * (u32::MAX as usize)),
        shared_bytes: has.max_compute_workgroup_storage_size as usize,
        threads: has.max_compute_invocations_per_workgroup.min(has.max_compute_workgroup_size_x),
        grid: has.max_compute_workgroups_per_dimension,
        buffers: has.max_storage_buffers_per_shader_stage,
        multiprocessors,
        cache_bytes,
        software: info.device_type == wgpu::DeviceType::Cpu,
    }
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
        let limits = limits_of(&has, &info);
        let timestamps = (!timed.is_empty()).then(|| Timestamps::new(&device));
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
}

//! Times by the GPU's own clock.

use super::Wgpu;
use crate::error::Result;

/// Two times of the GPU, and where they can be read from.
#[derive(Debug)]
pub(super) struct Timestamps {
    pub queries: wgpu::QuerySet,
    pub resolved: wgpu::Buffer,
}

impl Timestamps {
    pub fn new(device: &wgpu::Device) -> Self {
        Self {
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
        }
    }
}

impl Wgpu {
    /// Notes the device's time, after all that was handed over, by an empty pass.
    pub(super) fn note(&self, timestamps: &Timestamps, place: u32) -> Result<()> {
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
}

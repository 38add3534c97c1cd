//! What this machine has to run kernels on, or why it has it not.
//!
//! A CPU is its instruction sets ([`cpu`]). A GPU is a [`Gpu`](gpu::Gpu), whether it is driven through
//! CUDA ([`cuda`]) or through Vulkan, Metal or Direct3D ([`wgpu`]): the host side of a kernel is written
//! once for all of them. [`class`] says what kind of hardware the paper would call it.

pub mod class;
pub mod cpu;
pub mod cuda;
#[cfg(test)]
pub(crate) mod dry;
pub mod gpu;
pub mod wgpu;

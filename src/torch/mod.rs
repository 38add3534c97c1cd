//! What training and the baseline share of libtorch: tensors by parameter name, the forward pass of a network
//! ([`forward()`]), a network ready to run ([`TorchNetwork`]), devices and memory formats.

mod device;
mod dropout;
mod forward;
pub mod memory;
mod memory_format;
mod network;

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use tch::{Device, Kind, Tensor};

pub use device::device;
pub use forward::{Mode, forward};
pub use memory_format::MemoryFormat;
pub use network::TorchNetwork;

use crate::error::{Error, Result};

/// Tensors by the authors' parameter names.
pub type Tensors = BTreeMap<String, Tensor>;

/// Copies an array to `device`.
pub fn to_tensor(array: &ArrayD<f32>, device: Device) -> Result<Tensor> {
    let values: Vec<f32> = array.iter().copied().collect();
    let shape: Vec<i64> = array.shape().iter().map(|&length| length as i64).collect();
    let copy = || Tensor::f_from_slice(&values)?.f_reshape(&shape)?.f_to_device(device);
    copy().map_err(Error::torch("copy an array"))
}

/// Copies a tensor to the host, as f32.
pub fn to_array(tensor: &Tensor) -> Result<ArrayD<f32>> {
    let shape: Vec<usize> = tensor.size().iter().map(|&length| length as usize).collect();
    let mut values = vec![0_f32; tensor.numel()];
    let mut copy = || {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        tensor.f_contiguous()?.f_copy_data(&mut values, tensor.numel())
    };
    copy().map_err(Error::torch("copy a tensor to the host"))?;
    ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|error| {
        Error::argument("copy a tensor", "as many values as its shape", error.to_string())
    })
}

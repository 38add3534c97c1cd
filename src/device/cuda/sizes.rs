//! What the driver tells of a GPU without running anything on it.

use cudarc::driver::result;
use cudarc::driver::sys::CUdevice_attribute;

use super::driver;

/// Of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Its multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its L2 cache.
    pub cache_bytes: usize,
}

/// The sizes of the NVIDIA GPU at a PCI address such as `0000:3b:00.0`; none where there is no such GPU, or
/// no driver.
pub fn sizes_of(pci: &str) -> Option<Sizes> {
    let pci = std::ffi::CString::new(pci).ok().filter(|pci| !pci.is_empty())?;
    driver().ok()?;
    result::init().ok()?;
    let mut device = 0;
    // SAFETY: the driver is there and initialised; the string ends with 0.
    let found =
        unsafe { cudarc::driver::sys::cuDeviceGetByPCIBusId(&raw mut device, pci.as_ptr()) };
    found.result().ok()?;
    // SAFETY: the driver has just named the device.
    let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    let multiprocessors =
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).ok()?;
    let cache = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).ok()?;
    Some(Sizes { multiprocessors: multiprocessors as u32, cache_bytes: cache as usize })
}

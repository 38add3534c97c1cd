use super::*;
use crate::test_support;

/// The devices that kernels are tested on: those that `SCALPEL_TEST_DEVICES` lists, else all. Those that
/// are absent are reported.
pub(crate) fn devices() -> Vec<&'static dyn Gpu> {
    #[cfg(feature = "cuda")]
    use crate::device::cuda::{Cuda, shim::Shim};
    #[cfg(feature = "wgpu")]
    use crate::device::wgpu::Wgpu;

    #[cfg(feature = "cuda")]
    static CUDA: std::sync::OnceLock<Result<Cuda>> = std::sync::OnceLock::new();
    let wanted = std::env::var("SCALPEL_TEST_DEVICES").unwrap_or("cuda-shim,wgpu,cuda".into());
    let mut devices: Vec<&'static dyn Gpu> = Vec::new();
    for name in wanted.split(',') {
        let found: Result<&'static dyn Gpu, String> = match name {
            #[cfg(not(feature = "cuda"))]
            "cuda-shim" | "cuda" => Err("built without the feature `cuda`".into()),
            #[cfg(feature = "cuda")]
            "cuda-shim" => Shim::shared().map(|gpu| gpu as _).map_err(|e| e.to_string()),
            #[cfg(not(feature = "wgpu"))]
            "wgpu" => Err("built without the feature `wgpu`".into()),
            #[cfg(feature = "wgpu")]
            "wgpu" => Wgpu::shared().map(|gpu| gpu as _).map_err(|e| e.to_string()),
            #[cfg(feature = "cuda")]
            "cuda" => {
                let gpu = CUDA.get_or_init(|| Cuda::new(0)).as_ref();
                gpu.map(|gpu| gpu as _).map_err(|e| e.to_string())
            }
            other => panic!("SCALPEL_TEST_DEVICES: {other} is none of cuda-shim, wgpu and cuda"),
        };
        match found {
            Ok(gpu) => devices.push(gpu),
            Err(reason) => test_support::skip(name, &reason),
        }
    }
    devices
}

#[test]
fn operands_know_their_extent() {
    // A 3x3 image in a map of pitch 5, every second pixel of every second row.
    let columns = ColumnLayout { width: 2, kept: 2, line_stride: 10, stride: 2 };
    let operand = Operand { rows: vec![0, 25], columns, image: 50 };
    assert_eq!(operand.floats(4, 2).unwrap(), 50 + 25 + 10 + 2 + 1);
    assert_eq!(operand.floats(0, 2).unwrap(), 0);
    assert!(!operand.is_vectors(4));
    assert!(Operand::plain(3, 8).is_vectors(8) && !Operand::plain(3, 6).is_vectors(6));
    let far = Operand { image: u32::MAX, ..operand };
    assert!(far.floats(4, 3).is_err());
}

#[test]
fn weights_larger_than_a_buffer_are_split() {
    let gpu = crate::device::compile_only::CompileOnly::new(Language::Cuda, |_| Ok(String::new()));
    let limit = gpu.limits().buffer_bytes;
    let found = panels("test", 5, |_| limit / 2, &gpu).unwrap();
    assert_eq!(found, [0..2, 2..4, 4..5]);
    assert_eq!(panels("test", 0, |_| 1, &gpu).unwrap().len(), 1, "a launch of no rows");
    assert!(panels("test", 1, |_| limit + 1, &gpu).is_err());
}

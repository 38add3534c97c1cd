//! Which layers other libraries take.

use super::*;
use crate::kernels::convolution::ConvLibrary;
use crate::kernels::convolution::library::tests::{Instant, LoopsConv};
use crate::kernels::library_gemm::{
    DenseLibrary, LibraryGemm,
    tests::{Answering, Loops},
};

#[test]
fn a_library_that_is_slower_than_our_kernels_is_not_taken() {
    let Pruned { network, weights, masks, .. } = Pruned::new(zoo::lenet_300_100());
    let library: Arc<dyn DenseLibrary> = Arc::new(Loops);
    let request = Request {
        network: &network,
        weights: &weights,
        masks: &masks,
        policy: Policy::Dense,
        group_width: 8,
        batch: 16,
        libraries: DenseLibraries {
            products: std::slice::from_ref(&library),
            ..DenseLibraries::default()
        },
    };
    let mut executable = compile(&request, Device::Cpu, &mut AutotuneCache::in_memory()).unwrap();
    let steps = executable.profile().unwrap();
    assert!(steps.iter().all(|step| !step.kernel.starts_with(LibraryGemm::NAME)), "{steps:?}");
}

#[test]
fn a_library_that_is_faster_takes_dense_layers_and_convolutions_and_is_named() {
    let mut network = zoo::lenet_300_100();
    network.input = [64, 16, 16];
    let conv = Conv { outputs: 256, kernel: 1, stride: 1, padding: 0, groups: Groups::Even(1) };
    let layers = [
        Layer { name: "conv".into(), op: Op::Conv(conv) },
        Layer { name: "ip".into(), op: Op::Linear(Linear { outputs: 10 }) },
    ];
    network.layers = layers.into();
    let weights = Weights::random(&network, 1).unwrap();
    let libraries: [Arc<dyn DenseLibrary>; 1] = [Arc::new(Answering(|| Ok(())))];
    let request = Request {
        policy: Policy::Dense,
        batch: 16,
        libraries: DenseLibraries { products: &libraries, ..DenseLibraries::default() },
        ..Request::new(&network, &weights)
    };
    let mut executable = compile(&request, Device::Cpu, &mut AutotuneCache::in_memory()).unwrap();
    let steps = executable.profile().unwrap();
    let layers: Vec<&str> = steps.iter().map(|step| step.layer.as_str()).collect();
    assert_eq!(layers, ["conv", "ip input", "ip", "scores"], "transpositions are steps, too");
    let steps = steps.into_iter().filter(|step| step.density.is_some());
    let kernels: Vec<String> = steps.map(|step| step.kernel).collect();
    assert_eq!(kernels, ["masked_dense_f32_library (answering)"; 2]);
}

#[test]
fn a_library_whose_convolutions_are_faster_takes_them_and_one_that_is_slower_does_not() {
    let Pruned { network, weights, .. } = Pruned::new(zoo::lenet_5());
    let taken = |library: Arc<dyn ConvLibrary>| -> Vec<bool> {
        let libraries = [library];
        let request = Request {
            policy: Policy::Dense,
            batch: 2,
            libraries: DenseLibraries { convolutions: &libraries, ..DenseLibraries::default() },
            ..Request::new(&network, &weights)
        };
        let mut executable =
            compile(&request, Device::Cpu, &mut AutotuneCache::in_memory()).unwrap();
        let steps = executable.profile().unwrap();
        let convolutions = steps.iter().filter(|step| step.layer.starts_with("conv"));
        convolutions.map(|step| step.kernel.starts_with("convolution_f32_library (")).collect()
    };
    assert_eq!(taken(Arc::new(Instant)), [true, true]);
    assert_eq!(taken(Arc::new(LoopsConv)), [false, false]);
}

//! One batch through a network in libtorch: dense, masked, and compacted to the nodes that the authors
//! kept.
//!
//! ```text
//! cargo bench --bench inference
//! ```
//!
//! The weights are random and the masks keep the first so many nodes: neither changes the time. The
//! compacted network is compared with the masked one before anything is timed.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scalpel::network::{NodeMasks, zoo};
use scalpel::prune::compact::compact;
use scalpel::report::Authors;
use scalpel::torch::{TorchNetwork, to_array};
use scalpel::train::initial_weights;
use scalpel::train::recipe::{Distribution, Initial};
use tch::{Device, Kind, Tensor};

fn inference(criterion: &mut Criterion) {
    let authors = Authors::published().expect("the authors' tables");
    let fan_in = || Distribution::FanIn {};
    for name in ["lenet-300-100", "lenet-5", "convnet"] {
        let network = zoo::by_name(name).expect("a network");
        let initial = Initial { conv: fan_in(), ip: fan_in() };
        let weights = initial_weights(&network, &initial, 1).expect("weights");
        let row = authors.node.iter().find(|row| row.network == name).expect("a row");
        let sites = network.mask_sites().expect("masks");
        let keep = |(site, &kept): (&scalpel::network::MaskSite, &usize)| {
            (site.name.clone(), (0..site.nodes).map(|node| node < kept).collect())
        };
        let masks: NodeMasks = sites.iter().zip(&row.kept).map(keep).collect();
        let (small, small_weights) =
            compact(&network, &weights, &masks).expect("a smaller network");
        let load = |network, weights, masks: &NodeMasks| {
            TorchNetwork::new(network, weights, masks, Device::Cpu).expect("a network in libtorch")
        };
        let candidates = [
            ("dense", load(&network, &weights, &NodeMasks::new())),
            ("masked", load(&network, &weights, &masks)),
            ("compacted", load(&small, &small_weights, &NodeMasks::new())),
        ];
        let mut group = criterion.benchmark_group(name);
        for batch in [1, 16, 128_i64] {
            let [channels, height, width] = network.input.map(|length| length as i64);
            let images = Tensor::rand([batch, channels, height, width], (Kind::Float, Device::Cpu));
            let scores =
                |which: usize| to_array(&candidates[which].1.run(&images).expect("scores"));
            let (masked, compacted) = (scores(1).expect("scores"), scores(2).expect("scores"));
            approx::assert_abs_diff_eq!(masked, compacted, epsilon = 1e-4);
            group.throughput(Throughput::Elements(batch as u64));
            for (candidate, network) in &candidates {
                let id = BenchmarkId::new(*candidate, batch);
                group.bench_with_input(id, &images, |bencher, images| {
                    bencher.iter(|| black_box(network.run(images).expect("scores")));
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = inference
}
criterion_main!(benches);

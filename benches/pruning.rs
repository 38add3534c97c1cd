//! The criteria and the formats on the largest layer of AlexNet, ip6, 4096 x 9216.
//!
//! ```text
//! cargo bench --bench pruning
//! ```

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;
use rand::RngExt;
use scalpel::prune::{apply, magnitude, random, simd};
use scalpel::seed;
use scalpel::sparse::{Csr, GroupSparse};

fn pruning(criterion: &mut Criterion) {
    let mut rng = seed::stream(1, "bench", &[]);
    let weights = Array2::from_shape_simple_fn((4096, 9216), || rng.random_range(-0.1..0.1_f32));
    let mut group = criterion.benchmark_group("alexnet ip6");
    group.throughput(Throughput::Elements(weights.len() as u64));
    group.bench_function("simd::mask, width 8", |bencher| {
        bencher.iter(|| simd::mask(black_box(weights.view()), 8, 0.06));
    });
    group.bench_function("magnitude::per_layer, 0.9", |bencher| {
        bencher.iter(|| magnitude::per_layer(black_box(weights.view()), 0.9));
    });

    let mask = random::groups(weights.dim(), 8, 0.9, 1).expect("a mask");
    let mut sparse = weights.into_dyn();
    apply("ip6.weight", &mut sparse, &mask).expect("masked weights");
    let sparse = sparse.into_dimensionality::<ndarray::Ix2>().expect("a matrix");
    let groups = GroupSparse::from_dense(sparse.view(), 8).expect("groups");
    assert_eq!(groups.to_dense(), sparse);
    group.bench_function("GroupSparse::from_dense, width 8, density 0.1", |bencher| {
        bencher.iter(|| GroupSparse::from_dense(black_box(sparse.view()), 8));
    });
    group.bench_function("Csr::from_dense, density 0.1", |bencher| {
        bencher.iter(|| Csr::from_dense(black_box(sparse.view())));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = pruning
}
criterion_main!(benches);

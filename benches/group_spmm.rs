//! Group-sparse weights against libtorch's dense product, in turns in one run, on one thread.
//!
//! ```text
//! cargo bench --bench group_spmm                     # the shapes of the paper's layers
//! cargo bench --bench group_spmm -- 300x784 64       # one shape, one N
//! SCALPEL_KERNEL=group_spmm_f32_avx2_n8 cargo bench --bench group_spmm -- 300x784 64
//! ```
//!
//! GFLOP/s are useful ones: 2 * nnz * N over the time, and 2 * M * K * N for the dense product. Each
//! product is compared with the reference before it is timed.

use std::time::Duration;

use ndarray::Array2;
use rand::RngExt;
use scalpel::kernels::group_spmm::{GroupSpmm, Layer, reference};
use scalpel::measure::{Effort, geometric_mean, interleave};
use scalpel::report::Table;
use scalpel::seed;
use scalpel::sparse::GroupSparse;
use tch::{Kind, Tensor};

const SHAPES: [[usize; 2]; 8] = [
    [300, 784],
    [500, 800],
    [100, 304],
    [4096, 9216],
    [4096, 4096],
    [384, 2304],
    [32, 800],
    [160, 192],
];
const DENSITIES: [f64; 3] = [0.08, 0.2, 0.4];
const COLUMNS: [usize; 5] = [1, 16, 64, 128, 512];
const WIDTH: usize = 8;

/// One shape, density and N, ready to run.
struct Point {
    ours: GroupSpmm,
    weights: Tensor,
    x: Vec<f32>,
    shape: [usize; 2],
    nnz: usize,
    n: usize,
}

impl Point {
    fn new([rows, inner]: [usize; 2], density: f64, n: usize) -> anyhow::Result<Self> {
        let mut rng = seed::stream(1, "bench", &[rows as u64, inner as u64, n as u64]);
        let mut dense = Array2::<f32>::zeros((rows, inner));
        for mut row in dense.rows_mut() {
            for group in 0..inner / WIDTH {
                if rng.random_bool(density) {
                    for column in group * WIDTH..(group + 1) * WIDTH {
                        row[column] = rng.random_range(-1.0..1.0);
                    }
                }
            }
        }
        let groups = GroupSparse::from_dense(dense.view(), WIDTH)?;
        let layer = Layer { weights: &groups, bias: None, relu: false };
        let ours = GroupSpmm::new(&layer, n)?;
        let x: Vec<f32> = (0..inner * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        let weights = Tensor::from_slice(dense.as_slice().unwrap_or_default());
        let weights = weights.view([rows as i64, inner as i64]);

        let sample = n.min(16); // plain loops are slow: the first columns stand for all
        let narrow: Vec<f32> = x.chunks(n).flat_map(|row| &row[..sample]).copied().collect();
        let expected = reference::run(&layer, &narrow, sample);
        let mut y = vec![f32::NAN; rows * n];
        ours.run(&x, n, &mut y)?;
        for (expected, found) in expected.iter().zip(y.chunks(n).flat_map(|row| &row[..sample])) {
            let near = (expected - found).abs() <= 1e-5 * inner as f32;
            anyhow::ensure!(near, "{} computes {found}, not {expected}", ours.variant().name);
        }
        Ok(Self { ours, weights, x, shape: [rows, inner], nnz: groups.nnz(), n })
    }

    /// Useful GFLOP/s of ours and of libtorch's dense product.
    fn measure(&self) -> anyhow::Result<[f64; 2]> {
        let ([rows, inner], n) = (self.shape, self.n);
        let x = Tensor::from_slice(&self.x).view([inner as i64, n as i64]);
        let out = Tensor::zeros([rows as i64, n as i64], (Kind::Float, tch::Device::Cpu));
        let mut y = vec![0.0; rows * n];
        let (mut ours, mut theirs) = (None, None);
        let timings = interleave(
            &mut [&mut || ours = self.ours.run(&self.x, n, &mut y).err(), &mut || {
                theirs = self.weights.f_mm_out(&out, &x).err()
            }],
            Effort { rounds: 9, turn: Duration::from_millis(2) },
        );
        if let Some(failure) = ours {
            return Err(failure.into());
        }
        if let Some(failure) = theirs {
            return Err(failure.into());
        }
        let operations = [self.nnz, rows * inner].map(|weights| 2.0 * (weights * n) as f64);
        Ok(std::array::from_fn(|i| operations[i] / timings[i].median / 1e9))
    }
}

fn main() -> anyhow::Result<()> {
    tch::set_num_threads(1);
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted =
        |text: String, filter: Option<&String>| filter.is_none_or(|filter| *filter == text);
    for n in COLUMNS.into_iter().filter(|n| wanted(n.to_string(), arguments.get(1))) {
        let header = ["M x K", "density", "kernel", "ours", "libtorch dense", "speedup over dense"];
        let mut table = Table::new(header);
        let (mut speedups, mut rates) = (Vec::new(), Vec::new());
        for shape in SHAPES {
            let name = format!("{}x{}", shape[0], shape[1]);
            if !wanted(name.clone(), arguments.first()) {
                continue;
            }
            for density in DENSITIES {
                let point = Point::new(shape, density, n)?;
                let [ours, dense] = point.measure()?;
                let speedup = ours / dense * (shape[0] * shape[1]) as f64 / point.nnz as f64;
                speedups.push(speedup);
                rates.push(ours / dense);
                let kernel = point.ours.variant().name.to_owned();
                let rates = [ours, dense].map(|rate| format!("{rate:.1}"));
                let [ours, dense] = rates;
                let cells = [name.clone(), density.to_string(), kernel, ours, dense];
                table.row(cells.into_iter().chain([format!("{speedup:.2}")]));
            }
        }
        println!("\nN = {n}, W = {WIDTH}, one thread, useful GFLOP/s\n\n{}", table.markdown());
        println!(
            "geometric means: {:.2}x dense, useful rate {:.2} of the dense product's",
            geometric_mean(&speedups),
            geometric_mean(&rates)
        );
    }
    Ok(())
}

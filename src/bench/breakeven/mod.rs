//! Where group sparsity pays: our product, the best library's dense one and its sparse one, in turns in
//! one run, over shapes, densities and widths.
//!
//! Every candidate is compared with plain loops before it is timed. Rates are of useful operations:
//! 2 * nnz * N over the time, and 2 * M * K * N for the dense product. All candidates have the same
//! weights, of which equally many are not 0: a CSR of them has no group structure to gain from. Groups are of one
//! row and several columns, or upright ([`Pattern`]).

mod case;
pub mod gpu;

use std::time::Duration;

use ndarray::Array2;

pub use self::case::Case;
use crate::baselines::{Libraries, Product};
use crate::engine::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::SparseVariant;
use crate::kernels::group_spmm::{GroupLayer, GroupSpmm};
use crate::kernels::layout::{Input, Output};
use crate::kernels::upright_spmm::{UprightLayer, UprightSpmm};
use crate::report::{BreakevenPoint, Sweep};
use crate::sparse::{GroupSparse, Pattern, UprightSparse};
use crate::timing::{MeasureConfig, ThreadedCandidate, Timing, interleave_with_rest, seconds};

/// The shapes [M, K] of the networks' layers that the sweep takes by itself: LeNet-300-100's first,
/// LeNet-5's first dense one, a small pruned one, AlexNet's three largest kinds, and ConvNet's and NIN's
/// convolutions as matrices.
pub const SHAPES: [[usize; 2]; 8] = [
    [300, 784],
    [500, 800],
    [100, 304],
    [4096, 9216],
    [4096, 4096],
    [384, 2304],
    [32, 800],
    [160, 192],
];
/// Its densities.
pub const DENSITIES: [f64; 3] = [0.08, 0.2, 0.4];
/// Its N.
pub const COLUMNS: [usize; 5] = [1, 16, 64, 128, 512];

/// The sweep of the paper's shapes, on so many threads.
pub fn sweep(threads: usize) -> Sweep {
    Sweep {
        pattern: Pattern::Groups,
        shapes: SHAPES.to_vec(),
        densities: DENSITIES.to_vec(),
        columns: COLUMNS.to_vec(),
        widths: vec![8],
        threads,
        isa: None,
        device: None,
        mkl_instructions: std::env::var("MKL_ENABLE_INSTRUCTIONS").ok(),
    }
}

/// Measures every point of a sweep, each with the variant that the dispatch would take, and gives them
/// to `done` one by one. Threads are those of the pool that it runs in.
///
/// # Errors
/// As [`Case::new`] and [`measure`]; an instruction set that no variant has; what `done` says.
pub fn run(
    sweep: &Sweep,
    libraries: &Libraries,
    mut done: impl FnMut(&BreakevenPoint) -> Result<()>,
) -> Result<Vec<BreakevenPoint>> {
    // All that can be refused is refused before anything is measured.
    for &n in &sweep.columns {
        for &[rows, _] in &sweep.shapes {
            variant_for(sweep.pattern, sweep.isa.as_deref(), rows, n)?;
        }
    }
    let mut points = Vec::new();
    for_each_point(sweep, |shape, width, density, n| {
        let variant = variant_for(sweep.pattern, sweep.isa.as_deref(), shape[0], n)?;
        let case = Case::new(shape, sweep.pattern, width, density, n)?;
        let measured = measure(&case, &[variant], libraries)?;
        measured.iter().try_for_each(&mut done)?;
        points.extend(measured);
        Ok(())
    })?;
    Ok(points)
}

/// Every point of a sweep: shape, width, density and N. Points that are none are refused first.
fn for_each_point(
    sweep: &Sweep,
    mut measure: impl FnMut([usize; 2], usize, f64, usize) -> Result<()>,
) -> Result<()> {
    for &n in &sweep.columns {
        for &width in &sweep.widths {
            sweep.densities.iter().try_for_each(|&density| check_point(width, density, n))?;
        }
    }
    for &n in &sweep.columns {
        for &shape in &sweep.shapes {
            for &width in &sweep.widths {
                for &density in &sweep.densities {
                    measure(shape, width, density, n)?;
                }
            }
        }
    }
    Ok(())
}

fn check_point(width: usize, density: f64, n: usize) -> Result<()> {
    if (0.0..=1.0).contains(&density) && width > 0 && n > 0 {
        return Ok(());
    }
    let found = format!("density {density}, width {width}, N {n}");
    let expected = "a density of 0 to 1, a width and N of at least 1";
    Err(Error::argument("a point of the sweep", expected, found))
}

/// The variant that a product of `rows` rows and `n` columns is given, of one instruction set or of any.
fn variant_for(
    pattern: Pattern,
    isa: Option<&str>,
    rows: usize,
    n: usize,
) -> Result<SparseVariant> {
    let Some(isa) = isa else {
        let none = Array2::zeros((rows, 0));
        return Ok(match pattern {
            Pattern::Groups => {
                let weights = &GroupSparse::from_dense(none.view(), 8)?;
                let layer = GroupLayer { weights, bias: None, relu: false };
                SparseVariant::Groups(GroupSpmm::new(&layer, n)?.variant())
            }
            Pattern::Upright => {
                let weights = &UprightSparse::from_dense(none.view(), 8)?;
                let layer = UprightLayer { weights, bias: None, relu: false };
                SparseVariant::Upright(UprightSpmm::new(&layer, n)?.variant())
            }
        });
    };
    let mut of_isa = variants(pattern, Some(isa), n).into_iter();
    of_isa.find(|variant| variant.suits(rows, n)).ok_or_else(|| {
        Error::argument("--isa", "avx512, avx2 or portable, and an N of at least 1", isa)
    })
}

/// A product of ours as a candidate: a kernel on a case's activations.
struct Ours<'a, F> {
    run: F,
    x: &'a [f32],
    y: Vec<f32>,
    spinning: SpinningWorkers,
}

impl<F: FnMut(&[f32], &mut [f32]) -> Result<()> + Send> Product for Ours<'_, F> {
    fn run(&mut self) -> Result<()> {
        (self.run)(self.x, &mut self.y)
    }

    /// The other threads stay awake from call to call, as they do in a network, and as the library's do.
    fn seconds(&mut self, calls: u32) -> Result<f64> {
        let Self { run, x, y, spinning } = self;
        let mut work = || seconds(calls, || run(x, y));
        if rayon::current_num_threads() == 1 { work() } else { spinning.during(work) }
    }

    fn result(&self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}

/// How long the threads of a library's OpenMP stay busy after its last call (200 ms by default), and some
/// more.
const SETTLING: Duration = Duration::from_millis(250);

/// Compares the candidates with plain loops and times them in turns: the first `ours`, then those of libraries. On
/// several `threads` of the processor each has its own awake and, after a library, nobody else's.
///
/// # Errors
/// One that fails, or that computes something else.
pub fn contest(
    case: &Case,
    candidates: &mut [(String, Box<dyn Product + '_>)],
    ours: usize,
    threads: usize,
) -> Result<Vec<Timing>> {
    let expected = case.expected();
    for (name, candidate) in &mut *candidates {
        candidate.run()?;
        case.compare(name, &expected, &candidate.result()?)?;
    }
    // The largest products take half a second each.
    let rounds = if case.m * case.k * case.n > 5_000_000_000 { 5 } else { 15 };
    let candidates = candidates.iter_mut().enumerate();
    let mut candidates: Vec<_> = candidates
        .map(|(index, (_, candidate))| ThreadedCandidate {
            seconds: Box::new(|calls| candidate.seconds(calls)),
            keeps_spinning: threads > 1 && index >= ours,
        })
        .collect();
    let config = MeasureConfig::new(rounds, Duration::from_millis(2)).on_threads(threads);
    interleave_with_rest(&mut candidates, SETTLING, config)
}

/// The variants of a pattern that fit N, for one instruction set (such as `avx2`) or for any.
pub fn variants(pattern: Pattern, isa: Option<&str>, n: usize) -> Vec<SparseVariant> {
    let of_isa = |name: &str| isa.is_none_or(|isa| name.split('_').any(|part| part == isa));
    let fits = |variant: &SparseVariant| (n == 1) == variant.one_column() && of_isa(variant.name());
    SparseVariant::all(pattern).into_iter().filter(fits).collect()
}

/// Compares and times variants of ours with libraries, all in turns: a point per variant.
///
/// # Errors
/// A variant that this processor lacks; a candidate that computes something else.
pub fn measure(
    case: &Case,
    variants: &[SparseVariant],
    libraries: &Libraries,
) -> Result<Vec<BreakevenPoint>> {
    let n = case.n;
    let mut ours: Vec<(String, Box<dyn Product + '_>)> = Vec::new();
    for &variant in variants {
        let kernel = case.pack(variant)?;
        let run = move |x: &[f32], y: &mut [f32]| {
            kernel.run_at(Input::plain(x, n), n, Output::plain(y, n))
        };
        ours.push((variant.name().to_owned(), case.product(run)));
    }
    compare(case, ours, libraries, rayon::current_num_threads())
}

/// Compares and times products of ours with the libraries', all in turns: a point for each of ours.
fn compare(
    case: &Case,
    mut candidates: Vec<(String, Box<dyn Product + '_>)>,
    libraries: &Libraries,
    threads: usize,
) -> Result<Vec<BreakevenPoint>> {
    let ours = candidates.len();
    candidates.extend(libraries.dense(case.dense.view(), &case.x, case.n)?);
    let csr = libraries.products.csr(&case.csr()?, &case.x, case.n)?;
    candidates.push((libraries.products.name(), csr));
    let timings = contest(case, &mut candidates, ours, threads)?;
    let (kernels, baselines) = candidates.split_at(ours);
    let (timings, of_baselines) = timings.split_at(ours);
    let baseline = Baseline::of(case, baselines, of_baselines);
    let points = kernels.iter().zip(timings);
    Ok(points.map(|((kernel, _), timing)| point(case, kernel, timing, &baseline)).collect())
}

/// Whom ours are compared with.
struct Baseline {
    /// The library whose dense product was the fastest, and how it computes.
    dense: String,
    dense_gflops: f64,
    csr: String,
    csr_gflops: f64,
    csr_algorithm: Option<String>,
}

impl Baseline {
    /// That of the libraries' products, of which the last is that with compressed rows.
    fn of(case: &Case, products: &[(String, Box<dyn Product + '_>)], timings: &[Timing]) -> Self {
        let rate = |operations: f64, timing: &Timing| operations / timing.median / 1e9;
        let all = 2.0 * (case.m * case.k * case.n) as f64;
        let mut baseline = Self {
            dense: String::new(),
            dense_gflops: 0.0,
            csr: String::new(),
            csr_gflops: 0.0,
            csr_algorithm: None,
        };
        let Some(csr) = products.len().checked_sub(1) else { return baseline };
        for (index, ((library, product), timing)) in products.iter().zip(timings).enumerate() {
            let detail = product.detail();
            if index == csr {
                baseline.csr.clone_from(library);
                baseline.csr_gflops = rate(case.useful_operations(), timing);
                baseline.csr_algorithm = detail.map(str::to_owned);
            } else if rate(all, timing) > baseline.dense_gflops {
                let detail = detail.map_or(String::new(), |detail| format!(" ({detail})"));
                baseline.dense = library.clone() + &detail;
                baseline.dense_gflops = rate(all, timing);
            }
        }
        baseline
    }
}

/// The point of one of our kernels.
fn point(case: &Case, kernel: &str, timing: &Timing, baseline: &Baseline) -> BreakevenPoint {
    let (m, k, n) = (case.m, case.k, case.n);
    let same = baseline.dense.starts_with(&baseline.csr);
    BreakevenPoint {
        kernel: kernel.to_owned(),
        shape: format!("{m}x{k}"),
        m,
        k,
        n,
        group_width: case.group,
        density: case.nnz() as f64 / (m * k).max(1) as f64,
        asked_density: case.density,
        threads: rayon::current_num_threads(),
        gflops: case.useful_operations() / timing.median / 1e9,
        dense_gflops: baseline.dense_gflops,
        csr_gflops: baseline.csr_gflops,
        dense_library: baseline.dense.clone(),
        csr_library: (!same).then(|| baseline.csr.clone()),
        csr_algorithm: baseline.csr_algorithm.clone(),
    }
}

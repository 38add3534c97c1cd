//! Where group sparsity pays: our product, the best library's dense one and its sparse one, in turns in
//! one run, over shapes, densities and widths.
//!
//! Every candidate is compared with plain loops before it is timed. Rates are of useful operations:
//! 2 * nnz * N over the time, and 2 * M * K * N for the dense product. All candidates have the same
//! weights, of which equally many are not 0: a CSR of them has no group structure to gain from.

pub mod gpu;

use std::time::Duration;

use ndarray::Array2;
use rand::RngExt;

use crate::baselines::{Product, Products};
use crate::engine::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::group_spmm::{self, Columns, GroupLayer, GroupSpmm, Variant, reference};
use crate::report::{BreakevenPoint, Sweep};
use crate::seed;
use crate::sparse::{Csr, GroupSparse};
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

/// Columns that are compared with plain loops, which are slow: the first ones stand for all.
const COMPARED: usize = 8;

/// Weights and activations of one point.
#[derive(Debug)]
pub struct Case {
    /// Rows of the weights.
    pub m: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Columns of the activations.
    pub n: usize,
    /// The share of groups that is stored, as asked for.
    pub density: f64,
    dense: Array2<f32>,
    groups: GroupSparse,
    x: Vec<f32>,
}

impl Case {
    /// Random weights of a density in groups of a width, and random activations, the same on each call.
    ///
    /// # Errors
    /// A width of 0, a density outside 0 to 1, no column.
    pub fn new([m, k]: [usize; 2], width: usize, density: f64, n: usize) -> Result<Self> {
        check_point(width, density, n)?;
        let mut rng = seed::stream(1, "breakeven", &[m as u64, k as u64, n as u64, width as u64]);
        let mut dense = Array2::<f32>::zeros((m, k));
        for mut row in dense.rows_mut() {
            for group in 0..k.div_ceil(width) {
                if rng.random_bool(density) {
                    for column in group * width..k.min((group + 1) * width) {
                        row[column] = rng.random_range(-1.0..1.0);
                    }
                }
            }
        }
        let groups = GroupSparse::from_dense(dense.view(), width)?;
        let x = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        Ok(Self { m, k, n, density, dense, groups, x })
    }

    /// Weights that are not 0.
    pub fn nnz(&self) -> usize {
        self.groups.nnz()
    }

    /// The weights in compressed rows.
    ///
    /// # Errors
    /// More weights than 32-bit pointers can count.
    pub fn csr(&self) -> Result<Csr> {
        Csr::from_dense(self.dense.view())
    }

    /// The activations, `[k, n]`.
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// A candidate that computes y from x by a function.
    pub fn product<'a>(
        &'a self,
        run: impl FnMut(&[f32], &mut [f32]) -> Result<()> + Send + 'a,
    ) -> Box<dyn Product + 'a> {
        let y = vec![f32::NAN; self.m * self.n];
        Box::new(Ours { run, x: &self.x, y, spinning: SpinningWorkers::default() })
    }

    fn layer(&self) -> GroupLayer<'_> {
        GroupLayer { weights: &self.groups, bias: None, relu: false }
    }

    /// The first columns of Y by plain loops.
    fn expected(&self) -> Vec<f32> {
        let compared = self.n.min(COMPARED);
        let narrow: Vec<f32> =
            self.x.chunks(self.n).flat_map(|row| &row[..compared]).copied().collect();
        reference::run(&self.layer(), &narrow, compared)
    }

    /// Refuses a product that computes something else.
    fn compare(&self, name: &str, expected: &[f32], y: &[f32]) -> Result<()> {
        let compared = self.n.min(COMPARED);
        let found = y.chunks(self.n).flat_map(|row| &row[..compared]);
        for (expected, found) in expected.iter().zip(found) {
            // Products are below 1: K roundings of half a unit in the last place, and a margin.
            let near = (expected - found).abs() <= 1e-6 * (self.k as f32 + 10.0);
            if !near {
                return Err(Error::argument(name, expected.to_string(), found.to_string()));
            }
        }
        Ok(())
    }
}

/// The sweep of the paper's shapes, on so many threads.
pub fn sweep(threads: usize) -> Sweep {
    Sweep {
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
    library: &dyn Products,
    mut done: impl FnMut(&BreakevenPoint) -> Result<()>,
) -> Result<Vec<BreakevenPoint>> {
    // All that can be refused is refused before anything is measured.
    for &n in &sweep.columns {
        for &[rows, _] in &sweep.shapes {
            variant_for(sweep.isa.as_deref(), rows, n)?;
        }
    }
    let mut points = Vec::new();
    for_each_point(sweep, |shape, width, density, n| {
        let variant = variant_for(sweep.isa.as_deref(), shape[0], n)?;
        let case = Case::new(shape, width, density, n)?;
        let measured = measure(&case, &[variant], library)?;
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
fn variant_for(isa: Option<&str>, rows: usize, n: usize) -> Result<&'static Variant> {
    let Some(isa) = isa else {
        let none = GroupSparse::from_dense(Array2::zeros((rows, 0)).view(), 8)?;
        let layer = GroupLayer { weights: &none, bias: None, relu: false };
        return Ok(GroupSpmm::new(&layer, n)?.variant());
    };
    let mut of_isa = variants(Some(isa), n);
    of_isa.find(|variant| variant.design.columns.suit(rows, n)).ok_or_else(|| {
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

/// Compares the candidates with plain loops and times them in turns. On several `threads` of the processor,
/// where the last two must be the library's, each has its own awake and, after the library, nobody else's.
///
/// # Errors
/// One that fails, or that computes something else.
pub fn contest(
    case: &Case,
    candidates: &mut [(String, Box<dyn Product + '_>)],
    threads: usize,
) -> Result<Vec<Timing>> {
    let expected = case.expected();
    for (name, candidate) in &mut *candidates {
        candidate.run()?;
        case.compare(name, &expected, &candidate.result()?)?;
    }
    // The largest products take half a second each.
    let rounds = if case.m * case.k * case.n > 5_000_000_000 { 5 } else { 15 };
    let ours = candidates.len().saturating_sub(2);
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

/// The variants that fit N, for one instruction set (such as `avx2`) or for any.
pub fn variants(isa: Option<&str>, n: usize) -> impl Iterator<Item = &'static Variant> {
    let tag = isa.map(|isa| format!("_{isa}_"));
    group_spmm::VARIANTS.iter().filter(move |variant| {
        (n == 1) == (variant.design.columns == Columns::One)
            && tag.as_ref().is_none_or(|tag| variant.name.contains(tag))
    })
}

/// Compares and times variants of ours with a library, all in turns: a point per variant.
///
/// # Errors
/// A variant that this processor lacks; a candidate that computes something else.
pub fn measure(
    case: &Case,
    variants: &[&'static Variant],
    library: &dyn Products,
) -> Result<Vec<BreakevenPoint>> {
    let n = case.n;
    let mut ours: Vec<(String, Box<dyn Product + '_>)> = Vec::new();
    for variant in variants {
        let kernel = GroupSpmm::with(variant, &case.layer())?;
        let run = move |x: &[f32], y: &mut [f32]| kernel.run(x, n, y);
        ours.push((variant.name.to_owned(), case.product(run)));
    }
    let mut all = beside(case, ours, library)?;
    let timings = contest(case, &mut all, rayon::current_num_threads())?;
    let baseline = Baseline::of(library, &all);
    let points = variants.iter().enumerate();
    Ok(points
        .map(|(index, variant)| point(case, variant.name, &timings, index, &baseline))
        .collect())
}

/// Whom ours are compared with.
struct Baseline {
    library: String,
    /// How its product with compressed rows computes, where it has several ways.
    csr_algorithm: Option<String>,
}

impl Baseline {
    /// That of the candidates, of which the last two are the library's dense product and that with compressed rows.
    fn of(library: &dyn Products, candidates: &[(String, Box<dyn Product + '_>)]) -> Self {
        let detail = |place: usize| {
            let product = candidates.len().checked_sub(place).and_then(|at| candidates.get(at));
            product.and_then(|(_, product)| product.detail()).map(str::to_owned)
        };
        let dense = detail(2).map_or(String::new(), |detail| format!(" ({detail})"));
        Self { library: library.name() + &dense, csr_algorithm: detail(1) }
    }
}

/// A library's dense and sparse products after ours.
fn beside<'a>(
    case: &'a Case,
    mut ours: Vec<(String, Box<dyn Product + 'a>)>,
    library: &dyn Products,
) -> Result<Vec<(String, Box<dyn Product + 'a>)>> {
    let name = library.name();
    ours.push((format!("{name} dense"), library.dense(case.dense.view(), &case.x, case.n)?));
    ours.push((format!("{name} CSR"), library.csr(&case.csr()?, &case.x, case.n)?));
    Ok(ours)
}

/// The point of the candidate `index`; the last two timings are the library's.
fn point(
    case: &Case,
    kernel: &str,
    timings: &[Timing],
    index: usize,
    baseline: &Baseline,
) -> BreakevenPoint {
    let (m, k, n) = (case.m, case.k, case.n);
    let useful = 2.0 * (case.nnz() * n) as f64;
    let rate = |operations: f64, index: usize| operations / timings[index].median / 1e9;
    let dense = timings.len() - 2;
    BreakevenPoint {
        kernel: kernel.to_owned(),
        shape: format!("{m}x{k}"),
        m,
        k,
        n,
        group_width: case.groups.width(),
        density: case.nnz() as f64 / (m * k).max(1) as f64,
        asked_density: case.density,
        threads: rayon::current_num_threads(),
        gflops: rate(useful, index),
        dense_gflops: rate(2.0 * (m * k * n) as f64, dense),
        csr_gflops: rate(useful, dense + 1),
        dense_library: baseline.library.clone(),
        csr_algorithm: baseline.csr_algorithm.clone(),
    }
}

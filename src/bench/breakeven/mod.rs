//! Where group sparsity pays: our product, the fastest library's dense one and a library's sparse one, in turns in
//! one run, over shapes, densities and widths.
//!
//! Every candidate is compared with plain loops before it is timed. Rates are of useful operations:
//! 2 * nnz * N over the time, and 2 * M * K * N for the dense product. All candidates have the same
//! weights, of which equally many are not 0: a CSR of them has no group structure to gain from. Groups are of one
//! row and several columns, or upright ([`Pattern`]).

mod case;
pub mod gpu;

use std::time::Duration;

pub use self::case::Case;
use crate::baselines::{Libraries, Product};
use crate::engine::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::SparseVariant;
use crate::kernels::layout::{Input, Output};
use crate::report::{BreakevenPoint, Sweep};
use crate::sparse::Pattern;
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
        return SparseVariant::preferred(pattern, rows, n);
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

/// Compares the candidates with plain loops and times them in turns: ours, and after them products of libraries,
/// `of_libraries` of which says whose each is. On several `threads` of the processor each has its own awake and nobody
/// else's.
///
/// # Errors
/// One that fails, or that computes something else.
pub fn contest(
    case: &Case,
    candidates: &mut [(String, Box<dyn Product + '_>)],
    of_libraries: &[usize],
    threads: usize,
) -> Result<Vec<Timing>> {
    let expected = case.expected();
    for (name, candidate) in &mut *candidates {
        candidate.run()?;
        case.compare(name, &expected, &candidate.result()?)?;
    }
    // The largest products take half a second each.
    let rounds = if case.m * case.k * case.n > 5_000_000_000 { 5 } else { 15 };
    let ours = candidates.len().saturating_sub(of_libraries.len());
    let pools = std::iter::repeat_n(None, ours).chain(of_libraries.iter().copied().map(Some));
    let mut candidates: Vec<_> = candidates
        .iter_mut()
        .zip(pools)
        .map(|((_, candidate), pool)| ThreadedCandidate {
            seconds: Box::new(|calls| candidate.seconds(calls)),
            spinning_pool: pool.filter(|_| threads > 1),
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
    let kernels: Vec<String> = candidates.iter().map(|(name, _)| name.clone()).collect();
    let mut names = Vec::new();
    for (library, product) in libraries.dense(case.dense.view(), &case.x, case.n)? {
        candidates.push((format!("{library} dense"), product));
        names.push(library);
    }
    // The first library's, as its dense product is.
    let csr = libraries.products.csr(&case.csr()?, &case.x, case.n)?;
    candidates.push((format!("{} CSR", libraries.products.name()), csr));
    let of_libraries: Vec<usize> = (0..names.len()).chain([0]).collect();
    let timings = contest(case, &mut candidates, &of_libraries, threads)?;
    let (ours, theirs) = timings.split_at(kernels.len());
    let details = candidates[kernels.len()..].iter().map(|(_, product)| product.detail());
    let medians = theirs.iter().map(|timing| timing.median);
    let baseline = Baseline::of(case, &names, &details.zip(medians).collect::<Vec<_>>());
    Ok(kernels.iter().zip(ours).map(|(name, own)| point(case, name, own, &baseline)).collect())
}

/// Whom ours are compared with.
#[derive(Debug, Default, PartialEq)]
struct Baseline {
    /// The library whose dense product was the fastest, and how it computes.
    dense: String,
    dense_gflops: f64,
    /// The library of the product with compressed rows, where it is another.
    csr: Option<String>,
    csr_gflops: f64,
    csr_algorithm: Option<String>,
}

impl Baseline {
    /// That of the libraries of these names, by how their products compute and the seconds that they take: the dense
    /// one of each, and after them the first library's with compressed rows.
    fn of(case: &Case, names: &[String], products: &[(Option<&str>, f64)]) -> Self {
        let Some((&(algorithm, seconds), dense)) = products.split_last() else {
            return Self::default();
        };
        let dense = dense.iter().enumerate().min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
        let Some((fastest, &(detail, dense_seconds))) = dense else { return Self::default() };
        let detail = detail.map_or(String::new(), |detail| format!(" ({detail})"));
        Self {
            dense: names[fastest].clone() + &detail,
            dense_gflops: 2.0 * (case.m * case.k * case.n) as f64 / dense_seconds / 1e9,
            csr: (fastest != 0).then(|| names[0].clone()),
            csr_gflops: case.useful_operations() / seconds / 1e9,
            csr_algorithm: algorithm.map(str::to_owned),
        }
    }
}

/// The point of one of our kernels.
fn point(case: &Case, kernel: &str, timing: &Timing, baseline: &Baseline) -> BreakevenPoint {
    let (m, k, n) = (case.m, case.k, case.n);
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
        csr_library: baseline.csr.clone(),
        csr_algorithm: baseline.csr_algorithm.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_dense_product_counts_whosever_it_is() {
        let case = Case::new([8, 16], Pattern::Groups, 8, 1.0, 10).unwrap();
        let names = ["first".to_owned(), "second".to_owned()];
        // 2 M K N operations, all of them useful at density 1.
        let operations = 2.0 * (8 * 16 * 10) as f64 / 1e9;
        let of = |first, second| {
            let products = [(None, first), (Some("tiled"), second), (Some("merge"), 4e-6)];
            Baseline::of(&case, &names, &products)
        };
        let slower = of(1e-6, 2e-6);
        assert_eq!((&*slower.dense, &slower.csr), ("first", &None));
        approx::assert_relative_eq!(slower.dense_gflops, operations / 1e-6, max_relative = 1e-12);
        let faster = of(3e-6, 2e-6);
        assert_eq!((&*faster.dense, faster.csr.as_deref()), ("second (tiled)", Some("first")));
        approx::assert_relative_eq!(faster.dense_gflops, operations / 2e-6, max_relative = 1e-12);
        approx::assert_relative_eq!(faster.csr_gflops, operations / 4e-6, max_relative = 1e-12);
        assert_eq!(faster.csr_algorithm.as_deref(), Some("merge"));
    }
}

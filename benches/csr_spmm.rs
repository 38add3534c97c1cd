//! Our own product with compressed rows, the traditional format: every variant that this processor has,
//! beside the best library's, in turns in one run.
//!
//! ```text
//! cargo bench --bench csr_spmm             # the sweep's shapes
//! cargo bench --bench csr_spmm -- 64       # one N
//! ```
//!
//! One thread. GFLOP/s are useful ones: 2 * nnz * N over the time. Each product is compared with plain
//! loops before it is timed.

use scalpel::baselines::{self, Product};
use scalpel::bench::breakeven::{COLUMNS, Case, DENSITIES, SHAPES, contest};
use scalpel::error::Error;
use scalpel::kernels::csr_spmm::{CsrLayer, CsrSpmm, VARIANTS};
use scalpel::options::BenchArgs;
use scalpel::report::Table;
use scalpel::sparse::Pattern;

fn main() -> anyhow::Result<()> {
    let given = BenchArgs::on_cpu()?;
    let threads = given.run.thread_count();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let library = baselines::best(threads)?;
    let wanted = given.first();
    let columns = wanted.map_or(Ok(COLUMNS.to_vec()), |n| n.parse().map(|n| vec![n]))?;
    let theirs = format!("{} CSR", library.name());
    let mut table = Table::new(["M x K", "N", "density", "kernel", "GFLOP/s", "x library"]);
    for n in columns {
        for shape in SHAPES {
            for density in DENSITIES {
                let case = Case::new(shape, Pattern::Groups, 8, density, n)?;
                let weights = case.csr()?;
                let layer = CsrLayer { weights: &weights, bias: None, relu: false };
                let library = library.csr(&weights, case.x(), n)?;
                let mut candidates: Vec<(String, Box<dyn Product + '_>)> = Vec::new();
                for variant in VARIANTS {
                    let kernel = match CsrSpmm::with(variant, &layer) {
                        Err(Error::Unavailable { .. }) => continue,
                        kernel => kernel?,
                    };
                    let run = move |x: &[f32], y: &mut [f32]| kernel.run(x, n, y);
                    candidates.push((variant.name.to_owned(), case.product(run)));
                }
                // The library's last, on threads of its own.
                candidates.push((theirs.clone(), library));
                let timings = contest(&case, &mut candidates, &[0], threads)?;
                let last = timings.len() - 1;
                for ((name, _), timing) in candidates.iter().zip(&timings) {
                    table.row([
                        format!("{}x{}", case.m, case.k),
                        n.to_string(),
                        density.to_string(),
                        name.clone(),
                        format!("{:.1}", 2.0 * (case.nnz() * n) as f64 / timing.median / 1e9),
                        format!("{:.2}", timings[last].median / timing.median),
                    ]);
                }
            }
        }
    }
    given.run.json.table(&format!("{threads} threads, W = 8"), &table);
    Ok(())
}

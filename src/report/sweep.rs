//! The stored points of the break-even sweep, and what they come to.

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::table::Table;
use crate::sparse::Pattern;
use crate::timing::geometric_mean;

/// What a sweep measures, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// How weights are grouped; absent in older files, where they are groups of one row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pattern: Pattern,
    /// Shapes [M, K] of the weights.
    pub shapes: Vec<[usize; 2]>,
    /// Shares of the groups that are stored.
    pub densities: Vec<f64>,
    /// N.
    pub columns: Vec<usize>,
    /// Weights in a group.
    pub widths: Vec<usize>,
    /// Threads of every candidate.
    pub threads: usize,
    /// The instruction set that our kernels are held to, such as `avx2`.
    pub isa: Option<String>,
    /// The one that MKL is held to, by its own variable `MKL_ENABLE_INSTRUCTIONS`.
    pub mkl_instructions: Option<String>,
    /// The GPU's device, such as `cuda`; none is the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

fn is_default(pattern: &Pattern) -> bool {
    *pattern == Pattern::default()
}

impl Sweep {
    /// Its points.
    pub fn len(&self) -> usize {
        self.shapes.len() * self.densities.len() * self.columns.len() * self.widths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One product, ours beside a library's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakevenPoint {
    /// Our variant.
    pub kernel: String,
    /// `MxK`.
    pub shape: String,
    /// Rows of the weights.
    pub m: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Columns of the activations.
    pub n: usize,
    /// Weights in a group.
    pub group_width: usize,
    /// The share of weights that is stored.
    pub density: f64,
    /// The share of groups that was asked for.
    pub asked_density: f64,
    /// Threads of every candidate.
    pub threads: usize,
    /// Useful GFLOP/s of ours: 2 nnz N over the time.
    pub gflops: f64,
    /// GFLOP/s of the library's dense product: 2 M K N over the time.
    pub dense_gflops: f64,
    /// Useful GFLOP/s of the library's CSR product.
    pub csr_gflops: f64,
    /// The library whose dense product was the fastest.
    pub dense_library: String,
    /// The library of the CSR product, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr_library: Option<String>,
    /// The algorithm of its CSR product, where it has several and the fastest was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr_algorithm: Option<String>,
}

impl BreakevenPoint {
    /// How many times faster than the dense product.
    pub fn over_dense(&self) -> f64 {
        self.gflops / self.dense_gflops / self.density
    }

    /// How many times faster than the CSR product.
    pub fn over_csr(&self) -> f64 {
        self.gflops / self.csr_gflops
    }

    /// Our useful rate as a share of the dense product's: near it, sparsity pays below that density.
    pub fn rate(&self) -> f64 {
        self.gflops / self.dense_gflops
    }
}

/// A sweep in the results tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredSweep {
    /// Its folder's name: the hash of what it measures.
    pub hash: String,
    /// What was measured.
    pub sweep: Sweep,
    /// What came out.
    pub points: Vec<BreakevenPoint>,
    /// Where and when.
    pub environment: Environment,
}

impl StoredSweep {
    /// What was measured: the GPU, or the processor whatever the number of its cores.
    pub fn hardware(&self) -> String {
        match self.sweep.device {
            Some(_) => self.environment.hardware(),
            None => self.environment.cpu.clone(),
        }
    }

    /// The sweep in a few words: the machine, the libraries whose dense products were the fastest, and where it was
    /// cut, that too.
    pub fn title(&self) -> String {
        let mut libraries: Vec<&str> =
            self.points.iter().map(|point| point.dense_library.as_str()).collect();
        libraries.sort_unstable();
        libraries.dedup();
        let library = libraries.join(" or ");
        let hardware = self.hardware();
        let machine = match (&self.sweep.device, self.sweep.threads) {
            (Some(_), _) => hardware,
            (None, 1) => format!("{hardware}, one thread"),
            (None, count) => format!("{hardware}, {count} threads"),
        };
        let mut title = format!("{machine}, against {library}");
        if self.sweep.pattern == Pattern::Upright {
            title += ", upright groups";
        }
        if let Some(isa) = &self.sweep.isa {
            title += &format!(", ours on {isa}");
        }
        if let Some(instructions) = &self.sweep.mkl_instructions {
            title += &format!(", MKL on {instructions}");
        }
        let (measured, all) = (self.points.len(), self.sweep.len());
        if measured < all {
            title += &format!(" (cut after {measured} of {all} points)");
        }
        title
    }
}

/// A row per N and density: geometric means over the shapes, and the worst shape.
pub fn breakeven_table(points: &[BreakevenPoint]) -> Table {
    let mut table = Table::new([
        "N",
        "W",
        "density",
        "shapes",
        "x dense",
        "x CSR",
        "rate / dense rate",
        "least x dense",
    ]);
    for (n, width, density) in cells(points) {
        let here: Vec<&BreakevenPoint> = points
            .iter()
            .filter(|p| (p.n, p.group_width, p.asked_density) == (n, width, density))
            .collect();
        let mean = |ratio: fn(&BreakevenPoint) -> f64| {
            geometric_mean(&here.iter().map(|point| ratio(point)).collect::<Vec<_>>())
        };
        let least = here.iter().min_by(|a, b| a.over_dense().total_cmp(&b.over_dense()));
        table.row([
            n.to_string(),
            width.to_string(),
            density.to_string(),
            here.len().to_string(),
            format!("{:.2}", mean(BreakevenPoint::over_dense)),
            format!("{:.2}", mean(BreakevenPoint::over_csr)),
            format!("{:.2}", mean(BreakevenPoint::rate)),
            least.map_or_else(String::new, |p| format!("{:.2} ({})", p.over_dense(), p.shape)),
        ]);
    }
    table
}

/// The different N, widths and densities, in that order.
pub(super) fn cells(points: &[BreakevenPoint]) -> Vec<(usize, usize, f64)> {
    let mut cells: Vec<(usize, usize, f64)> =
        points.iter().map(|p| (p.n, p.group_width, p.asked_density)).collect();
    cells.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
    cells.dedup();
    cells
}

/// The density at which a line of (density, speedup) falls to 1, between two of its points, both axes
/// logarithmic.
pub fn breakeven_of(line: &[(f64, f64)]) -> Option<f64> {
    line.windows(2).find_map(|pair| {
        let [(left, above), (right, below)] = [pair[0], pair[1]];
        if above < 1.0 || below >= 1.0 {
            return None;
        }
        let share = above.ln() / (above.ln() - below.ln());
        Some((left.ln() + share * (right.ln() - left.ln())).exp())
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) fn point(n: usize, density: f64, gflops: f64) -> BreakevenPoint {
        BreakevenPoint {
            kernel: "group_spmm_f32_portable_n8".into(),
            shape: "3x4".into(),
            m: 3,
            k: 4,
            n,
            group_width: 8,
            density,
            asked_density: density,
            threads: 1,
            gflops,
            dense_gflops: 100.0,
            csr_gflops: 20.0,
            dense_library: "MKL".into(),
            csr_library: None,
            csr_algorithm: None,
        }
    }

    #[test]
    fn ratios_are_of_times() {
        // 80 useful GFLOP/s at density .2 take .2 / 80 of what the dense product does in 1 / 100.
        let point = point(16, 0.2, 80.0);
        approx::assert_relative_eq!(point.over_dense(), 4.0, max_relative = 1e-12);
        approx::assert_relative_eq!(point.over_csr(), 4.0, max_relative = 1e-12);
        approx::assert_relative_eq!(point.rate(), 0.8, max_relative = 1e-12);
    }

    #[test]
    fn the_break_even_lies_where_the_line_crosses_one() {
        let line = [(0.1, 4.0), (0.4, 2.0), (0.8, 0.5)];
        approx::assert_relative_eq!(
            breakeven_of(&line).unwrap(),
            (0.4_f64 * 0.8).sqrt(),
            max_relative = 1e-12
        );
        assert_eq!(breakeven_of(&line[..2]), None);
        assert_eq!(breakeven_of(&[]), None);
    }

    #[test]
    fn the_table_has_a_row_per_cell() {
        let points = [point(1, 0.4, 50.0), point(16, 0.2, 90.0), point(1, 0.2, 40.0)];
        let table = breakeven_table(&points).markdown();
        assert_eq!(table.lines().count(), 2 + 3, "{table}");
        assert!(table.contains("2.00 (3x4)"), "{table}");
    }
}

//! Weights and activations of a point of the sweep, and what they come to by plain loops.

use ndarray::{Array2, Axis};
use rand::RngExt;

use super::{Ours, check_point};
use crate::baselines::Product;
use crate::device::gpu::Gpu;
use crate::engine::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::gpu::{Operands, Packed};
use crate::kernels::sparse_product::{SparseLayer, SparseProduct};
use crate::kernels::{GpuSparseVariant, PackedProduct, SparseVariant, group_spmm, upright_spmm};
use crate::seed;
use crate::sparse::{Csr, GroupSparse, Pattern, UprightSparse};

/// Columns that are compared with plain loops, which are slow: the first ones stand for all.
const COMPARED: usize = 8;

/// Weights of one point in the format of their pattern.
#[derive(Debug)]
enum Stored {
    Groups(GroupSparse),
    Upright(UprightSparse),
}

/// Weights as a layer, without bias and activation.
fn layer<F>(weights: &F) -> SparseLayer<'_, F> {
    SparseLayer { weights, bias: None, relu: false }
}

/// The refusal of a variant for weights of another pattern.
fn other_pattern(variant: &str) -> Error {
    Error::argument("break-even", "a variant for the weights' pattern", variant)
}

/// Weights and activations of one point.
#[derive(Debug)]
pub struct Case {
    /// Rows of the weights.
    pub m: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Columns of the activations.
    pub n: usize,
    /// Weights in a group.
    pub group: usize,
    /// The share of groups that is stored, as asked for.
    pub density: f64,
    pub(super) dense: Array2<f32>,
    stored: Stored,
    pub(super) x: Vec<f32>,
}

impl Case {
    /// Random weights of a density in groups of `group`, and random activations, the same on each call.
    ///
    /// # Errors
    /// A group of 0, a density outside 0 to 1, no column.
    pub fn new(
        [m, k]: [usize; 2],
        pattern: Pattern,
        group: usize,
        density: f64,
        n: usize,
    ) -> Result<Self> {
        check_point(group, density, n)?;
        let mut rng = seed::stream(1, "breakeven", &[m as u64, k as u64, n as u64, group as u64]);
        let mut dense = Array2::<f32>::zeros((m, k));
        let [height, width] = match pattern {
            Pattern::Groups => [1, group],
            Pattern::Upright => [group, 1],
        };
        for mut block in dense.axis_chunks_iter_mut(Axis(0), height) {
            for mut block in block.axis_chunks_iter_mut(Axis(1), width) {
                if rng.random_bool(density) {
                    block.iter_mut().for_each(|weight| *weight = rng.random_range(-1.0..1.0));
                }
            }
        }
        let stored = match pattern {
            Pattern::Groups => Stored::Groups(GroupSparse::from_dense(dense.view(), group)?),
            Pattern::Upright => Stored::Upright(UprightSparse::from_dense(dense.view(), group)?),
        };
        let x = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
        Ok(Self { m, k, n, group, density, dense, stored, x })
    }

    /// Operations of a product that skips zeros: 2 nnz N.
    pub(super) fn useful_operations(&self) -> f64 {
        2.0 * (self.nnz() * self.n) as f64
    }

    /// Weights that are not 0.
    pub fn nnz(&self) -> usize {
        match &self.stored {
            Stored::Groups(groups) => groups.nnz(),
            Stored::Upright(upright) => upright.nnz(),
        }
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

    /// Packs the weights for a variant of their pattern.
    ///
    /// # Errors
    /// A processor that lacks the variant's instructions; weights of the other pattern.
    pub fn pack(&self, variant: SparseVariant) -> Result<Box<dyn PackedProduct>> {
        Ok(match (&self.stored, variant) {
            (Stored::Groups(weights), SparseVariant::Groups(variant)) => {
                Box::new(SparseProduct::with(variant, &layer(weights))?)
            }
            (Stored::Upright(weights), SparseVariant::Upright(variant)) => {
                Box::new(SparseProduct::with(variant, &layer(weights))?)
            }
            _ => return Err(other_pattern(variant.name())),
        })
    }

    /// Packs the weights for a GPU, for a variant of their pattern or for the one that the dispatch takes.
    ///
    /// # Errors
    /// What the packing says; a variant of the other pattern.
    pub(super) fn pack_on(
        &self,
        gpu: &dyn Gpu,
        variant: Option<GpuSparseVariant>,
        operands: &Operands,
    ) -> Result<Packed> {
        match (&self.stored, variant) {
            (Stored::Groups(weights), None) => {
                group_spmm::gpu::pack(gpu, &layer(weights), operands)
            }
            (Stored::Upright(weights), None) => {
                upright_spmm::gpu::pack(gpu, &layer(weights), operands)
            }
            (Stored::Groups(weights), Some(GpuSparseVariant::Groups(variant))) => {
                group_spmm::gpu::pack_with(gpu, variant, &layer(weights), operands)
            }
            (Stored::Upright(weights), Some(GpuSparseVariant::Upright(variant))) => {
                upright_spmm::gpu::pack_with(gpu, variant, &layer(weights), operands)
            }
            (_, Some(variant)) => Err(other_pattern(variant.name())),
        }
    }

    /// The first columns of Y by plain loops.
    pub(super) fn expected(&self) -> Vec<f32> {
        let compared = self.n.min(COMPARED);
        let narrow: Vec<f32> =
            self.x.chunks(self.n).flat_map(|row| &row[..compared]).copied().collect();
        match &self.stored {
            Stored::Groups(weights) => {
                group_spmm::reference::run(&layer(weights), &narrow, compared)
            }
            Stored::Upright(weights) => {
                upright_spmm::reference::run(&layer(weights), &narrow, compared)
            }
        }
    }

    /// Refuses a product that computes something else.
    pub(super) fn compare(&self, name: &str, expected: &[f32], y: &[f32]) -> Result<()> {
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

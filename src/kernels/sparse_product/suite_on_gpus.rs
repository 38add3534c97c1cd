//! The conformance suite of the sparse products on GPUs: every variant of a format on every device there is.

use super::SparseLayer;
use super::suite::{Case, UnderTest, check_with};
use crate::device::gpu::Gpu;
use crate::error::Result;
use crate::kernels::gpu::{Operands, Packed, Variant, devices};

/// Packs a layer for one variant on a GPU.
pub(in crate::kernels) type PackWith<F, D> =
    fn(&dyn Gpu, &'static Variant<D>, &SparseLayer<'_, F>, &Operands) -> Result<Packed>;

/// A format whose kernels on GPUs the suite knows.
pub(in crate::kernels) trait UnderTestOnGpus: UnderTest {
    /// How a variant computes.
    type Design: Copy + std::fmt::Debug + PartialEq + 'static;
    /// The design that is for one column alone.
    const ONE_COLUMN: Self::Design;
    /// The table.
    const GPU_VARIANTS: &'static [Variant<Self::Design>];
    /// What packs for a line of it.
    const PACK_WITH: PackWith<Self, Self::Design>;
}

/// Every variant that takes the case's columns, on every device that it is written for. `spoil` changes X after it is
/// drawn.
pub(in crate::kernels) fn check<F: UnderTestOnGpus>(
    case: &Case,
    seed: u64,
    spoil: impl Fn(&mut [f32]),
) {
    for gpu in devices() {
        let takes = |variant: &&'static Variant<F::Design>| {
            variant.target == gpu.language() && (case.n == 1 || variant.design != F::ONE_COLUMN)
        };
        for variant in F::GPU_VARIANTS.iter().filter(takes) {
            check_with::<F>(variant.name, case, seed, &spoil, |layer, x, y| {
                let operands = Operands::plain(layer.weights.shape(), case.n).unwrap();
                (F::PACK_WITH)(gpu, variant, layer, &operands).unwrap().run(gpu, x, y).unwrap();
            });
        }
    }
}

/// All of the shapes, with columns around which tiles end.
pub(in crate::kernels) fn around_all_edges<F: UnderTestOnGpus>(
    groups: &[usize],
    shapes: impl Fn(usize) -> Vec<[usize; 2]>,
) {
    for &group in groups {
        for [rows, inner] in shapes(group) {
            for n in [0, 1, 4, 17, 32, 131] {
                check::<F>(&Case { rows, inner, group, density: 0.3, n }, 1, |_| ());
            }
        }
    }
}

/// A NaN or an infinity reaches the rows that store what it is multiplied with, and no others.
pub(in crate::kernels) fn nan_and_infinity_reach_what_they_should<F: UnderTestOnGpus>(case: Case) {
    for n in [1, case.n] {
        let case = Case { n, ..case };
        for place in [0, n, case.inner * n / 2, case.inner * n - 1] {
            check::<F>(&case, 3, |x| x[place] = f32::NAN);
            check::<F>(&case, 3, |x| x[place] = f32::INFINITY);
        }
    }
}

//! The portable variant for one column: arrays of four, as the vectors of x86-64 without AVX. Written over
//! [`Portable`](crate::kernels::simd::Portable), whose vectors are of eight, it takes up to 2.6 times as long
//! there: eight sums no longer fit into the registers.

use super::rows::{ROWS, RowsFunction};

const LANES: usize = 4;

pub(super) fn function() -> Option<RowsFunction> {
    Some(RowsFunction { lanes: LANES, blocks })
}

/// Per block and step of inputs, the weights of eight rows. x is padded to whole steps.
fn blocks(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]) {
    let (vectors, _) = weights.as_chunks::<LANES>();
    let (steps, _) = vectors.as_chunks::<ROWS>();
    let (x, _) = x.as_chunks::<LANES>();
    for (block, out) in sums.iter_mut().enumerate() {
        let mut lanes = [[0.0_f32; LANES]; ROWS];
        for (rows, x) in steps[block * x.len()..(block + 1) * x.len()].iter().zip(x) {
            for (weights, sum) in rows.iter().zip(&mut lanes) {
                for lane in 0..LANES {
                    sum[lane] += weights[lane] * x[lane];
                }
            }
        }
        *out = lanes.map(|lanes| lanes.iter().sum());
    }
}

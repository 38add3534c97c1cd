//! The operation by its definition: plain loops over the stored weights, f64 accumulation.

use super::CsrLayer;
use crate::kernels::activate;

/// Computes `act(W x + b)`, `[M, n]`, from x `[K, n]`.
pub fn run(layer: &CsrLayer<'_>, x: &[f32], n: usize) -> Vec<f32> {
    let weights = layer.weights;
    let mut y = Vec::with_capacity(weights.shape()[0] * n);
    for row in 0..weights.shape()[0] {
        let places = weights.row_ptr()[row] as usize..weights.row_ptr()[row + 1] as usize;
        for column in 0..n {
            let bias = layer.bias.map_or(0.0, |bias| f64::from(bias[row]));
            let sum = places.clone().fold(bias, |sum, place| {
                let k = weights.columns()[place] as usize;
                sum + f64::from(weights.values()[place]) * f64::from(x[k * n + column])
            });
            y.push(activate(sum as f32, layer.relu));
        }
    }
    y
}

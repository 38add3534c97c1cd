//! The operation by its definition: plain loops over the stored weights, f64 accumulation.

use super::GroupLayer;
use crate::kernels::activate;

/// Computes `act(W x + b)`, `[M, n]`, from x `[K, n]`.
pub fn run(layer: &GroupLayer<'_>, x: &[f32], n: usize) -> Vec<f32> {
    let weights = layer.weights;
    let mut y = Vec::with_capacity(weights.shape()[0] * n);
    for row in 0..weights.shape()[0] {
        for column in 0..n {
            let bias = layer.bias.map_or(0.0, |bias| f64::from(bias[row]));
            let products =
                weights.row(row).map(|(k, w)| f64::from(w) * f64::from(x[k * n + column]));
            let sum = products.fold(bias, |sum, product| sum + product);
            y.push(activate(sum as f32, layer.relu));
        }
    }
    y
}

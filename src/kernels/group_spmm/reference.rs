//! The operation by its definition: plain loops over the stored weights, f64 accumulation.

use super::Layer;
use crate::kernels::activate;

/// Computes `act(W x + b)`, `[M, n]`, from x `[K, n]`.
pub fn run(layer: &Layer<'_>, x: &[f32], n: usize) -> Vec<f32> {
    let weights = layer.weights;
    let ([rows, columns], width) = (weights.shape(), weights.width());
    let tail = columns % width;
    let mut y = Vec::with_capacity(rows * n);
    for row in 0..rows {
        let (from, to) = (weights.row_ptr()[row] as usize, weights.row_ptr()[row + 1] as usize);
        for column in 0..n {
            let mut sum = layer.bias.map_or(0.0, |bias| f64::from(bias[row]));
            let mut add =
                |weight: f32, k: usize| sum += f64::from(weight) * f64::from(x[k * n + column]);
            for place in from..to {
                let first = weights.groups()[place] as usize * width;
                for lane in 0..width {
                    add(weights.values()[place * width + lane], first + lane);
                }
            }
            for lane in 0..tail {
                add(weights.tail()[row * tail + lane], columns - tail + lane);
            }
            y.push(activate(sum as f32, layer.relu));
        }
    }
    y
}

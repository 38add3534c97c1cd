//! The operation by its definition: plain loops over the stored weights, f64 accumulation.

use super::UprightLayer;
use crate::kernels::activate;

/// Computes `act(W x + b)`, `[M, n]`, from x `[K, n]`.
pub fn run(layer: &UprightLayer<'_>, x: &[f32], n: usize) -> Vec<f32> {
    let weights = layer.weights;
    let [rows, inner] = weights.shape();
    let mut sums = vec![0.0_f64; rows * n];
    let mut add = |row: usize, k: usize, weight: f32| {
        for column in 0..n {
            sums[row * n + column] += f64::from(weight) * f64::from(x[k * n + column]);
        }
    };
    for strip in 0..weights.strips() {
        for (k, group) in weights.strip(strip) {
            weights.strip_rows(strip).zip(group).for_each(|(row, &w)| add(row, k, w));
        }
    }
    for (place, &weight) in weights.tail().iter().enumerate() {
        add(rows - weights.tail_rows() + place / inner, place % inner, weight);
    }
    let bias = |row: usize| layer.bias.map_or(0.0, |bias| f64::from(bias[row]));
    let results = sums.iter().enumerate();
    results.map(|(place, &sum)| activate((sum + bias(place / n)) as f32, layer.relu)).collect()
}

//! The operation by its definition: plain loops over the kept nodes, f64 accumulation.

use super::MaskedLayer;
use crate::kernels::activate;

/// Computes the kept rows of `act(W x + b)` into y.
pub fn run(layer: &MaskedLayer<'_>, x: &[f32], n: usize, y: &mut [f32]) {
    let (inputs, outputs) = (layer.inputs.table(n), layer.outputs.table(n));
    for (&output, &to) in layer.outputs.kept.iter().zip(outputs.starts()) {
        for column in 0..n {
            let mut sum = layer.bias.map_or(0.0, |bias| f64::from(bias[output]));
            for (&input, &from) in layer.inputs.kept.iter().zip(inputs.starts()) {
                sum += f64::from(layer.weights[[output, input]]) * f64::from(x[from + column]);
            }
            y[to + column] = activate(sum as f32, layer.relu);
        }
    }
}

//! What a network costs: parameters and multiplications, layer by layer.

use super::spec::{Network, Op, ParameterRole};
use crate::error::Result;

/// The cost of one layer that has weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The layer's name.
    pub layer: String,
    /// Weights, biases not counted.
    pub weights: usize,
    /// Biases.
    pub biases: usize,
    /// Multiplications for one image.
    pub multiplies: usize,
}

impl Network {
    /// The cost of every convolution and dense layer, in order.
    ///
    /// # Errors
    /// Where the description contradicts itself.
    pub fn costs(&self) -> Result<Vec<Cost>> {
        let shapes = self.shapes()?;
        let parameters = self.parameters()?;
        let mut costs = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            if !matches!(layer.op, Op::Conv(_) | Op::Linear(_)) {
                continue;
            }
            let count = |role| {
                let own = parameters.iter().filter(|p| p.layer == index && p.role == role);
                own.map(|p| p.len()).sum::<usize>()
            };
            let weights = count(ParameterRole::Weight);
            let [_, height, width] = shapes[index];
            costs.push(Cost {
                layer: layer.name.clone(),
                weights,
                biases: count(ParameterRole::Bias),
                multiplies: weights * height * width,
            });
        }
        Ok(costs)
    }
}

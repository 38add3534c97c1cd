//! The operation by its definition: plain loops, f64 accumulation.

use super::{ConvLayer, Weights};
use crate::error::Result;
use crate::kernels::activate;

/// Convolves one image: x is `[channels, height, width]`, the result is `[outputs, ...]`.
///
/// # Errors
/// A kernel that does not fit into the image.
pub fn run(layer: &ConvLayer<'_>, x: &[f32]) -> Result<Vec<f32>> {
    let geometry = layer.geometry;
    let [height, width] = geometry.output()?;
    let square = geometry.side * geometry.side;
    let pixel = |channel: usize, down: usize, right: usize| {
        let down = down.checked_sub(geometry.padding).filter(|&down| down < geometry.height)?;
        let right = right.checked_sub(geometry.padding).filter(|&right| right < geometry.width)?;
        Some(f64::from(x[(channel * geometry.height + down) * geometry.width + right]))
    };
    let mut y = Vec::new();
    for (place, part) in layer.channel_groups()?.iter().enumerate() {
        for row in 0..part.shape[0] {
            // Weights that are not stored meet no pixel, not even a NaN.
            let weights: Vec<(usize, f32)> = match layer.weights {
                Weights::Groups(all) => all[place].row(row).collect(),
                Weights::Upright(all) => {
                    let stored = &all[place];
                    let height = stored.height();
                    if row / height < stored.strips() {
                        let groups = stored.strip(row / height);
                        groups.map(|(column, group)| (column, group[row % height])).collect()
                    } else {
                        stored.to_dense().row(row).iter().copied().enumerate().collect()
                    }
                }
                Weights::Dense(all) => all[place].row(row).iter().copied().enumerate().collect(),
                Weights::Csr(all) => {
                    let stored = all[place].to_dense();
                    let row = stored.row(row).to_vec().into_iter().enumerate();
                    row.filter(|&(_, weight)| weight != 0.0).collect()
                }
            };
            let bias = part.bias.map_or(0.0, |bias| f64::from(bias[row]));
            for (down, right) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let mut sum = bias;
                for &(column, weight) in &weights {
                    let (channel, tap) = (part.first_input + column / square, column % square);
                    let down = down * geometry.stride + tap / geometry.side;
                    let right = right * geometry.stride + tap % geometry.side;
                    sum += pixel(channel, down, right).unwrap_or(0.0) * f64::from(weight);
                }
                y.push(activate(sum as f32, layer.relu));
            }
        }
    }
    Ok(y)
}

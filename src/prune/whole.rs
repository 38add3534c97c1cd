//! A criterion applied to all layers of a network's weights, whatever the network: every array of two
//! or more axes whose name ends in `.weight`.

use super::{WeightMask, apply, magnitude, random, simd, upright};
use crate::error::{Error, Result};
use crate::network::{Weights, as_matrix};

/// How to choose the weights that go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Criterion {
    /// [`simd::mask`] on each layer.
    Simd {
        /// Weights in a group.
        width: usize,
        /// Groups with a root mean square below it go.
        threshold: f64,
    },
    /// [`upright::mask`] on each layer.
    Upright {
        /// Weights in a group.
        height: usize,
        /// Groups with a root mean square below it go.
        threshold: f64,
    },
    /// [`magnitude`] over all layers together, or on each.
    Magnitude {
        /// How much to remove, 0 to 1.
        fraction: f64,
        /// The same fraction of every layer.
        per_layer: bool,
    },
    /// [`random::groups`] on each layer.
    Random {
        /// Weights in a group.
        width: usize,
        /// How much of every layer to remove, 0 to 1.
        fraction: f64,
        /// Start of the random choice.
        seed: u64,
    },
}

/// The weights with those that the criterion removes set to 0.
///
/// # Errors
/// Weights without a prunable array; what the criterion refuses.
pub fn prune(weights: &Weights, criterion: Criterion) -> Result<Weights> {
    let layers: Vec<(&str, _)> = weights
        .iter()
        .filter(|(name, array)| is_weight(name, array.ndim()))
        .map(|(name, array)| Ok((name, as_matrix(name, array)?)))
        .collect::<Result<_>>()?;
    if layers.is_empty() {
        let expected = "an array of two or more axes whose name ends in .weight";
        return Err(Error::argument("prune", expected, "none"));
    }
    let matrices = layers.iter().map(|(_, matrix)| *matrix);
    let masks: Vec<WeightMask> = match criterion {
        Criterion::Simd { width, threshold } => {
            matrices.map(|matrix| simd::mask(matrix, width, threshold)).collect::<Result<_>>()?
        }
        Criterion::Upright { height, threshold } => matrices
            .map(|matrix| upright::mask(matrix, height, threshold))
            .collect::<Result<_>>()?,
        Criterion::Magnitude { fraction, per_layer: true } => {
            matrices.map(|matrix| magnitude::per_layer(matrix, fraction)).collect::<Result<_>>()?
        }
        Criterion::Magnitude { fraction, per_layer: false } => {
            magnitude::global(&matrices.collect::<Vec<_>>(), fraction)?
        }
        Criterion::Random { width, fraction, seed } => matrices
            .zip(seed..) // another stream for every layer
            .map(|(matrix, seed)| random::groups(matrix.dim(), width, fraction, seed))
            .collect::<Result<_>>()?,
    };
    let names: Vec<String> = layers.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut pruned = weights.clone();
    for (name, mask) in names.iter().zip(&masks) {
        if let Some((_, array)) = pruned.iter_mut().find(|(other, _)| other == name) {
            apply(name, array, mask)?;
        }
    }
    Ok(pruned)
}

/// Weights of all layers that are not 0, and all of them.
pub fn count(weights: &Weights) -> (usize, usize) {
    let layers = weights.iter().filter(|(name, array)| is_weight(name, array.ndim()));
    layers.fold((0, 0), |(kept, all), (_, array)| {
        (kept + array.iter().filter(|&&weight| weight != 0.0).count(), all + array.len())
    })
}

/// The arrays that belong to no layer: no weights, and neither of a layer that has some nor masks of nodes.
pub fn unused(weights: &Weights) -> Vec<&str> {
    let layer = |name: &str| name.rsplit_once('.').map(|(layer, _)| layer.to_owned());
    let layers: Vec<String> = weights
        .iter()
        .filter(|(name, array)| is_weight(name, array.ndim()) || name.ends_with(".weight"))
        .filter_map(|(name, _)| {
            layer(name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'))
        })
        .collect();
    let is_used = |name: &str, axes: usize| {
        is_weight(name, axes)
            || layer(name).is_some_and(|layer| layers.contains(&layer))
            || [".alpha", ".beta"].iter().any(|end| name.ends_with(end))
    };
    let all = weights.iter().filter(|(name, array)| !is_used(name, array.ndim()));
    all.map(|(name, _)| name).collect()
}

/// Whether an array holds a layer's weights: `ip1.weight`, or `conv2.weight.1` of an uneven group.
fn is_weight(name: &str, axes: usize) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('.');
    axes >= 2 && name.ends_with(".weight")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn};

    /// Two layers, the second ten times as large as the first, and what must stay as it is.
    fn weights() -> Weights {
        let ramp = |rows: usize, columns: usize, scale: f32| {
            ArrayD::from_shape_fn(IxDyn(&[rows, columns]), |at| {
                scale * (1 + at[0] * columns + at[1]) as f32
            })
        };
        let mut weights = Weights::default();
        weights.insert("ip1.weight", ramp(4, 16, 0.01));
        weights.insert("conv2.weight.1", ramp(4, 16, 0.1));
        weights.insert("ip1.bias", ArrayD::from_elem(IxDyn(&[4]), 1e-9));
        weights.insert("mask_ip1.alpha", ArrayD::from_elem(IxDyn(&[1, 4]), 1e-9));
        weights
    }

    fn kept(weights: &Weights, name: &str) -> usize {
        weights.get(name).unwrap().iter().filter(|&&weight| weight != 0.0).count()
    }

    #[test]
    fn every_criterion_prunes_the_layers_and_nothing_else() {
        for (criterion, expected) in [
            (Criterion::Magnitude { fraction: 0.5, per_layer: true }, [32, 32]),
            (Criterion::Magnitude { fraction: 0.5, per_layer: false }, [5, 59]),
            (Criterion::Simd { width: 8, threshold: 0.33 }, [32, 64]),
            (Criterion::Upright { height: 2, threshold: 0.33 }, [32, 64]),
            (Criterion::Random { width: 8, fraction: 0.25, seed: 1 }, [48, 48]),
        ] {
            let pruned = prune(&weights(), criterion).unwrap();
            let found = ["ip1.weight", "conv2.weight.1"].map(|name| kept(&pruned, name));
            assert_eq!(found, expected, "{criterion:?}");
            assert_eq!(count(&pruned), (expected.iter().sum(), 128));
            for name in ["ip1.bias", "mask_ip1.alpha"] {
                assert_eq!(pruned.get(name).unwrap(), weights().get(name).unwrap());
            }
        }
    }

    #[test]
    fn weights_without_a_layer_are_refused() {
        let mut only_bias = Weights::default();
        only_bias.insert("ip1.bias", ArrayD::zeros(IxDyn(&[4])));
        let criterion = Criterion::Magnitude { fraction: 0.5, per_layer: true };
        assert!(prune(&only_bias, criterion).unwrap_err().to_string().contains(".weight"));
    }
}

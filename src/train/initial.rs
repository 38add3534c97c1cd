//! Initial weights, drawn on the host so that every device starts from the same ones.

use ndarray::{ArrayD, IxDyn};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::recipe::{Distribution, Initial};
use crate::error::Result;
use crate::network::{Network, Op, Parameter, ParameterRole, Weights};
use crate::seed;

/// The weights from which a network's training starts. Batch normalisations start as the identity.
///
/// # Errors
/// Where the network's description contradicts itself.
pub fn initial_weights(network: &Network, initial: &Initial, seed: u64) -> Result<Weights> {
    let parameters = network.parameters()?;
    let mut weights = Weights::default();
    for (place, parameter) in parameters.iter().enumerate() {
        let distribution = match network.layers[parameter.layer].op {
            Op::Conv(_) => Some(&initial.conv),
            Op::Linear(_) => Some(&initial.ip),
            _ => None,
        };
        let mut rng = seed::stream(seed, "initial weights", &[place as u64]);
        let values: Vec<f32> = match (parameter.role, distribution) {
            (ParameterRole::Weight | ParameterRole::Bias, Some(Distribution::FanIn {})) => {
                let bound = 1.0 / (fan_in(&parameters, parameter) as f64).sqrt();
                (0..parameter.len()).map(|_| rng.random_range(-bound..bound) as f32).collect()
            }
            (ParameterRole::Weight, Some(Distribution::Normal { deviation, .. })) => {
                (0..parameter.len()).map(|_| (normal(&mut rng) * deviation) as f32).collect()
            }
            (ParameterRole::Weight, Some(Distribution::CentredHe {})) => {
                centred_he(&mut rng, parameter.len(), fan_in(&parameters, parameter))
            }
            (ParameterRole::Bias, Some(Distribution::Normal { bias, .. })) => {
                vec![*bias as f32; parameter.len()]
            }
            (ParameterRole::Scale | ParameterRole::RunningVariance, _) => {
                vec![1.0; parameter.len()]
            }
            _ => vec![0.0; parameter.len()],
        };
        let mut array = ArrayD::zeros(IxDyn(&parameter.shape));
        array.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
        weights.insert(&parameter.name, array);
    }
    Ok(weights)
}

/// How many inputs a node of the parameter's layer reads.
fn fan_in(parameters: &[Parameter], parameter: &Parameter) -> usize {
    let weight = parameters
        .iter()
        .find(|other| other.layer == parameter.layer && other.role == ParameterRole::Weight);
    weight.map_or(1, |weight| weight.shape[1..].iter().product::<usize>().max(1))
}

/// Normal numbers with variance 2 / `inputs`; each node's `inputs` of them less their mean.
fn centred_he(rng: &mut ChaCha8Rng, len: usize, inputs: usize) -> Vec<f32> {
    let deviation = (2.0 / inputs as f64).sqrt();
    let mut values: Vec<f64> = (0..len).map(|_| normal(rng) * deviation).collect();
    for node in values.chunks_mut(inputs) {
        let mean = node.iter().sum::<f64>() / node.len() as f64;
        node.iter_mut().for_each(|value| *value -= mean);
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// A standard normal number, by Box and Muller's transform.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (2.0 * std::f64::consts::PI * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;

    #[test]
    fn fan_in_weights_fill_their_bounds() {
        let fan_in = || Distribution::FanIn {};
        let initial = Initial { conv: fan_in(), ip: fan_in() };
        let weights = initial_weights(&zoo::lenet_5(), &initial, 1).unwrap();
        weights.check(&zoo::lenet_5()).unwrap();
        for (name, inputs) in
            [("conv1", 25.0_f32), ("conv2", 500.0), ("ip1", 800.0), ("ip2", 500.0)]
        {
            let bound = 1.0 / inputs.sqrt();
            for part in ["weight", "bias"] {
                let array = weights.get(&format!("{name}.{part}")).unwrap();
                let largest = array.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                assert!(
                    largest <= bound && largest > 0.7 * bound,
                    "{name}.{part}: {largest} of {bound}"
                );
            }
        }
        assert_ne!(weights, initial_weights(&zoo::lenet_5(), &initial, 2).unwrap());
    }

    #[test]
    fn centred_he_weights_have_the_deviation_of_their_inputs_and_no_mean() {
        let he = || Distribution::CentredHe {};
        let initial = Initial { conv: he(), ip: he() };
        let weights = initial_weights(&zoo::convnet(), &initial, 1).unwrap();
        for (name, inputs) in [("conv2", 800), ("ip1", 1024)] {
            let weight = weights.get(&format!("{name}.weight")).unwrap();
            let values: Vec<f64> = weight.iter().map(|&value| value.into()).collect();
            let square = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
            approx::assert_relative_eq!(square, 2.0 / inputs as f64, max_relative = 0.05);
            for node in values.chunks(inputs) {
                approx::assert_abs_diff_eq!(node.iter().sum::<f64>(), 0.0, epsilon = 1e-5);
            }
            let bias = weights.get(&format!("{name}.bias")).unwrap();
            assert!(bias.iter().all(|&bias| bias == 0.0));
        }
    }

    #[test]
    fn normal_weights_have_their_deviation_and_bias() {
        let initial = Initial {
            conv: Distribution::Normal { deviation: 0.05, bias: 1.0 },
            ip: Distribution::Normal { deviation: 0.01, bias: 0.0 },
        };
        let weights = initial_weights(&zoo::convnet(), &initial, 1).unwrap();
        let weight = weights.get("conv2.weight").unwrap();
        let square =
            weight.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / weight.len() as f64;
        approx::assert_relative_eq!(square.sqrt(), 0.05, max_relative = 0.02);
        assert!(weights.get("conv2.bias").unwrap().iter().all(|&bias| bias == 1.0));
        assert!(weights.get("ip1.bias").unwrap().iter().all(|&bias| bias == 0.0));
    }
}

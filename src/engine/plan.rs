//! The layers of a network as the steps that a device runs: what can be done by the step before is done
//! there, so that ReLUs, biases, dropout and most batch normalisations are none.

use ndarray::{ArrayView2, Axis};

use crate::error::Result;
use crate::kernels::convolution::Geometry;
use crate::kernels::pool_eltwise::{self, Window};
use crate::network::{BatchNorm, Network, Op, Pool, Shape, Weights, as_matrix};

/// What a network does, step by step, with weights borrowed from whoever planned it.
pub(super) struct Plan<'a> {
    pub network: &'a str,
    pub input: Shape,
    pub output: Shape,
    pub steps: Vec<Step<'a>>,
}

/// One step.
pub(super) struct Step<'a> {
    pub name: &'a str,
    pub input: Shape,
    pub output: Shape,
    pub work: Work<'a>,
}

/// What a step does.
pub(super) enum Work<'a> {
    /// A convolution, with a matrix for each of its groups of channels.
    Conv { geometry: Geometry, product: Product<'a> },
    /// A dense layer over all features.
    Linear(Product<'a>),
    /// What lies between products.
    PoolEltwise(NonGemmOp),
}

/// Weights, bias and activation of a convolution or a dense layer.
pub(super) struct Product<'a> {
    pub matrices: Vec<ArrayView2<'a, f32>>,
    pub bias: &'a [f32],
    pub relu: bool,
}

/// As [`pool_eltwise::Op`], with scales and shifts of its own.
#[derive(Clone, Debug)]
pub(super) enum NonGemmOp {
    Max(Window),
    MaxAffine { window: Window, scale: Vec<f32>, shift: Vec<f32> },
    Average(Window),
    Norm { size: usize, alpha: f32, beta: f32 },
    Affine { scale: Vec<f32>, shift: Vec<f32>, relu: bool },
    Relu,
    Copy,
}

impl NonGemmOp {
    pub fn op(&self) -> pool_eltwise::Op<'_> {
        match self {
            &Self::Max(window) => pool_eltwise::Op::Max(window),
            Self::MaxAffine { window, scale, shift } => {
                pool_eltwise::Op::MaxAffine { window: *window, scale, shift }
            }
            &Self::Average(window) => pool_eltwise::Op::Average(window),
            &Self::Norm { size, alpha, beta } => pool_eltwise::Op::Norm { size, alpha, beta },
            Self::Affine { scale, shift, relu } => {
                pool_eltwise::Op::Affine { scale, shift, relu: *relu }
            }
            Self::Relu => pool_eltwise::Op::Copy { relu: true },
            Self::Copy => pool_eltwise::Op::Copy { relu: false },
        }
    }

    /// Bytes of its numbers.
    pub fn bytes(&self) -> usize {
        match self {
            Self::MaxAffine { scale, shift, .. } | Self::Affine { scale, shift, .. } => {
                4 * (scale.len() + shift.len())
            }
            _ => 0,
        }
    }
}

impl<'a> Plan<'a> {
    /// Plans a network, whose nodes all live.
    ///
    /// # Errors
    /// Weights that are not the network's; layers that contradict each other.
    pub fn of(network: &'a Network, weights: &'a Weights) -> Result<Self> {
        weights.check(network)?;
        let shapes = network.shapes()?;
        let mut steps: Vec<Step<'a>> = Vec::new();
        let does_something =
            |index: &usize| !matches!(network.layers[*index].op, Op::Dropout(_) | Op::Mask);
        let order: Vec<usize> = (0..network.layers.len()).filter(does_something).collect();
        let mut place = 0;
        while let Some(&index) = order.get(place) {
            let layer = &network.layers[index];
            let next = order.get(place + 1).map(|&next| &network.layers[next].op);
            let relu = next == Some(&Op::Relu);
            let (input, mut output) = (network.input_of(index, &shapes), shapes[index]);
            // What a step does beyond its own layer.
            let mut taken = 1;
            let work = match &layer.op {
                Op::Conv(conv) => {
                    taken += usize::from(relu);
                    let [channels, height, width] = input;
                    let (side, stride, padding) = (conv.kernel, conv.stride, conv.padding);
                    let geometry = Geometry { channels, height, width, side, stride, padding };
                    Work::Conv { geometry, product: product(network, weights, index, input, relu)? }
                }
                Op::Linear(_) => {
                    taken += usize::from(relu);
                    Work::Linear(product(network, weights, index, input, relu)?)
                }
                Op::Relu => Work::PoolEltwise(NonGemmOp::Relu),
                Op::MaxPool(pool) => Work::PoolEltwise(NonGemmOp::Max(pool.into())),
                Op::AveragePool(pool) => Work::PoolEltwise(NonGemmOp::Average(pool.into())),
                Op::LocalResponseNorm(norm) => {
                    let (alpha, beta) = (norm.alpha as f32, norm.beta as f32);
                    Work::PoolEltwise(NonGemmOp::Norm { size: norm.size, alpha, beta })
                }
                Op::BatchNorm(norm) => {
                    let [scale, shift] = affine(weights, &layer.name, norm)?;
                    if let Some(Op::MaxPool(pool)) = next {
                        taken += 1;
                        output = shapes[order[place + 1]];
                        let window = pool.into();
                        Work::PoolEltwise(NonGemmOp::MaxAffine { window, scale, shift })
                    } else {
                        taken += usize::from(relu);
                        Work::PoolEltwise(NonGemmOp::Affine { scale, shift, relu })
                    }
                }
                Op::Dropout(_) | Op::Mask => Work::PoolEltwise(NonGemmOp::Copy), // filtered out above
            };
            steps.push(Step { name: &layer.name, input, output, work });
            place += taken;
        }
        let output = shapes.last().copied().unwrap_or(network.input);
        Ok(Self { network: &network.name, input: network.input, output, steps })
    }
}

impl From<&Pool> for Window {
    fn from(&Pool { kernel, stride, padding }: &Pool) -> Self {
        Self { size: kernel, stride, padding }
    }
}

/// The scale and the shift that a batch normalisation with fixed statistics comes to.
fn affine(weights: &Weights, name: &str, norm: &BatchNorm) -> Result<[Vec<f32>; 2]> {
    let part = |part: &str| weights.get(&format!("{name}.{part}"));
    let (weight, bias) = (part("weight")?, part("bias")?);
    let (mean, variance) = (part("running_mean")?, part("running_var")?);
    let scale: Vec<f64> = weight
        .iter()
        .zip(variance)
        .map(|(&w, &v)| f64::from(w) / (f64::from(v) + norm.epsilon).sqrt())
        .collect();
    let shift = bias
        .iter()
        .zip(&scale)
        .zip(mean)
        .map(|((&b, &s), &m)| (f64::from(b) - s * f64::from(m)) as f32)
        .collect();
    Ok([scale.into_iter().map(|scale| scale as f32).collect(), shift])
}

/// The weights of the layer at `index`, a matrix for each group of channels.
fn product<'a>(
    network: &'a Network,
    weights: &'a Weights,
    index: usize,
    input: Shape,
    relu: bool,
) -> Result<Product<'a>> {
    let layer = &network.layers[index];
    let name = &layer.name;
    let key = format!("{name}.weight");
    let mut matrices = Vec::new();
    match (&layer.op, weights.find(&key)) {
        (Op::Conv(_), Some(all)) => {
            let mut rest = as_matrix(&key, all)?;
            for group in network.groups_of(index, input)? {
                let (own, remaining) = rest.split_at(Axis(0), group.outputs);
                matrices.push(own);
                rest = remaining;
            }
        }
        (Op::Conv(_), None) => {
            for place in 0..network.groups_of(index, input)?.len() {
                let key = format!("{key}.{place}");
                matrices.push(as_matrix(&key, weights.get(&key)?)?);
            }
        }
        _ => matrices.push(as_matrix(&key, weights.get(&key)?)?),
    }
    let bias = weights.get(&format!("{name}.bias"))?;
    // Weights are kept in standard order.
    Ok(Product { matrices, bias: bias.as_slice().unwrap_or_default(), relu })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Layer, zoo};

    /// Each step of a network's plan: its name, and what it does in a word.
    fn steps(network: &Network) -> Vec<String> {
        let weights = Weights::random(network, 1).unwrap();
        let plan = Plan::of(network, &weights).unwrap();
        let word = |step: &Step<'_>| match &step.work {
            Work::Conv { product, .. } => (if product.relu { "conv+relu" } else { "conv" }).into(),
            Work::Linear(product) => (if product.relu { "dense+relu" } else { "dense" }).into(),
            Work::PoolEltwise(NonGemmOp::Max(_)) => "max".to_owned(),
            Work::PoolEltwise(NonGemmOp::MaxAffine { .. }) => "bn+max".into(),
            Work::PoolEltwise(NonGemmOp::Average(_)) => "average".into(),
            Work::PoolEltwise(NonGemmOp::Norm { .. }) => "norm".into(),
            Work::PoolEltwise(NonGemmOp::Affine { relu: true, .. }) => "bn+relu".into(),
            Work::PoolEltwise(NonGemmOp::Affine { .. }) => "bn".into(),
            Work::PoolEltwise(NonGemmOp::Relu) => "relu".into(),
            Work::PoolEltwise(NonGemmOp::Copy) => "copy".into(),
        };
        plan.steps.iter().map(|step| format!("{} {}", step.name, word(step))).collect()
    }

    #[test]
    fn relus_biases_masks_and_dropout_are_no_steps_of_their_own() {
        let expected = ["conv1 conv+relu", "pool1 max", "conv2 conv+relu", "pool2 max"];
        let expected = [&expected[..], &["ip1 dense+relu", "ip2 dense"]].concat();
        assert_eq!(steps(&zoo::lenet_5()), expected);
        let nin = steps(&zoo::nin());
        assert_eq!(nin.len(), 12, "nine convolutions, three poolings: {nin:?}");
        assert!(nin.iter().filter(|step| step.ends_with("conv+relu")).count() == 9, "{nin:?}");
        let convnet = steps(&zoo::convnet());
        assert_eq!(convnet[1..3], ["pool1 max", "norm1 norm"], "{convnet:?}");
    }

    #[test]
    fn a_batch_normalisation_is_folded_into_the_pooling_or_the_relu_after_it() {
        let alexnet = steps(&zoo::narrow("alexnet").unwrap());
        assert_eq!(alexnet[..2], ["conv1 conv+relu", "bn1 bn+max"], "{alexnet:?}");
        let with = |after: &[Op]| {
            let op =
                |(place, op): (usize, &Op)| Layer { name: format!("l{place}"), op: op.clone() };
            let norm = Op::BatchNorm(BatchNorm { epsilon: 0.1, momentum: 0.1 });
            let all: Vec<Op> = [Op::Relu, norm].into_iter().chain(after.iter().cloned()).collect();
            let layers = all.iter().enumerate().map(op).collect();
            steps(&Network { name: "test".into(), input: [2, 4, 4], layers })
        };
        assert_eq!(with(&[Op::Relu]), ["l0 relu", "l1 bn+relu"]);
        assert_eq!(with(&[]), ["l0 relu", "l1 bn"]);
        // A ReLU after the pooling is a step: the pooled pixels are what it cuts.
        let pool = Op::MaxPool(Pool { kernel: 2, stride: 2, padding: 0 });
        assert_eq!(with(&[pool, Op::Relu]), ["l0 relu", "l1 bn+max", "l3 relu"]);
    }

    #[test]
    fn a_folded_batch_normalisation_is_its_formula() {
        let layers = vec![Layer {
            name: "bn".into(),
            op: Op::BatchNorm(BatchNorm { epsilon: 0.1, momentum: 0.1 }),
        }];
        let network = Network { name: "test".into(), input: [2, 1, 1], layers };
        let weights = Weights::random(&network, 3).unwrap();
        let plan = Plan::of(&network, &weights).unwrap();
        let Work::PoolEltwise(NonGemmOp::Affine { scale, shift, .. }) = &plan.steps[0].work else {
            panic!("a batch normalisation alone")
        };
        for channel in 0..2 {
            let of = |part: &str| f64::from(weights.get(&format!("bn.{part}")).unwrap()[channel]);
            let x = 0.7;
            let expected = of("weight") * (x - of("running_mean"))
                / (of("running_var") + 0.1).sqrt()
                + of("bias");
            let found = f64::from(scale[channel]) * x + f64::from(shift[channel]);
            approx::assert_relative_eq!(found, expected, epsilon = 1e-6, max_relative = 1e-5);
        }
    }

    #[test]
    fn every_step_reads_the_shape_that_the_one_before_it_wrote() {
        for name in zoo::NAMES {
            let network = zoo::narrow(name).unwrap();
            let weights = Weights::random(&network, 1).unwrap();
            let plan = Plan::of(&network, &weights).unwrap();
            assert_eq!(plan.steps[0].input, plan.input);
            for pair in plan.steps.windows(2) {
                assert_eq!(pair[0].output, pair[1].input, "{name}: {}", pair[1].name);
            }
            assert_eq!(plan.steps.last().unwrap().output, plan.output);
            // A matrix for each group of channels, with all outputs and all inputs between them.
            for step in &plan.steps {
                let Work::Conv { geometry, product } = &step.work else { continue };
                let square = geometry.side * geometry.side;
                let outputs: usize = product.matrices.iter().map(|m| m.nrows()).sum();
                let inputs: usize = product.matrices.iter().map(|m| m.ncols() / square).sum();
                assert_eq!((outputs, inputs), (step.output[0], geometry.channels), "{name}");
            }
        }
    }
}

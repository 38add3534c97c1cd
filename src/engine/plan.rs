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

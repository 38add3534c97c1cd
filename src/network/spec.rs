//! The vocabulary in which a network is described.
//!
//! A network is a chain: every layer reads the one before it. Its parameters carry the layer's name
//! (`conv1.weight`), as in the authors' checkpoints. What follows from a description, its shapes,
//! parameters and costs, is computed, never written down a second time.

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Channels, height and width of one image or activation. A vector of n features is `[n, 1, 1]`.
pub type Shape = [usize; 3];

/// A chain of layers over images of one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Such as `lenet-5`.
    pub name: String,
    /// Shape of one input image.
    pub input: Shape,
    /// From the input to the class scores.
    pub layers: Vec<Layer>,
}

/// A named step of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Unique in its network; the prefix of the layer's parameters.
    pub name: String,
    /// What the layer does.
    pub op: Op,
}

/// What a layer does to the activations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Convolution with bias. Its nodes are its output channels.
    Conv(Conv),
    /// A dense layer with bias over all features of its input, flattened channel by channel. Its
    /// nodes are its outputs.
    Linear(Linear),
    /// max(x, 0).
    Relu,
    /// The maximum of each window; padding never wins.
    MaxPool(Pool),
    /// The mean of each window, padding counted in.
    AveragePool(Pool),
    /// Response normalisation over neighbouring pixels of the same channel.
    LocalResponseNorm(LocalResponseNorm),
    /// Batch normalisation per channel, with scale and shift.
    BatchNorm(BatchNorm),
    /// Drops activations at training time.
    Dropout(Dropout),
    /// Lets the nodes of the convolution or dense layer before it live or die (node pruning).
    Mask,
}

/// A convolution with square kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between two outputs, in pixels; 1 where a description leaves it out.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros on each side; none where a description leaves them out.
    #[serde(default)]
    pub padding: usize,
    /// How the channels are split; not at all where a description leaves it out.
    #[serde(default)]
    pub groups: Groups,
}

/// How a convolution's channels are split into groups that do not see each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Groups {
    /// That many groups of equal size; one is an ordinary convolution.
    Even(usize),
    /// Groups of any sizes, first channels first: what pruning leaves of even ones.
    Uneven(Vec<Group>),
}

impl Default for Groups {
    fn default() -> Self {
        Self::Even(1)
    }
}

fn one() -> usize {
    1
}

/// The channels of one group of a convolution. Either count may be 0 after pruning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Input channels that the group reads.
    pub inputs: usize,
    /// Output channels that it makes.
    pub outputs: usize,
}

/// A dense layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Output features.
    pub outputs: usize,
}

/// A square pooling window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Height and width of the window.
    pub kernel: usize,
    /// Step between two windows, in pixels.
    pub stride: usize,
    /// Border on each side; none where a description leaves it out.
    #[serde(default)]
    pub padding: usize,
}

/// y = x / (1 + alpha * m)^beta, m the mean of x^2 over a `size` x `size` window of the same
/// channel, zero-padded, the padding counted in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// Height and width of the window; odd.
    pub size: usize,
    /// Weight of the mean square.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
}

/// Batch normalisation. What a description leaves out is as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the newest batch in the running mean and variance.
    pub momentum: f64,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1 }
    }
}

/// Dropout, whose rate can follow the nodes that a mask leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability of dropping an activation while all nodes live.
    pub p: f64,
    /// How the rate shrinks with a mask; not at all where a description leaves it out.
    #[serde(default)]
    pub shrink: Option<Shrinking>,
}

impl Dropout {
    /// The rate once `kept` (0 to 1) of the nodes of the mask that it follows are left.
    pub fn rate(&self, kept: f64) -> f64 {
        match &self.shrink {
            None => self.p,
            Some(Shrinking { law: ShrinkLaw::Linear, .. }) => self.p * kept,
            Some(Shrinking { law: ShrinkLaw::SquareRoot, .. }) => self.p * kept.sqrt(),
        }
    }
}

/// A dropout rate that follows a mask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shrinking {
    /// The mask's layer.
    pub mask: String,
    /// How the rate depends on the kept fraction of its nodes.
    pub law: ShrinkLaw,
}

/// How a dropout rate depends on the kept fraction f of a mask's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShrinkLaw {
    /// p f (NIN).
    Linear,
    /// p sqrt(f) (AlexNet).
    SquareRoot,
}

/// What the nodes of a mask are. The authors' scripts call dense layers `ip`, inner products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Output channels of a convolution.
    Conv,
    /// Outputs of a dense layer.
    Ip,
}

/// A mask layer and the layer whose nodes it governs.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskSite {
    /// The mask's layer name.
    pub name: String,
    /// Its place in [`Network::layers`].
    pub layer: usize,
    /// The place of the convolution or dense layer whose nodes it masks.
    pub producer: usize,
    /// What these nodes are.
    pub kind: NodeKind,
    /// How many there are.
    pub nodes: usize,
}

/// What a parameter does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterRole {
    /// Weights, `[outputs, inputs]` or `[outputs, inputs of the group, kernel, kernel]`.
    Weight,
    /// Bias, `[outputs]`.
    Bias,
    /// Scale of a batch normalisation, `[channels]`.
    Scale,
    /// Shift of a batch normalisation, `[channels]`.
    Shift,
    /// Running mean of a batch normalisation, `[channels]`; not trained.
    RunningMean,
    /// Running variance of a batch normalisation, `[channels]`; not trained.
    RunningVariance,
}

impl ParameterRole {
    /// Whether gradient descent changes the parameter.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
}

/// A named array that a network needs to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Such as `conv1.weight`, or `conv2.weight.1` for a group of an uneven convolution.
    pub name: String,
    /// The place of its layer in [`Network::layers`].
    pub layer: usize,
    /// What it does there.
    pub role: ParameterRole,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Parameter {
    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Network {
    /// The parameters that the network needs to run, in order of layers; masks not included.
    ///
    /// # Errors
    /// Where the description contradicts itself.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let shapes = self.shapes()?;
        let mut parameters = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let input = if index == 0 { self.input } else { shapes[index - 1] };
            let mut push = |suffix: &str, role, shape: Vec<usize>| {
                let name = format!("{}.{suffix}", layer.name);
                parameters.push(Parameter { name, layer: index, role, shape });
            };
            match &layer.op {
                Op::Conv(conv) => {
                    let groups = self.groups_of(index, input)?;
                    let square = [conv.kernel, conv.kernel];
                    match conv.groups {
                        Groups::Even(_) => {
                            let shape = [&[conv.outputs, groups[0].inputs], &square[..]].concat();
                            push("weight", ParameterRole::Weight, shape);
                        }
                        Groups::Uneven(_) => {
                            for (place, group) in groups.iter().enumerate() {
                                let shape = [&[group.outputs, group.inputs], &square[..]].concat();
                                push(&format!("weight.{place}"), ParameterRole::Weight, shape);
                            }
                        }
                    }
                    push("bias", ParameterRole::Bias, vec![conv.outputs]);
                }
                Op::Linear(linear) => {
                    let inputs = input.iter().product();
                    push("weight", ParameterRole::Weight, vec![linear.outputs, inputs]);
                    push("bias", ParameterRole::Bias, vec![linear.outputs]);
                }
                Op::BatchNorm(_) => {
                    for (suffix, role) in [
                        ("weight", ParameterRole::Scale),
                        ("bias", ParameterRole::Shift),
                        ("running_mean", ParameterRole::RunningMean),
                        ("running_var", ParameterRole::RunningVariance),
                    ] {
                        push(suffix, role, vec![input[0]]);
                    }
                }
                Op::Relu
                | Op::MaxPool(_)
                | Op::AveragePool(_)
                | Op::LocalResponseNorm(_)
                | Op::Dropout(_)
                | Op::Mask => {}
            }
        }
        Ok(parameters)
    }

    /// The mask layers, in order.
    ///
    /// # Errors
    /// Where the description contradicts itself, such as a mask with no nodes before it.
    pub fn mask_sites(&self) -> Result<Vec<MaskSite>> {
        let shapes = self.shapes()?;
        let mut producer = None;
        let mut sites = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            match layer.op {
                Op::Conv(_) => producer = Some((index, NodeKind::Conv)),
                Op::Linear(_) => producer = Some((index, NodeKind::Ip)),
                Op::Mask => {
                    let (producer, kind) = producer.ok_or_else(|| {
                        self.wrong(index, "a convolution or dense layer before the mask", "none")
                    })?;
                    let nodes = shapes[producer][0];
                    sites.push(MaskSite {
                        name: layer.name.clone(),
                        layer: index,
                        producer,
                        kind,
                        nodes,
                    });
                }
                _ => {}
            }
        }
        Ok(sites)
    }
}

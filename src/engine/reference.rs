//! Runs a network by plain loops in f64: slow, obvious, and what every other way of running it is
//! compared with.

use ndarray::{Array2, ArrayD, ArrayView4};

use crate::error::{Error, Result};
use crate::network::{
    BatchNorm, Conv, Group, LocalResponseNorm, Network, NodeMasks, Op, Pool, Shape, Weights,
};

/// The class scores `[batch, classes]` of `images`, `[batch, channels, height, width]`. Nodes that
/// `masks` block emit 0 after their mask; dropout does nothing.
///
/// # Errors
/// Images of another shape than the network takes, weights that are missing.
pub fn run(
    network: &Network,
    weights: &Weights,
    masks: &NodeMasks,
    images: ArrayView4<'_, f32>,
) -> Result<Array2<f64>> {
    let (batch, channels, height, width) = images.dim();
    let operation = format!("run {}", network.name);
    Error::check_shape(&operation, "images", &network.input, &[channels, height, width])?;
    let shapes = network.shapes()?;
    let classes: usize = shapes.last().unwrap_or(&network.input).iter().product();
    let mut scores = Array2::zeros((batch, classes));
    for (image, mut row) in images.outer_iter().zip(scores.rows_mut()) {
        let mut values: Vec<f64> = image.iter().map(|&value| f64::from(value)).collect();
        for (index, layer) in network.layers.iter().enumerate() {
            let input = Activation { shape: network.input_of(index, &shapes), values };
            let output = shapes[index];
            let parameter = |part: &str| weights.get(&format!("{}.{part}", layer.name));
            values = match &layer.op {
                Op::Conv(conv) => {
                    let groups = network.groups_of(index, input.shape)?;
                    let kernels = match weights.find(&format!("{}.weight", layer.name)) {
                        Some(all) => vec![all],
                        None => (0..groups.len())
                            .map(|place| parameter(&format!("weight.{place}")))
                            .collect::<Result<_>>()?,
                    };
                    convolve(&input, conv, &groups, &kernels, parameter("bias")?, output)
                }
                Op::Linear(_) => dense(&input, parameter("weight")?, parameter("bias")?),
                Op::Relu => input.values.iter().map(|value| value.max(0.0)).collect(),
                Op::MaxPool(pool) => windows(&input, pool, output, |window, _| {
                    window.fold(f64::NEG_INFINITY, f64::max)
                }),
                Op::AveragePool(pool) => {
                    windows(&input, pool, output, |window, area| window.sum::<f64>() / area)
                }
                Op::LocalResponseNorm(norm) => response_norm(&input, norm),
                Op::BatchNorm(norm) => {
                    let parts = [
                        parameter("weight")?,
                        parameter("bias")?,
                        parameter("running_mean")?,
                        parameter("running_var")?,
                    ];
                    batch_norm(&input, norm, parts)
                }
                Op::Dropout(_) => input.values,
                Op::Mask => match masks.get(&layer.name) {
                    Some(alive) => zero_masked(input, alive),
                    None => input.values,
                },
            };
        }
        row.iter_mut().zip(values).for_each(|(score, value)| *score = value);
    }
    Ok(scores)
}

/// One image's activation, channel by channel, row by row.
struct Activation {
    shape: Shape,
    values: Vec<f64>,
}

impl Activation {
    /// A pixel, counted from a padded border; `None` on the border.
    fn pixel(&self, channel: usize, y: usize, x: usize, padding: usize) -> Option<f64> {
        let [_, height, width] = self.shape;
        let (y, x) = (y.checked_sub(padding)?, x.checked_sub(padding)?);
        (y < height && x < width).then(|| self.values[(channel * height + y) * width + x])
    }

    fn area(&self) -> usize {
        self.shape[1] * self.shape[2]
    }
}

/// `kernels` holds one array for all groups, or one per group.
fn convolve(
    input: &Activation,
    conv: &Conv,
    groups: &[Group],
    kernels: &[&ArrayD<f32>],
    bias: &ArrayD<f32>,
    [_, height, width]: Shape,
) -> Vec<f64> {
    let mut values = Vec::new();
    let mut first_input = 0;
    // Flat, since an index of four numbers takes longer than the product it is for.
    let kernels: Vec<Vec<f32>> =
        kernels.iter().map(|array| array.iter().copied().collect()).collect();
    for (place, group) in groups.iter().enumerate() {
        let length = group.inputs * conv.kernel * conv.kernel;
        for output in 0..group.outputs {
            let node = values.len() / (height * width).max(1);
            let (weights, row) =
                if kernels.len() == 1 { (&kernels[0], node) } else { (&kernels[place], output) };
            let weights = &weights[row * length..(row + 1) * length];
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let mut sum = f64::from(bias[[node]]);
                for channel in 0..group.inputs {
                    for ky in 0..conv.kernel {
                        for kx in 0..conv.kernel {
                            let (py, px) = (y * conv.stride + ky, x * conv.stride + kx);
                            let pixel = input.pixel(first_input + channel, py, px, conv.padding);
                            if let Some(pixel) = pixel {
                                let weight = (channel * conv.kernel + ky) * conv.kernel + kx;
                                sum += f64::from(weights[weight]) * pixel;
                            }
                        }
                    }
                }
                values.push(sum);
            }
        }
        first_input += group.inputs;
    }
    values
}

fn dense(input: &Activation, weight: &ArrayD<f32>, bias: &ArrayD<f32>) -> Vec<f64> {
    let product = |row: ndarray::ArrayViewD<'_, f32>, bias: f32| {
        let terms = row.iter().zip(&input.values).map(|(&weight, value)| f64::from(weight) * value);
        terms.fold(f64::from(bias), |sum, term| sum + term)
    };
    weight.outer_iter().zip(bias).map(|(row, &bias)| product(row, bias)).collect()
}

/// Reduces each window, given its pixels inside the image and its area, border included.
fn windows(
    input: &Activation,
    pool: &Pool,
    [channels, height, width]: Shape,
    reduce: impl Fn(&mut dyn Iterator<Item = f64>, f64) -> f64,
) -> Vec<f64> {
    let mut values = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (top, left) = (y * pool.stride, x * pool.stride);
            let places = (top..top + pool.kernel)
                .flat_map(|py| (left..left + pool.kernel).map(move |px| (py, px)));
            let mut pixels =
                places.filter_map(|(py, px)| input.pixel(channel, py, px, pool.padding));
            values.push(reduce(&mut pixels, (pool.kernel * pool.kernel) as f64));
        }
    }
    values
}

fn response_norm(input: &Activation, norm: &LocalResponseNorm) -> Vec<f64> {
    let squares =
        Activation { shape: input.shape, values: input.values.iter().map(|v| v * v).collect() };
    let pool = Pool { kernel: norm.size, stride: 1, padding: norm.size / 2 };
    let means = windows(&squares, &pool, input.shape, |window, area| window.sum::<f64>() / area);
    let scale = |mean: f64| (1.0 + norm.alpha * mean).powf(norm.beta);
    input.values.iter().zip(means).map(|(value, mean)| value / scale(mean)).collect()
}

fn batch_norm(input: &Activation, norm: &BatchNorm, parts: [&ArrayD<f32>; 4]) -> Vec<f64> {
    let area = input.area().max(1);
    let normalise = |(place, value): (usize, &f64)| {
        let [scale, shift, mean, variance] = parts.map(|part| f64::from(part[[place / area]]));
        scale * (value - mean) / (variance + norm.epsilon).sqrt() + shift
    };
    input.values.iter().enumerate().map(normalise).collect()
}

fn zero_masked(input: Activation, alive: &[bool]) -> Vec<f64> {
    let area = input.area().max(1);
    let mut values = input.values;
    for (channel, &alive) in values.chunks_mut(area).zip(alive) {
        if !alive {
            channel.fill(0.0);
        }
    }
    values
}

//! Runs a whole network on a GPU: images go there once, scores come back, and every layer writes its
//! results to where and how the next one reads them, inside that one's zeros, or features turned so that
//! all images of a feature lie side by side.

use ndarray::{Array2, ArrayView2, ArrayView4, Axis};

use crate::device::gpu::{Buffer, Gpu, download};
use crate::error::{Error, Result};
use crate::kernels::convolution::{self, Geometry};
use crate::kernels::gpu::{Bound, Lines, Operand, Operands, Packed};
use crate::kernels::planes::{self, Map, Window};
use crate::kernels::{csr_spmm, group_spmm, masked_dense};
use crate::network::{Conv, Network, Op, Shape, Weights, as_matrix};
use crate::sparse::{Csr, GroupSparse};

/// How weights are stored, and by which kernels they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Dense, by `masked_dense`: the network as it is, or what node pruning leaves of it.
    Dense,
    /// In groups of a width, by `group_spmm`.
    Groups(usize),
    /// In compressed rows, by `csr_spmm`.
    Csr,
}

/// One step: what it does, for people, and its launches.
#[derive(Debug)]
struct Step {
    layer: String,
    kernels: Vec<&'static str>,
    bound: Bound,
}

/// A network on a GPU, for batches of one size.
#[derive(Debug)]
pub struct OnGpu<'a> {
    gpu: &'a dyn Gpu,
    network: String,
    input: [usize; 4],
    classes: usize,
    images: Buffer,
    scores: Buffer,
    steps: Vec<Step>,
}

/// Activations on the device.
struct Value {
    buffer: Buffer,
    shape: Shape,
    map: Map,
}

impl<'a> OnGpu<'a> {
    /// Packs a network for batches of `batch` images. Nodes are those of `weights`: a network with
    /// blocked nodes is compacted before.
    ///
    /// # Errors
    /// Weights that are missing, layers that contradict each other, what a kernel or the device refuses.
    pub fn new(
        gpu: &'a dyn Gpu,
        network: &Network,
        weights: &Weights,
        format: Format,
        batch: usize,
    ) -> Result<Self> {
        weights.check(network)?;
        if weights.node_masks(network)?.values().flatten().any(|&alive| !alive) {
            let expected = "weights of living nodes alone: compact the network first";
            return Err(Error::argument(
                format!("run {}", network.name),
                expected,
                "blocked nodes",
            ));
        }
        let shapes = network.shapes()?;
        let [channels, height, width] = network.input;
        let output = shapes.last().copied().unwrap_or(network.input);
        let images = gpu.allocate(4 * batch * channels * height * width)?;
        let mut value =
            Value { buffer: images.clone(), shape: network.input, map: Map::plain(network.input) };
        let mut builder = Builder { gpu, network, weights, format, batch, steps: Vec::new() };
        for index in 0..network.layers.len() {
            builder.layer(index, &shapes, &mut value)?;
        }
        let plain = Map::plain(output);
        if value.map != plain {
            value = builder.planes("scores", &planes::Op::Copy { relu: false }, value, plain)?;
        }
        Ok(Self {
            gpu,
            network: network.name.clone(),
            input: [batch, channels, height, width],
            classes: output.iter().product(),
            images,
            scores: value.buffer,
            steps: builder.steps,
        })
    }

    /// The class scores `[batch, classes]` of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// Images of another shape; what the device refuses.
    pub fn run(&self, images: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        if images.shape() != self.input {
            let expected = format!("images of shape {:?}", self.input);
            let found = format!("{:?}", images.shape());
            return Err(Error::argument(format!("run {}", self.network), expected, found));
        }
        let pixels: Vec<f32> = images.iter().copied().collect();
        self.gpu.write(&self.images, bytemuck::cast_slice(&pixels))?;
        self.enqueue()?;
        let shape = (self.input[0], self.classes);
        let scores = download(self.gpu, &self.scores, shape.0 * shape.1)?;
        Array2::from_shape_vec(shape, scores).map_err(|error| {
            Error::argument("read the scores", format!("{shape:?}"), error.to_string())
        })
    }

    /// Hands all steps to the device, on the images that it has.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue(&self) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.bound.enqueue(self.gpu))
    }

    /// Each step's layer and the kernels it runs.
    pub fn explain(&self) -> impl Iterator<Item = (&str, &[&'static str])> {
        self.steps.iter().map(|step| (step.layer.as_str(), step.kernels.as_slice()))
    }
}

struct Builder<'a> {
    gpu: &'a dyn Gpu,
    network: &'a Network,
    weights: &'a Weights,
    format: Format,
    batch: usize,
    steps: Vec<Step>,
}

impl Builder<'_> {
    fn layer(&mut self, index: usize, shapes: &[Shape], value: &mut Value) -> Result<()> {
        let layer = &self.network.layers[index];
        let name = layer.name.as_str();
        let map = self.map_for(index, shapes[index]);
        let taken = || Value { buffer: value.buffer.clone(), ..*value };
        *value = match &layer.op {
            Op::Conv(conv) => {
                let input = self.padded(name, taken(), conv.padding)?;
                self.convolution(index, conv, input, shapes[index], map)?
            }
            Op::Linear(_) => self.dense(index, taken(), shapes[index], map)?,
            // Done by the layer before, where that could.
            Op::Relu if self.fuses_relu(index.wrapping_sub(1)) => return Ok(()),
            Op::Relu => self.planes(name, &planes::Op::Copy { relu: true }, taken(), map)?,
            Op::MaxPool(pool) | Op::AveragePool(pool) => {
                let window =
                    Window { size: pool.kernel, stride: pool.stride, padding: pool.padding };
                let op = match layer.op {
                    Op::MaxPool(_) => planes::Op::Max(window),
                    _ => planes::Op::Average(window),
                };
                self.planes(name, &op, taken(), map)?
            }
            Op::LocalResponseNorm(norm) => {
                let (alpha, beta) = (norm.alpha as f32, norm.beta as f32);
                let op = planes::Op::Norm { size: norm.size, alpha, beta };
                self.planes(name, &op, taken(), map)?
            }
            Op::BatchNorm(norm) => {
                let part = |part: &str| self.weights.get(&format!("{name}.{part}"));
                let (weight, bias) = (part("weight")?, part("bias")?);
                let (mean, variance) = (part("running_mean")?, part("running_var")?);
                let scale: Vec<f32> = weight
                    .iter()
                    .zip(variance)
                    .map(|(&w, &v)| (f64::from(w) / (f64::from(v) + norm.epsilon).sqrt()) as f32)
                    .collect();
                let shift: Vec<f32> = bias
                    .iter()
                    .zip(&scale)
                    .zip(mean)
                    .map(|((&b, &s), &m)| (f64::from(b) - f64::from(s) * f64::from(m)) as f32)
                    .collect();
                let relu = self.fuses_relu(index);
                let op = planes::Op::Affine { scale: &scale, shift: &shift, relu };
                self.planes(name, &op, taken(), map)?
            }
            Op::Dropout(_) | Op::Mask => return Ok(()),
        };
        Ok(())
    }

    /// Whether the layer at `index` makes its negative results 0 for the ReLU behind it.
    fn fuses_relu(&self, index: usize) -> bool {
        let computes = self.network.layers.get(index).is_some_and(|layer| {
            matches!(layer.op, Op::Conv(_) | Op::Linear(_) | Op::BatchNorm(_))
        });
        computes && self.network.layers.get(index + 1).is_some_and(|next| next.op == Op::Relu)
    }

    /// Where the results of a layer are best put: as the layer reads them that computes with them next.
    fn map_for(&self, index: usize, shape: Shape) -> Map {
        let does_nothing = |op: &Op| matches!(op, Op::Relu | Op::Dropout(_) | Op::Mask);
        let next = self.network.layers[index + 1..].iter().find(|next| !does_nothing(&next.op));
        let [_, height, width] = shape;
        let batch = self.batch;
        match next.map(|next| &next.op) {
            Some(Op::Conv(conv)) => Map::padded(shape, conv.padding),
            Some(Op::Linear(_)) => Map {
                start: 0,
                image: 1,
                plane: height * width * batch,
                pitch: width * batch,
                step: batch,
            },
            _ => Map::plain(shape),
        }
    }

    /// The value where a convolution with such a border reads it.
    fn padded(&mut self, name: &str, value: Value, padding: usize) -> Result<Value> {
        let map = Map::padded(value.shape, padding);
        if value.map == map {
            return Ok(value);
        }
        let name = format!("{name}, border");
        self.planes(&name, &planes::Op::Copy { relu: false }, value, map)
    }

    /// Memory for images of a shape at a map, border included.
    fn room(&self, map: &Map, shape: Shape) -> Result<Buffer> {
        let floats = map.floats(shape, self.batch).max(map.image * self.batch);
        if u32::try_from(floats).is_err() {
            let expected = "activations of fewer than 2^32 floats: take a smaller batch";
            let operation = format!("run {}", self.network.name);
            return Err(Error::argument(operation, expected, floats.to_string()));
        }
        self.gpu.allocate(4 * floats)
    }

    fn planes(&mut self, name: &str, op: &planes::Op<'_>, value: Value, map: Map) -> Result<Value> {
        let [height, width] = op.output([value.shape[1], value.shape[2]]);
        let shape = [value.shape[0], height, width];
        let packed = planes::pack(self.gpu, op, value.shape, self.batch, [&value.map, &map])?;
        self.push(name, packed, value, shape, map)
    }

    fn push(
        &mut self,
        name: &str,
        packed: Packed,
        value: Value,
        shape: Shape,
        map: Map,
    ) -> Result<Value> {
        let buffer = self.room(&map, shape)?;
        let bound = packed.bind(self.gpu, &value.buffer, &buffer)?;
        let kernels = packed.kernels().to_vec();
        self.steps.push(Step { layer: name.to_owned(), kernels, bound });
        Ok(Value { buffer, shape, map })
    }

    fn convolution(
        &mut self,
        index: usize,
        conv: &Conv,
        input: Value,
        shape: Shape,
        map: Map,
    ) -> Result<Value> {
        let name = self.network.layers[index].name.as_str();
        let [channels, height, width] = input.shape;
        let groups = self.network.groups_of(index, input.shape)?;
        let key = format!("{name}.weight");
        let mut matrices: Vec<ArrayView2<'_, f32>> = Vec::new();
        match self.weights.find(&key) {
            Some(all) => {
                let mut rest = as_matrix(&key, all)?;
                for group in &groups {
                    let (own, behind) = rest.split_at(Axis(0), group.outputs);
                    matrices.push(own);
                    rest = behind;
                }
            }
            None => {
                for place in 0..groups.len() {
                    let key = format!("{key}.{place}");
                    matrices.push(as_matrix(&key, self.weights.get(&key)?)?);
                }
            }
        }
        let (sparse, rows): (Vec<GroupSparse>, Vec<Csr>) = match self.format {
            Format::Dense => (Vec::new(), Vec::new()),
            Format::Groups(width) => {
                let all = matrices.iter().map(|&m| GroupSparse::from_dense(m, width));
                (all.collect::<Result<_>>()?, Vec::new())
            }
            Format::Csr => {
                let all = matrices.iter().map(|&m| Csr::from_dense(m));
                (Vec::new(), all.collect::<Result<_>>()?)
            }
        };
        let bias = self.bias(name)?;
        let layer = convolution::Layer {
            geometry: Geometry {
                channels,
                height,
                width,
                side: conv.kernel,
                stride: conv.stride,
                padding: conv.padding,
            },
            weights: match self.format {
                Format::Dense => convolution::Weights::Dense(&matrices),
                Format::Groups(_) => convolution::Weights::Groups(&sparse),
                Format::Csr => convolution::Weights::Csr(&rows),
            },
            bias: Some(&bias),
            relu: self.fuses_relu(index),
        };
        let packed = convolution::gpu::pack(self.gpu, &layer, self.batch, &map)?;
        self.push(name, packed, input, shape, map)
    }

    fn dense(&mut self, index: usize, input: Value, shape: Shape, map: Map) -> Result<Value> {
        let name = self.network.layers[index].name.as_str();
        let key = format!("{name}.weight");
        let matrix = as_matrix(&key, self.weights.get(&key)?)?;
        let batch = self.batch;
        let operand = |map: &Map, [channels, height, width]: Shape| {
            let place = |feature: usize| {
                let (channel, pixel) = (feature / (height * width), feature % (height * width));
                let place = map.start + channel * map.plane + pixel / width * map.pitch;
                (place + pixel % width * map.step) as u32
            };
            Operand {
                rows: (0..channels * height * width).map(place).collect(),
                lines: Lines { width: batch as u32, down: 0, right: map.image as u32 },
                image: 0,
            }
        };
        let operands = Operands {
            x: operand(&input.map, input.shape),
            y: operand(&map, shape),
            columns: batch as u32,
            images: 1,
        };
        let (bias, relu) = (self.bias(name)?, self.fuses_relu(index));
        let bias = Some(&bias[..]);
        let packed = match self.format {
            Format::Dense => {
                let product = masked_dense::gpu::Product { weights: matrix, bias, relu };
                masked_dense::gpu::pack(self.gpu, &product, &operands)?
            }
            Format::Groups(width) => {
                let weights = GroupSparse::from_dense(matrix, width)?;
                let layer = group_spmm::Layer { weights: &weights, bias, relu };
                group_spmm::gpu::pack(self.gpu, &layer, &operands)?
            }
            Format::Csr => {
                let weights = Csr::from_dense(matrix)?;
                let layer = csr_spmm::Layer { weights: &weights, bias, relu };
                csr_spmm::gpu::pack(self.gpu, &layer, &operands)?
            }
        };
        self.push(name, packed, input, shape, map)
    }

    fn bias(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.weights.get(&format!("{name}.bias"))?.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::gpu::Language;
    use crate::engine::reference;
    use crate::kernels::gpu::devices;
    use crate::network::{NodeMasks, zoo};
    use crate::prune::compact::compact;
    use ndarray::Array4;
    use rand::RngExt;

    /// The largest difference, relative to the largest score.
    fn apart(expected: &Array2<f64>, found: &Array2<f32>) -> f64 {
        let largest = expected.iter().fold(f64::MIN_POSITIVE, |largest, v| largest.max(v.abs()));
        let difference = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs();
        let all = expected.iter().zip(found).map(difference);
        all.fold(0.0, |most: f64, d| if d.is_nan() { f64::NAN } else { most.max(d) }) / largest
    }

    fn check(network: &Network, weights: &Weights, batch: usize) {
        let mut rng = crate::seed::stream(7, "images", &[]);
        let [channels, height, width] = network.input;
        let images = Array4::from_shape_simple_fn((batch, channels, height, width), || {
            rng.random_range(-1.0..1.0_f32)
        });
        let expected = reference::run(network, weights, &NodeMasks::new(), images.view()).unwrap();
        for gpu in devices() {
            let mut formats = vec![Format::Dense, Format::Groups(8)];
            if gpu.language() == Language::Wgsl {
                formats.push(Format::Csr);
            }
            for format in formats {
                let compiled = OnGpu::new(gpu, network, weights, format, batch).unwrap();
                for _ in 0..2 {
                    let apart = apart(&expected, &compiled.run(images.view()).unwrap());
                    let name = format!("{} {format:?} on {}", network.name, gpu.name());
                    assert!(apart <= 1e-4, "{name}, batch {batch}: {apart}");
                }
            }
        }
    }

    #[test]
    fn the_five_networks_compute_what_plain_loops_do() {
        for name in zoo::NAMES {
            let network = zoo::narrow(name).unwrap();
            let weights = Weights::random(&network, 1).unwrap();
            check(&network, &weights, 1);
            if name != "alexnet" {
                check(&network, &weights, 3);
            }
        }
    }

    #[test]
    fn compacted_networks_of_uneven_groups_do_too() {
        for name in ["lenet-5", "alexnet"] {
            let network = zoo::narrow(name).unwrap();
            let weights = Weights::random(&network, 2).unwrap();
            let mut masks = NodeMasks::new();
            for site in network.mask_sites().unwrap() {
                masks.insert(site.name, (0..site.nodes).map(|node| node % 3 != 1).collect());
            }
            let (small, small_weights) = compact(&network, &weights, &masks).unwrap();
            check(&small, &small_weights, 2);
        }
    }

    #[test]
    fn blocked_nodes_are_refused_and_not_run_as_if_they_lived() {
        let network = zoo::narrow("lenet-300-100").unwrap();
        let mut weights = Weights::random(&network, 1).unwrap();
        let site = network.mask_sites().unwrap().remove(0);
        let mut alpha = ndarray::ArrayD::ones(vec![1, site.nodes]);
        for alive in [true, false] {
            alpha[[0, 3]] = f32::from(alive);
            weights.insert(format!("{}.alpha", site.name), alpha.clone());
            weights.insert(format!("{}.beta", site.name), alpha.clone());
            for gpu in devices() {
                let compiled = OnGpu::new(gpu, &network, &weights, Format::Dense, 1);
                assert_eq!(compiled.is_ok(), alive);
            }
        }
    }

    #[test]
    fn images_of_another_shape_are_refused() {
        let network = zoo::narrow("lenet-5").unwrap();
        let weights = Weights::random(&network, 1).unwrap();
        for gpu in devices() {
            let compiled = OnGpu::new(gpu, &network, &weights, Format::Dense, 2).unwrap();
            let error = compiled.run(Array4::zeros((3, 1, 28, 28)).view()).unwrap_err().to_string();
            assert!(error.contains("images of shape [2, 1, 28, 28]"), "{error}");
            assert!(
                compiled.explain().any(|(layer, kernels)| layer == "conv2" && kernels.len() == 1)
            );
        }
    }
}

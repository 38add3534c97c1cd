//! A network on a GPU: images go there once, scores come back, and every layer writes its results to where
//! and how the next one reads them, inside that one's zeros, or features turned so that all images of a
//! feature lie side by side.

use rand::RngExt;

use super::autotune::{AutotuneCache, KERNELS, TuningCandidate};
use super::layer_weights::{LayerWeights, describe, sparsity};
use super::plan::{NonGemmOp, Plan, Product, Step, Work};
use super::profile::{Description, LayerProfile, profiled};
use crate::device::gpu::{self, Buffer, Gpu, Replay, download, upload};
use crate::error::{Error, Result};
use crate::kernels::convolution::{self, Geometry};
use crate::kernels::gpu::{Bound, Operand, Operands, Packed};
use crate::kernels::layout::{ColumnLayout, ImageLayout};
use crate::kernels::pool_eltwise;
use crate::kernels::{csr_spmm, group_spmm, masked_dense, upright_spmm};
use crate::network::Shape;
use crate::sparse::Format;

/// Runs of which a step's time is the mean.
const PROFILED_RUNS: u32 = 10;

/// One step: what it does, for people, and its launches.
struct OnDevice {
    about: Description,
    bound: Bound,
}

/// A network for batches of one size.
pub(super) struct OnGpu<'a> {
    gpu: &'a dyn Gpu,
    images: Buffer,
    scores: Buffer,
    steps: Vec<OnDevice>,
    /// All steps as one: through CUDA a graph, which costs the host one call however many kernels it has.
    run: gpu::Step,
}

/// Activations on the device.
#[derive(Clone)]
struct Value {
    buffer: Buffer,
    shape: Shape,
    layout: ImageLayout,
}

impl<'a> OnGpu<'a> {
    /// Packs a network for batches of `batch` images, and says how many bytes its weights take as they are
    /// stored.
    pub fn new(
        gpu: &'a dyn Gpu,
        plan: &Plan<'_>,
        formats: &[Format],
        batch: usize,
        autotune: &mut AutotuneCache,
    ) -> Result<(Self, usize)> {
        let images = gpu.allocate(4 * batch * plan.input.iter().product::<usize>())?;
        let plain = ImageLayout::plain(plan.input);
        let mut value = Value { buffer: images.clone(), shape: plan.input, layout: plain };
        let mut builder =
            Builder { gpu, network: plan.network, formats, batch, autotune, steps: Vec::new() };
        for (index, step) in plan.steps.iter().enumerate() {
            let layout = builder.layout_for(plan.steps.get(index + 1), step.output);
            value = builder.step(step, value, layout)?;
        }
        let plain = ImageLayout::plain(plan.output);
        if value.layout != plain {
            value = builder.pool_eltwise("scores", &NonGemmOp::Copy, value, plain)?;
        }
        let steps = builder.steps;
        let bytes = steps.iter().map(|step| step.about.bytes).sum();
        let mut all = || steps.iter().try_for_each(|step| step.bound.enqueue(gpu));
        // Once as they are, on images of zeros: what a driver loads at a kernel's first launch is there before the
        // recording.
        all()?;
        gpu.wait()?;
        let run = gpu.record(&mut all)?;
        Ok((Self { gpu, images, scores: value.buffer, steps, run }, bytes))
    }

    pub fn load(&self, images: &[f32]) -> Result<()> {
        self.gpu.write(&self.images, bytemuck::cast_slice(images))
    }

    pub fn execute(&self) -> Result<()> {
        self.gpu.enqueue(&self.run)?;
        self.gpu.wait()
    }

    pub fn scores(&self, scores: &mut [f32]) -> Result<()> {
        scores.copy_from_slice(&download(self.gpu, &self.scores, scores.len())?);
        Ok(())
    }

    pub fn seconds(&self, calls: u32) -> Result<f64> {
        self.gpu.time(&mut || (0..calls).try_for_each(|_| self.gpu.enqueue(&self.run)))
    }

    pub fn profile(&self) -> Result<Vec<LayerProfile>> {
        self.execute()?;
        let mut times = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let enqueue = &mut || step.bound.enqueue(self.gpu);
            let seconds = Replay::default().seconds(self.gpu, PROFILED_RUNS, enqueue)?;
            times.push(seconds / f64::from(PROFILED_RUNS));
        }
        Ok(profiled(self.steps().zip(times)))
    }

    /// What is known of its steps.
    pub fn steps(&self) -> impl Iterator<Item = &Description> {
        self.steps.iter().map(|step| &step.about)
    }
}

struct Builder<'a> {
    gpu: &'a dyn Gpu,
    network: &'a str,
    formats: &'a [Format],
    batch: usize,
    autotune: &'a mut AutotuneCache,
    steps: Vec<OnDevice>,
}

/// A packed product, and what there is to know of it.
type Made = (Packed, Description);

/// A product that may be chosen, bound to operands where there is a choice.
struct Trial {
    made: Made,
    timed: Option<(Bound, Replay)>,
}

impl Builder<'_> {
    fn step(&mut self, step: &Step<'_>, value: Value, layout: ImageLayout) -> Result<Value> {
        match &step.work {
            Work::Conv { geometry, product } => {
                let inside = ImageLayout::padded(value.shape, geometry.padding);
                let value = if value.layout == inside {
                    value
                } else {
                    let name = format!("{} input", step.name);
                    self.pool_eltwise(&name, &NonGemmOp::Copy, value, inside)?
                };
                let made = self.convolution(step, geometry, product, &value, &layout)?;
                self.push(made, value, step.output, layout)
            }
            Work::Linear(product) => {
                let made = self.dense(step, product, &value, &layout)?;
                self.push(made, value, step.output, layout)
            }
            Work::PoolEltwise(non_gemm) => self.pool_eltwise(step.name, non_gemm, value, layout),
        }
    }

    /// Where the results of a step are best put: as the one after it reads them.
    fn layout_for(&self, next: Option<&Step<'_>>, shape: Shape) -> ImageLayout {
        let [_, height, width] = shape;
        let batch = self.batch;
        match next.map(|next| &next.work) {
            Some(Work::Conv { geometry, .. }) => ImageLayout::padded(shape, geometry.padding),
            Some(Work::Linear(_)) => ImageLayout {
                offset: 0,
                image_stride: 1,
                channel_stride: height * width * batch,
                row_stride: width * batch,
                pixel_stride: batch,
            },
            _ => ImageLayout::plain(shape),
        }
    }

    /// Memory for images of a shape at a layout, border included.
    fn room(&self, layout: &ImageLayout, shape: Shape) -> Result<Buffer> {
        let floats = layout.floats(shape, self.batch).max(layout.image_stride * self.batch);
        if u32::try_from(floats).is_err() {
            let expected = "activations of fewer than 2^32 floats: take a smaller batch";
            let operation = format!("run {}", self.network);
            return Err(Error::argument(operation, expected, floats.to_string()));
        }
        self.gpu.allocate(4 * floats)
    }

    fn pool_eltwise(
        &mut self,
        name: &str,
        non_gemm: &NonGemmOp,
        value: Value,
        layout: ImageLayout,
    ) -> Result<Value> {
        let op = non_gemm.op();
        let [height, width] = op.output([value.shape[1], value.shape[2]]);
        let shape = [value.shape[0], height, width];
        let packed = pool_eltwise::gpu::pack(
            self.gpu,
            &op,
            value.shape,
            self.batch,
            [&value.layout, &layout],
        )?;
        let about = Description {
            layer: name.to_owned(),
            shape: format!("{shape:?}"),
            kernel: packed.name().to_owned(),
            bytes: non_gemm.bytes(),
            ..Description::default()
        };
        self.push((packed, about), value, shape, layout)
    }

    fn push(
        &mut self,
        (packed, about): Made,
        value: Value,
        shape: Shape,
        layout: ImageLayout,
    ) -> Result<Value> {
        let buffer = self.room(&layout, shape)?;
        let bound = packed.bind(self.gpu, &value.buffer, &buffer)?;
        self.steps.push(OnDevice { about, bound });
        Ok(Value { buffer, shape, layout })
    }

    /// The fastest of the formats: `pack` packs one, and both buffers are large enough for all.
    fn fastest(
        &mut self,
        step: &Step<'_>,
        product: &Product<'_>,
        [x, y]: [usize; 2],
        pack: &dyn Fn(&LayerWeights<'_>) -> Result<Packed>,
    ) -> Result<Made> {
        let formats = self.formats.iter();
        let all = formats.map(|&format| LayerWeights::new(&product.matrices, format));
        let all = all.collect::<Result<Vec<_>>>()?;
        let gpu = self.gpu;
        let mut rng = crate::seed::stream(1, "activations", &[]);
        let operands: Option<[Buffer; 2]> = if all.len() > 1 {
            let values: Vec<f32> = (0..x).map(|_| rng.random_range(-1.0..1.0)).collect();
            Some([upload(gpu, &values)?, gpu.allocate(4 * y)?])
        } else {
            None
        };
        let mut candidates: Vec<TuningCandidate<'_, Trial>> = Vec::new();
        for (&format, stored) in self.formats.iter().zip(&all) {
            let operands = &operands;
            let make = move || {
                let packed = pack(stored)?;
                let mut kernels = packed.kernels().to_vec();
                kernels.dedup();
                let about = describe(step, product, stored, kernels.join(", "));
                let bind = |[x, y]: &[Buffer; 2]| packed.bind(gpu, x, y);
                let bound = operands.as_ref().map(bind).transpose()?;
                let timed = bound.map(|bound| (bound, Replay::default()));
                Ok(Trial { made: (packed, about), timed })
            };
            candidates.push((format.to_string(), Box::new(make)));
        }
        let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
        let key = format!(
            "{} | {} | {:?} {:?} {:?} x {} {}",
            self.gpu.name(),
            names.join(", "),
            step.input,
            step.output,
            product.matrices.iter().map(|m| m.dim()).collect::<Vec<_>>(),
            self.batch,
            sparsity(product, &all)
        );
        let chosen = self.autotune.fastest(&key, &candidates, KERNELS, |trial, calls| {
            let Some((bound, replay)) = &mut trial.timed else { return Ok(0.0) };
            replay.seconds(gpu, calls, &mut || bound.enqueue(gpu))
        })?;
        Ok(chosen.made)
    }

    fn convolution(
        &mut self,
        step: &Step<'_>,
        geometry: &Geometry,
        product: &Product<'_>,
        value: &Value,
        layout: &ImageLayout,
    ) -> Result<Made> {
        let (gpu, batch) = (self.gpu, self.batch);
        let floats = [value.buffer.bytes() / 4, self.floats(layout, step.output)];
        self.fastest(step, product, floats, &|stored| {
            stored.with_convolution(*geometry, product, |layer| {
                convolution::gpu::pack(gpu, layer, batch, layout)
            })
        })
    }

    fn floats(&self, layout: &ImageLayout, shape: Shape) -> usize {
        layout.floats(shape, self.batch).max(layout.image_stride * self.batch)
    }

    fn dense(
        &mut self,
        step: &Step<'_>,
        product: &Product<'_>,
        value: &Value,
        layout: &ImageLayout,
    ) -> Result<Made> {
        let (gpu, batch) = (self.gpu, self.batch);
        let operand = |layout: &ImageLayout, [channels, height, width]: Shape| {
            let place = |feature: usize| {
                let (channel, pixel) = (feature / (height * width), feature % (height * width));
                let place = layout.offset
                    + channel * layout.channel_stride
                    + pixel / width * layout.row_stride;
                (place + pixel % width * layout.pixel_stride) as u32
            };
            Operand {
                rows: (0..channels * height * width).map(place).collect(),
                columns: ColumnLayout {
                    stride: layout.image_stride,
                    ..ColumnLayout::lines(batch, batch, 0)
                },
                image: 0,
            }
        };
        let operands = Operands {
            x: operand(&value.layout, value.shape),
            y: operand(layout, step.output),
            columns: batch as u32,
            images: 1,
        };
        let floats = [value.buffer.bytes() / 4, self.floats(layout, step.output)];
        let (bias, relu) = (Some(product.bias), product.relu);
        self.fastest(step, product, floats, &|stored| match stored {
            LayerWeights::Dense(all) => {
                let product = masked_dense::gpu::Product { weights: all[0], bias, relu };
                masked_dense::gpu::pack(gpu, &product, &operands)
            }
            LayerWeights::Groups(all) => {
                let layer = group_spmm::GroupLayer { weights: &all[0], bias, relu };
                group_spmm::gpu::pack(gpu, &layer, &operands)
            }
            LayerWeights::Upright(all) => {
                let layer = upright_spmm::UprightLayer { weights: &all[0], bias, relu };
                upright_spmm::gpu::pack(gpu, &layer, &operands)
            }
            LayerWeights::Csr(all) => {
                let layer = csr_spmm::CsrLayer { weights: &all[0], bias, relu };
                csr_spmm::gpu::pack(gpu, &layer, &operands)
            }
        })
    }
}

//! From a plan to the steps of a CPU: where every value lies, and which kernel each product runs on.

mod candidates;
#[cfg(test)]
pub(super) mod tests;

use std::cell::RefCell;

use rand::RngExt;

use self::candidates::{conv_backends, dense_candidates};
use super::batch::{BatchStep, BatchWork, DenseProduct};
use super::images::{self, ImageStep, ImageWork, Place};
use super::{Threading, images_in_parallel};
use crate::engine::autotune::{AutotuneCache, KERNELS, TuningCandidate};
use crate::engine::layer_weights::{LayerWeights, describe, sparsity};
use crate::engine::libraries::DenseLibraries;
use crate::engine::plan::{NonGemmOp, Plan, Product, Step, Work};
use crate::engine::profile::Description;
use crate::engine::spinning_workers::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::convolution::{self, Convolution, Geometry};
use crate::kernels::layout::ImageLayout;
use crate::kernels::pool_eltwise::PoolEltwise;
use crate::kernels::transpose::Transpose;
use crate::kernels::{Aligned, threads};
use crate::network::Shape;
use crate::sparse::Format;

/// A buffer of a workspace, planned.
#[derive(Clone, Copy, Debug)]
struct Planned {
    floats: usize,
    /// Zeros lie around what is written, so that nothing else may use it.
    bordered: bool,
}

/// Where a value lies, and how.
#[derive(Clone, Copy, Debug)]
struct Value {
    place: Place,
    layout: ImageLayout,
}

pub(super) struct Builder<'a, 'p> {
    plan: &'a Plan<'p>,
    formats: &'a [Format],
    batch: usize,
    libraries: DenseLibraries<'a>,
    autotune: &'a mut AutotuneCache,
    spinning: &'a SpinningWorkers,
    buffers: Vec<Planned>,
}

impl<'a, 'p> Builder<'a, 'p> {
    pub fn new(
        plan: &'a Plan<'p>,
        formats: &'a [Format],
        batch: usize,
        libraries: DenseLibraries<'a>,
        autotune: &'a mut AutotuneCache,
        spinning: &'a SpinningWorkers,
    ) -> Self {
        Self { plan, formats, batch, libraries, autotune, spinning, buffers: Vec::new() }
    }

    /// The floats that each buffer of a workspace needs for an image, for the steps that were made so far.
    pub fn buffers(&self) -> Vec<usize> {
        self.buffers.iter().map(|buffer| buffer.floats).collect()
    }

    pub fn image_steps(&mut self, steps: &[Step<'_>]) -> Result<Vec<ImageStep>> {
        let mut value = Value { place: Place::Image, layout: ImageLayout::plain(self.plan.input) };
        let mut made = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let to = match steps.get(index + 1) {
                None => Value { place: Place::End, layout: ImageLayout::plain(step.output) },
                Some(next) => self.value_for(next, step.output, value.place),
            };
            let (work, about) = match &step.work {
                Work::Conv { geometry, product } => {
                    let map = Convolution::input_map(geometry);
                    if let Some(map) = map.filter(|map| *map != value.layout) {
                        let bordered = self.bordered(map, step.input);
                        made.push(border(step, value, bordered)?);
                        value = bordered;
                    }
                    let (convolution, about) =
                        self.convolution(step, geometry, product, &to.layout)?;
                    let split = convolution.is_split().then(|| {
                        let floats = Convolution::map_floats(geometry);
                        self.buffers.push(Planned { floats, bordered: true });
                        self.buffers.len() - 1
                    });
                    (ImageWork::Conv { convolution, split, to: to.layout }, about)
                }
                Work::PoolEltwise(non_gemm) => {
                    let pool_eltwise =
                        PoolEltwise::new(&non_gemm.op(), step.input, [value.layout, to.layout])?;
                    let about = about_pool_eltwise(step, non_gemm, &pool_eltwise);
                    (ImageWork::PoolEltwise(pool_eltwise), about)
                }
                Work::Linear(_) => return Err(self.after_dense(step)), // steps end before it
            };
            made.push(ImageStep { work, from: value.place, to: to.place, about });
            value = to;
        }
        Ok(made)
    }

    /// Where the next step wants to find a value that is made from one at `from`.
    fn value_for(&mut self, next: &Step<'_>, shape: Shape, from: Place) -> Value {
        if let Work::Conv { geometry, .. } = &next.work
            && let Some(map) = Convolution::input_map(geometry)
            && map != ImageLayout::plain(shape)
        {
            return self.bordered(map, shape);
        }
        // A plain value takes a plain buffer that is not being read.
        let floats = shape.iter().product();
        let free = |(index, buffer): &(usize, &mut Planned)| {
            !buffer.bordered && Place::Buffer(*index) != from
        };
        let index = match self.buffers.iter_mut().enumerate().find(free) {
            Some((index, buffer)) => {
                buffer.floats = buffer.floats.max(floats);
                index
            }
            None => {
                self.buffers.push(Planned { floats, bordered: false });
                self.buffers.len() - 1
            }
        };
        Value { place: Place::Buffer(index), layout: ImageLayout::plain(shape) }
    }

    /// A buffer of its own for a value with zeros around it.
    fn bordered(&mut self, map: ImageLayout, shape: Shape) -> Value {
        let floats = map.floats(shape, 1).max(map.image_stride);
        self.buffers.push(Planned { floats, bordered: true });
        Value { place: Place::Buffer(self.buffers.len() - 1), layout: map }
    }

    /// The fastest convolution of the formats, and what there is to know of it.
    fn convolution(
        &mut self,
        step: &Step<'_>,
        geometry: &Geometry,
        product: &Product<'_>,
        to: &ImageLayout,
    ) -> Result<(Convolution, Description)> {
        let columns = Convolution::columns(geometry)?;
        let all = self.stored(product)?;
        let mut candidates: Vec<TuningCandidate<'_, (Convolution, Description)>> = Vec::new();
        for &(format, ref stored) in &all {
            for backend in conv_backends(format, columns, self.libraries)? {
                let make = move || {
                    let pack = |layer: &convolution::ConvLayer<'_>| backend.pack(layer);
                    let convolution = stored.with_convolution(*geometry, product, pack)?;
                    let about = describe(step, product, stored, convolution.label());
                    Ok((convolution, about))
                };
                candidates.push((format!("{} {}", format, backend.name()), Box::new(make)));
            }
        }
        // Of images that are shared out, each is convolved by one thread.
        let shared = images_in_parallel(self.batch);
        let threading = if shared { Threading::Serial } else { Threading::widest() };
        // As many as a library takes at once, for all of them.
        let block = images::block(self.batch, if shared { threads() } else { 1 });
        let key = format!(
            "conv {geometry:?} {:?} {to:?} {block} images {}",
            product.matrices.iter().map(|m| m.dim()).collect::<Vec<_>>(),
            sparsity(product, all.iter().map(|(_, stored)| stored)),
        );
        // As long as their maps, which are split from them anew in each run, if at all.
        let floats = Convolution::map_floats(geometry);
        let x = random(block * floats);
        let mut map = Aligned::zeros(floats);
        let to =
            &ImageLayout { image_stride: to.image_stride.max(to.floats(step.output, 1)), ..*to };
        let mut y = Aligned::zeros(block * to.image_stride);
        let buffers = RefCell::new((&mut map, &mut y));
        let (key, spinning) = (self.key(threading, &key), self.spinning);
        self.autotune.fastest(&key, &candidates, KERNELS, |(convolution, _), calls| {
            let (map, y) = &mut *buffers.borrow_mut();
            threading.seconds(spinning, calls, || {
                if !convolution.is_split() {
                    return convolution.run_maps(&x, floats, block, y, to);
                }
                for (x, y) in x.chunks(floats).zip(y.chunks_mut(to.image_stride)) {
                    convolution.split(x, map)?;
                    convolution.run_maps(map, 0, 1, y, to)?;
                }
                Ok(())
            })
        })
    }

    /// The steps from the first dense layer on, of so many images at once. Those of several begin and end with a
    /// transposition: images lie in rows before them and after them, and in columns between them.
    pub fn batch_steps(
        &mut self,
        steps: &[Step<'_>],
        images: usize,
        threading: Threading,
    ) -> Result<Vec<BatchStep>> {
        let mut made = Vec::new();
        if let [first, ..] = steps {
            let features = first.input.iter().product();
            made.extend(transposition(format!("{} input", first.name), [images, features])?);
        }
        for step in steps {
            made.push(self.batch_step(step, images, threading)?);
        }
        if let [.., last] = steps {
            let scores = last.output.iter().product();
            made.extend(transposition("scores".to_owned(), [scores, images])?);
        }
        Ok(made)
    }

    fn batch_step(
        &mut self,
        step: &Step<'_>,
        images: usize,
        threading: Threading,
    ) -> Result<BatchStep> {
        let [features, height, width] = step.input;
        match &step.work {
            Work::Linear(product) => {
                let (kernel, about) = self.dense(step, product, images, threading)?;
                let shape = product.matrices[0].dim().into();
                Ok(BatchStep { work: BatchWork::Dense(kernel, shape), about })
            }
            Work::PoolEltwise(
                non_gemm @ (NonGemmOp::Relu | NonGemmOp::Affine { .. } | NonGemmOp::Copy),
            ) if height * width == 1 => {
                // The images of a feature lie side by side, as the pixels of a row.
                let shape = [features, 1, images];
                let plain = ImageLayout::plain(shape);
                let pool_eltwise = PoolEltwise::new(&non_gemm.op(), shape, [plain, plain])?;
                let about = about_pool_eltwise(step, non_gemm, &pool_eltwise);
                Ok(BatchStep { work: BatchWork::PoolEltwise(pool_eltwise), about })
            }
            Work::PoolEltwise(_) | Work::Conv { .. } => Err(self.after_dense(step)),
        }
    }

    fn after_dense(&self, step: &Step<'_>) -> Error {
        Error::Layer {
            network: self.plan.network.to_owned(),
            layer: step.name.to_owned(),
            expected:
                "no convolution, pooling or response normalisation after a dense layer, where \
                a CPU runs the network"
                    .into(),
            found: "one".into(),
        }
    }

    /// The fastest product of the formats, and what there is to know of it.
    fn dense(
        &mut self,
        step: &Step<'_>,
        product: &Product<'_>,
        images: usize,
        threading: Threading,
    ) -> Result<(DenseProduct, Description)> {
        let (m, k) = product.matrices[0].dim();
        let all = self.stored(product)?;
        let mut candidates: Vec<TuningCandidate<'_, (DenseProduct, Description)>> = Vec::new();
        for &(format, ref stored) in &all {
            let kernels = dense_candidates(stored, product, images, self.libraries.products)?;
            for (name, make) in kernels {
                let make = move || {
                    let kernel = make()?;
                    let about = describe(step, product, stored, kernel.label());
                    Ok((kernel, about))
                };
                candidates.push((format!("{} {name}", format), Box::new(make)));
            }
        }
        let key = format!(
            "dense {m}x{k}x{images} {}",
            sparsity(product, all.iter().map(|(_, stored)| stored))
        );
        let x = random(k * images);
        let y = RefCell::new(Aligned::zeros(m * images));
        let (key, spinning) = (self.key(threading, &key), self.spinning);
        self.autotune.fastest(&key, &candidates, KERNELS, |(kernel, _), calls| {
            let y: &mut [f32] = &mut y.borrow_mut();
            threading.seconds(spinning, calls, || kernel.run(&x, images, y))
        })
    }

    /// A product's weights in each of the formats that are worth it: of several, none that is sparse and yet as
    /// large as the dense one.
    fn stored<'w>(&self, product: &Product<'w>) -> Result<Vec<(Format, LayerWeights<'w>)>> {
        let dense = LayerWeights::new(&product.matrices, Format::Dense)?.bytes();
        let several = self.formats.len() > 1 && self.formats.contains(&Format::Dense);
        let stored = self.formats.iter().map(|&format| {
            let stored = LayerWeights::new(&product.matrices, format)?;
            let worth = !several || format == Format::Dense || stored.bytes() < dense;
            Ok(worth.then_some((format, stored)))
        });
        stored.filter_map(Result::transpose).collect()
    }

    /// A key of a choice among the formats, for a layer that uses threads like this.
    fn key(&self, threading: Threading, layer: &str) -> String {
        let formats: Vec<String> = self.formats.iter().map(Format::to_string).collect();
        let threads = if threading == Threading::Serial { 1 } else { threads() };
        // Where there are other libraries, a choice has to be made again.
        let DenseLibraries { products, convolutions } = self.libraries;
        let products = products.iter().map(|library| library.name());
        let convolutions = convolutions.iter().map(|library| library.name());
        let beside: String = products.chain(convolutions).map(|name| format!(", {name}")).collect();
        format!("{threads} threads | {}{beside} | {layer}", formats.join(", "))
    }
}

/// None of one image, whose rows and columns are the same.
fn transposition(layer: String, shape: [usize; 2]) -> Result<Option<BatchStep>> {
    if shape.contains(&1) {
        return Ok(None);
    }
    let kernel = Transpose::new(shape)?;
    let about = Description {
        layer,
        shape: format!("{shape:?}"),
        kernel: kernel.variant().name.to_owned(),
        ..Description::default()
    };
    let floats = shape.iter().product();
    Ok(Some(BatchStep { work: BatchWork::Transpose(kernel, floats), about }))
}

/// A step that copies a value between zeros.
fn border(step: &Step<'_>, from: Value, to: Value) -> Result<ImageStep> {
    let pool_eltwise =
        PoolEltwise::new(&NonGemmOp::Copy.op(), step.input, [from.layout, to.layout])?;
    let mut about = about_pool_eltwise(step, &NonGemmOp::Copy, &pool_eltwise);
    about.layer = format!("{} input", step.name);
    about.shape = format!("{:?}", step.input);
    Ok(ImageStep {
        work: ImageWork::PoolEltwise(pool_eltwise),
        from: from.place,
        to: to.place,
        about,
    })
}

fn about_pool_eltwise(
    step: &Step<'_>,
    non_gemm: &NonGemmOp,
    pool_eltwise: &PoolEltwise,
) -> Description {
    Description {
        layer: step.name.to_owned(),
        shape: format!("{:?}", step.output),
        kernel: pool_eltwise.variant().name.to_owned(),
        bytes: non_gemm.bytes(),
        ..Description::default()
    }
}

/// Activations to time kernels on.
fn random(floats: usize) -> Aligned {
    let mut rng = crate::seed::stream(1, "activations", &[]);
    let mut all = Aligned::zeros(floats);
    all.fill_with(|| rng.random_range(-1.0..1.0));
    all
}

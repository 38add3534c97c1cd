//! A network on a CPU.
//!
//! What comes before the first dense layer is done image by image, so that its activations stay in a
//! core's caches whatever the batch: every step writes into the zeros that surround the next one's input.
//! From the first dense layer on, features are rows and images columns, and every layer is one product for
//! the whole batch. Where there are as many images as threads, each thread has images of its own; else the
//! kernels share out their rows and columns.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;
use rayon::prelude::*;

use super::attendants::Attendants;
use super::choices::{Candidate, Choices, KERNELS, THREADS};
use super::explain::{Description, Explained, explained};
use super::plan::{Between, Plan, Product, Step, Work};
use super::stored::{Stored, describe, sparsity, tag};
use crate::error::{Error, Result};
use crate::kernels::convolution::{self, Convolution, Geometry};
use crate::kernels::csr_spmm::{self, CsrSpmm};
use crate::kernels::group_spmm::{self, GroupSpmm};
use crate::kernels::layout::{Input, Output};
use crate::kernels::masked_dense::{self, DenseLibrary, MaskedDense, Nodes};
use crate::kernels::planes::{Map, cpu::Planes};
use crate::kernels::{PackedProduct, alone, threads};
use crate::network::Shape;
use crate::sparse::Format;

/// Runs of which the steps' times are medians.
const EXPLAINED_RUNS: usize = 15;

/// How a network is spread over threads. The fastest is found out by running it: waking a thread takes as
/// long as a small network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// On the calling thread.
    Alone,
    /// From the calling thread: each kernel that is worth it wakes others.
    FromOutside,
    /// On a thread of the pool, while all others look for work.
    Attended,
}

/// A network for batches of one size.
pub(super) struct OnCpu {
    spread: Spread,
    attendants: Attendants,
    batch: usize,
    /// `[batch, input]`.
    images: Vec<f32>,
    image_steps: Vec<ImageStep>,
    /// One for each thread that has images of its own.
    workspaces: Vec<Workspace>,
    /// What the steps of an image come to, `[batch, features]`; empty where there are none.
    features: Vec<f32>,
    batch_steps: Vec<BatchStep>,
    /// Two that take turns, each `[features, batch]`.
    columns: [Vec<f32>; 2],
    /// `[batch, classes]`.
    scores: Vec<f32>,
    classes: usize,
    /// Measured seconds of the batch's steps.
    seconds: Vec<f64>,
}

/// Where a step on an image finds its input, or leaves its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The image itself.
    Image,
    /// A buffer of the workspace.
    Buffer(usize),
    /// Behind all steps on the image.
    End,
}

struct ImageStep {
    work: ImageWork,
    from: Place,
    to: Place,
    about: Description,
}

enum ImageWork {
    Planes(Planes),
    Conv {
        convolution: Convolution,
        /// The buffer into which the image is split into phases first.
        split: Option<usize>,
        to: Map,
    },
}

struct BatchStep {
    work: BatchWork,
    about: Description,
}

enum BatchWork {
    /// A dense layer, with its rows and columns.
    Dense(DenseProduct, [usize; 2]),
    /// Of features in rows, for all images.
    Planes(Planes),
}

/// A dense layer's product by one of the kernels.
enum DenseProduct {
    Masked(MaskedDense),
    Sparse(Box<dyn PackedProduct>),
}

impl DenseProduct {
    fn run(&self, x: &[f32], n: usize, y: &mut [f32]) -> Result<()> {
        match self {
            Self::Masked(kernel) => kernel.run(x, y),
            Self::Sparse(kernel) => kernel.run_at(Input::plain(x, n), n, Output::plain(y, n)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Masked(kernel) => kernel.variant().name,
            Self::Sparse(kernel) => kernel.name(),
        }
    }
}

/// The activations of one image, and the seconds that its steps took.
#[derive(Clone, Debug, Default)]
struct Workspace {
    buffers: Vec<Vec<f32>>,
    seconds: Vec<f64>,
}

impl OnCpu {
    /// Packs a network for batches of `batch` images, and says how many bytes its weights take.
    pub fn new(
        plan: &Plan<'_>,
        formats: &[Format],
        batch: usize,
        library: Option<&Arc<dyn DenseLibrary>>,
        choices: &mut Choices,
    ) -> Result<(Self, usize)> {
        let first_dense = |step: &Step<'_>| matches!(step.work, Work::Linear(_));
        let split = plan.steps.iter().position(first_dense).unwrap_or(plan.steps.len());
        let (on_images, on_batch) = plan.steps.split_at(split);
        let mut builder = Builder { plan, formats, batch, library, choices, buffers: Vec::new() };
        let image_steps = builder.image_steps(on_images)?;
        let batch_steps =
            on_batch.iter().map(|step| builder.batch_step(step)).collect::<Result<Vec<_>>>()?;
        let buffers: Vec<Vec<f32>> =
            builder.buffers.iter().map(|buffer| vec![0.0; buffer.floats]).collect();

        let size = |shape: Shape| shape.iter().product::<usize>();
        let count = threads();
        let workspace = Workspace { buffers, seconds: vec![0.0; image_steps.len()] };
        let workspaces = if count > 1 && batch >= count { count } else { 1 };
        let features = if image_steps.is_empty() {
            0
        } else {
            on_images.last().map_or(0, |step| size(step.output))
        };
        let widest = on_batch.iter().flat_map(|step| [size(step.input), size(step.output)]).max();
        let columns = vec![0.0; batch * widest.unwrap_or(0)];
        let bytes = image_steps.iter().map(|step| step.about.bytes).sum::<usize>()
            + batch_steps.iter().map(|step| step.about.bytes).sum::<usize>();
        let classes = size(plan.output);
        let mut engine = Self {
            spread: Spread::FromOutside,
            attendants: Attendants::default(),
            batch,
            images: vec![0.0; batch * size(plan.input)],
            workspaces: vec![workspace; workspaces],
            features: vec![0.0; batch * features],
            columns: [columns.clone(), columns],
            scores: vec![0.0; batch * classes],
            seconds: vec![0.0; batch_steps.len()],
            image_steps,
            batch_steps,
            classes,
        };
        let about = engine.image_steps.iter().map(|step| &step.about);
        let about = about.chain(engine.batch_steps.iter().map(|step| &step.about));
        let steps = about.map(|about| format!("{} {} {}", about.layer, about.shape, about.kernel));
        let steps = steps.collect::<Vec<_>>().join(", ");
        let key = format!("{count} threads | {} x {batch}, {bytes} bytes | {steps}", plan.network);
        engine.choose_spread(&key, choices)?;
        Ok((engine, bytes))
    }

    fn choose_spread(&mut self, key: &str, choices: &mut Choices) -> Result<()> {
        if threads() == 1 {
            return Ok(());
        }
        let all = [Spread::Alone, Spread::FromOutside, Spread::Attended];
        let candidates = all.map(|spread| -> Candidate<'_, Spread> {
            (format!("{spread:?}"), Box::new(move || Ok(spread)))
        });
        let engine = RefCell::new(&mut *self);
        let spread = choices.fastest(key, &candidates, THREADS, |spread, calls| {
            let mut engine = engine.borrow_mut();
            engine.spread = *spread;
            engine.seconds(calls)
        })?;
        self.spread = spread;
        Ok(())
    }

    pub fn load(&mut self, images: &[f32]) {
        self.images.copy_from_slice(images);
    }

    pub fn execute(&mut self) -> Result<()> {
        self.forward::<false>()
    }

    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    pub fn seconds(&mut self, calls: u32) -> Result<f64> {
        let start = Instant::now();
        (0..calls).try_for_each(|_| self.execute())?;
        Ok(start.elapsed().as_secs_f64())
    }

    pub fn explain(&mut self) -> Result<Vec<Explained>> {
        let mut samples: Vec<Vec<f64>> =
            vec![Vec::new(); self.image_steps.len() + self.batch_steps.len()];
        for run in 0..EXPLAINED_RUNS + 2 {
            self.workspaces.iter_mut().for_each(|workspace| workspace.seconds.fill(0.0));
            self.seconds.fill(0.0);
            self.forward::<true>()?;
            // The first two warm the caches up.
            if run >= 2 {
                let measured = self.workspaces[0].seconds.iter().chain(&self.seconds);
                samples.iter_mut().zip(measured).for_each(|(all, &own)| all.push(own));
            }
        }
        let median = |mut samples: Vec<f64>| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        };
        let about = self.image_steps.iter().map(|step| &step.about);
        let about = about.chain(self.batch_steps.iter().map(|step| &step.about));
        Ok(explained(about.zip(samples.into_iter().map(median))))
    }

    fn forward<const TIMED: bool>(&mut self) -> Result<()> {
        match self.spread {
            Spread::Alone => alone(|| self.steps::<TIMED>()),
            Spread::FromOutside => self.steps::<TIMED>(),
            Spread::Attended => {
                let attendants = self.attendants.clone();
                attendants.during(|| self.steps::<TIMED>())
            }
        }
    }

    fn steps<const TIMED: bool>(&mut self) -> Result<()> {
        self.each_image::<TIMED>()?;
        if self.batch_steps.is_empty() {
            return Ok(());
        }
        let batch = self.batch;
        let features = if self.image_steps.is_empty() { &self.images } else { &self.features };
        let [here, there] = &mut self.columns;
        // Of one image, rows and columns are the same.
        if batch == 1 {
            here[..features.len()].copy_from_slice(features);
        } else {
            turn(features, [batch, features.len() / batch], here);
        }
        for (step, seconds) in self.batch_steps.iter().zip(&mut self.seconds) {
            let start = TIMED.then(Instant::now);
            match &step.work {
                BatchWork::Dense(kernel, [outputs, inputs]) => {
                    kernel.run(&here[..inputs * batch], batch, &mut there[..outputs * batch])?;
                }
                BatchWork::Planes(planes) => planes.run(here, there)?,
            }
            std::mem::swap(here, there);
            if let Some(start) = start {
                *seconds += start.elapsed().as_secs_f64();
            }
        }
        let scores = &here[..self.classes * batch];
        if batch == 1 {
            self.scores.copy_from_slice(scores);
        } else {
            turn(scores, [self.classes, batch], &mut self.scores);
        }
        Ok(())
    }

    /// The steps on images, each image's from its first to its last.
    fn each_image<const TIMED: bool>(&mut self) -> Result<()> {
        let ends = if self.batch_steps.is_empty() { &mut self.scores } else { &mut self.features };
        let (steps, input) = (&self.image_steps, self.images.len() / self.batch);
        let end = ends.len() / self.batch;
        // No steps, or no feature that pruning has left.
        if self.image_steps.is_empty() || end == 0 {
            return Ok(());
        }
        if threads() == 1 || self.workspaces.len() == 1 {
            let workspace = &mut self.workspaces[0];
            let images = self.images.chunks(input).zip(ends.chunks_mut(end));
            for (image, end) in images {
                workspace.image::<TIMED>(steps, image, end)?;
            }
            return Ok(());
        }
        let share = self.batch.div_ceil(self.workspaces.len());
        let shares = self.images.par_chunks(share * input).zip(ends.par_chunks_mut(share * end));
        shares.zip(&mut self.workspaces).try_for_each(|((images, ends), workspace)| {
            let mut images = images.chunks(input).zip(ends.chunks_mut(end));
            alone(|| {
                images.try_for_each(|(image, end)| workspace.image::<TIMED>(steps, image, end))
            })
        })
    }
}

impl Workspace {
    fn image<const TIMED: bool>(
        &mut self,
        steps: &[ImageStep],
        image: &[f32],
        end: &mut [f32],
    ) -> Result<()> {
        for (index, step) in steps.iter().enumerate() {
            let start = TIMED.then(Instant::now);
            // Taken out and put back, so that input and output can be borrowed at once.
            let mut taken = match step.to {
                Place::Buffer(to) => std::mem::take(&mut self.buffers[to]),
                Place::Image | Place::End => Vec::new(),
            };
            let y = if step.to == Place::End { &mut *end } else { &mut taken[..] };
            match &step.work {
                ImageWork::Planes(planes) => planes.run(self.input(step.from, image), y)?,
                ImageWork::Conv { convolution, split: None, to } => {
                    convolution.run_map(self.input(step.from, image), y, to)?;
                }
                ImageWork::Conv { convolution, split: Some(phases), to } => {
                    let mut map = std::mem::take(&mut self.buffers[*phases]);
                    convolution.split(self.input(step.from, image), &mut map)?;
                    convolution.run_map(&map, y, to)?;
                    self.buffers[*phases] = map;
                }
            }
            if let Place::Buffer(to) = step.to {
                self.buffers[to] = taken;
            }
            if let Some(start) = start {
                self.seconds[index] += start.elapsed().as_secs_f64();
            }
        }
        Ok(())
    }

    fn input<'a>(&'a self, place: Place, image: &'a [f32]) -> &'a [f32] {
        match place {
            Place::Buffer(index) => &self.buffers[index],
            Place::Image | Place::End => image,
        }
    }
}

/// The transpose of a matrix, in squares that registers hold.
fn turn(from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32]) {
    const SIDE: usize = 16;
    for row in (0..rows).step_by(SIDE) {
        for column in (0..columns).step_by(SIDE) {
            if row + SIDE <= rows && column + SIDE <= columns {
                let mut square = [[0.0_f32; SIDE]; SIDE];
                for (i, line) in square.iter_mut().enumerate() {
                    line.copy_from_slice(&from[(row + i) * columns + column..][..SIDE]);
                }
                for j in 0..SIDE {
                    let line: [f32; SIDE] = std::array::from_fn(|i| square[i][j]);
                    to[(column + j) * rows + row..][..SIDE].copy_from_slice(&line);
                }
            } else {
                for i in row..rows.min(row + SIDE) {
                    for j in column..columns.min(column + SIDE) {
                        to[j * rows + i] = from[i * columns + j];
                    }
                }
            }
        }
    }
}

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
    map: Map,
}

struct Builder<'a, 'p> {
    plan: &'a Plan<'p>,
    formats: &'a [Format],
    batch: usize,
    library: Option<&'a Arc<dyn DenseLibrary>>,
    choices: &'a mut Choices,
    buffers: Vec<Planned>,
}

impl Builder<'_, '_> {
    fn image_steps(&mut self, steps: &[Step<'_>]) -> Result<Vec<ImageStep>> {
        let mut value = Value { place: Place::Image, map: Map::plain(self.plan.input) };
        let mut made = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let to = match steps.get(index + 1) {
                None => Value { place: Place::End, map: Map::plain(step.output) },
                Some(next) => self.value_for(next, step.output, value.place),
            };
            let work = match &step.work {
                Work::Conv { geometry, product } => {
                    let map = Convolution::input_map(geometry);
                    if let Some(map) = map.filter(|map| *map != value.map) {
                        let bordered = self.bordered(map, step.input);
                        made.push(border(step, value, bordered)?);
                        value = bordered;
                    }
                    let (convolution, about) =
                        self.convolution(step, geometry, product, &to.map)?;
                    let split = map.is_none().then(|| {
                        let floats = Convolution::map_floats(geometry);
                        self.buffers.push(Planned { floats, bordered: true });
                        self.buffers.len() - 1
                    });
                    (ImageWork::Conv { convolution, split, to: to.map }, about)
                }
                Work::Planes(between) => {
                    let planes = Planes::new(&between.op(), step.input, [value.map, to.map])?;
                    let about = about_planes(step, between, &planes);
                    (ImageWork::Planes(planes), about)
                }
                Work::Linear(_) => return Err(self.behind_dense(step)), // steps end before it
            };
            let (work, about) = work;
            made.push(ImageStep { work, from: value.place, to: to.place, about });
            value = to;
        }
        Ok(made)
    }

    /// Where the next step wants to find a value that is made from one at `from`.
    fn value_for(&mut self, next: &Step<'_>, shape: Shape, from: Place) -> Value {
        if let Work::Conv { geometry, .. } = &next.work
            && let Some(map) = Convolution::input_map(geometry)
            && map != Map::plain(shape)
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
        Value { place: Place::Buffer(index), map: Map::plain(shape) }
    }

    /// A buffer of its own for a value with zeros around it.
    fn bordered(&mut self, map: Map, shape: Shape) -> Value {
        let floats = map.floats(shape, 1).max(map.image);
        self.buffers.push(Planned { floats, bordered: true });
        Value { place: Place::Buffer(self.buffers.len() - 1), map }
    }

    /// The fastest convolution of the formats, and what there is to know of it.
    fn convolution(
        &mut self,
        step: &Step<'_>,
        geometry: &Geometry,
        product: &Product<'_>,
        to: &Map,
    ) -> Result<(Convolution, Description)> {
        let columns = Convolution::columns(geometry)?;
        let all = self.stored(product)?;
        let mut candidates: Vec<Candidate<'_, (Convolution, Description)>> = Vec::new();
        for (&format, stored) in self.formats.iter().zip(&all) {
            let variants = match format {
                Format::Csr => vec![None],
                _ => group_spmm::contenders(columns)?.into_iter().map(Some).collect(),
            };
            for variant in variants {
                let name = variant.map_or("csr", |variant| variant.name);
                let make = move || {
                    let pack = |layer: &convolution::Layer<'_>| match variant {
                        Some(variant) => Convolution::with(variant, layer),
                        None => Convolution::new(layer),
                    };
                    let convolution = stored.with_convolution(*geometry, product, pack)?;
                    let kernel = convolution.variant().unwrap_or("none").to_owned();
                    let about = describe(step, product, stored, kernel);
                    Ok((convolution, about))
                };
                candidates.push((format!("{} {name}", tag(format)), Box::new(make)));
            }
        }
        let key = format!(
            "conv {geometry:?} {:?} {to:?} {}",
            product.matrices.iter().map(|m| m.dim()).collect::<Vec<_>>(),
            sparsity(product, &all),
        );
        let x = random(Convolution::map_floats(geometry));
        let mut y = vec![0.0; to.floats(step.output, 1).max(to.image)];
        let y = RefCell::new(&mut y);
        self.choices.fastest(&self.key(&key), &candidates, KERNELS, |(convolution, _), calls| {
            let start = Instant::now();
            for _ in 0..calls {
                convolution.run_map(&x, &mut y.borrow_mut(), to)?;
            }
            Ok(start.elapsed().as_secs_f64())
        })
    }

    fn batch_step(&mut self, step: &Step<'_>) -> Result<BatchStep> {
        let [features, height, width] = step.input;
        match &step.work {
            Work::Linear(product) => {
                let (kernel, about) = self.dense(step, product)?;
                let shape = product.matrices[0].dim().into();
                Ok(BatchStep { work: BatchWork::Dense(kernel, shape), about })
            }
            Work::Planes(between @ (Between::Relu | Between::Affine { .. } | Between::Copy))
                if height * width == 1 =>
            {
                // The images of a feature lie side by side, as the pixels of a row.
                let shape = [features, 1, self.batch];
                let plain = Map::plain(shape);
                let planes = Planes::new(&between.op(), shape, [plain, plain])?;
                let about = about_planes(step, between, &planes);
                Ok(BatchStep { work: BatchWork::Planes(planes), about })
            }
            Work::Planes(_) | Work::Conv { .. } => Err(self.behind_dense(step)),
        }
    }

    fn behind_dense(&self, step: &Step<'_>) -> Error {
        Error::Layer {
            network: self.plan.network.to_owned(),
            layer: step.name.to_owned(),
            expected:
                "no convolution, pooling or response normalisation behind a dense layer, where \
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
    ) -> Result<(DenseProduct, Description)> {
        let (batch, library) = (self.batch, self.library);
        let matrix = product.matrices[0];
        let (m, k) = matrix.dim();
        let (bias, relu) = (Some(product.bias), product.relu);
        let [inputs, outputs]: [Vec<usize>; 2] = [(0..k).collect(), (0..m).collect()];
        let (inputs, outputs) = (&inputs, &outputs);
        let all = self.stored(product)?;
        let mut candidates: Vec<Candidate<'_, (DenseProduct, Description)>> = Vec::new();
        for (&format, stored) in self.formats.iter().zip(&all) {
            let mut kernels: Vec<(&str, Box<dyn Fn() -> Result<DenseProduct> + '_>)> = Vec::new();
            match stored {
                Stored::Dense(_) => {
                    for variant in masked_dense::contenders(batch, library.is_some())? {
                        let make = move || {
                            let layer = masked_dense::Layer {
                                weights: matrix,
                                inputs: Nodes { living: inputs, compacted: true },
                                outputs: Nodes { living: outputs, compacted: true },
                                bias,
                                relu,
                            };
                            let kernel = MaskedDense::with(variant, &layer, batch, library)?;
                            Ok(DenseProduct::Masked(kernel))
                        };
                        kernels.push((variant.name, Box::new(make)));
                    }
                }
                Stored::Groups(all) => {
                    let layer = group_spmm::Layer { weights: &all[0], bias, relu };
                    for variant in group_spmm::contenders(batch)? {
                        let make = move || {
                            let kernel = GroupSpmm::with(variant, &layer)?;
                            Ok(DenseProduct::Sparse(Box::new(kernel)))
                        };
                        kernels.push((variant.name, Box::new(make)));
                    }
                }
                Stored::Csr(all) => {
                    let layer = csr_spmm::Layer { weights: &all[0], bias, relu };
                    let make =
                        move || Ok(DenseProduct::Sparse(Box::new(CsrSpmm::new(&layer)?) as _));
                    kernels.push(("csr", Box::new(make)));
                }
            }
            for (name, make) in kernels {
                let make = move || {
                    let kernel = make()?;
                    let about = describe(step, product, stored, kernel.name().to_owned());
                    Ok((kernel, about))
                };
                candidates.push((format!("{} {name}", tag(format)), Box::new(make)));
            }
        }
        let key = format!("dense {m}x{k}x{batch} {}", sparsity(product, &all));
        let x = random(k * batch);
        let y = RefCell::new(vec![0.0; m * batch]);
        self.choices.fastest(&self.key(&key), &candidates, KERNELS, |(kernel, _), calls| {
            let start = Instant::now();
            for _ in 0..calls {
                kernel.run(&x, batch, &mut y.borrow_mut())?;
            }
            Ok(start.elapsed().as_secs_f64())
        })
    }

    /// A product's weights in each of the formats.
    fn stored<'a>(&self, product: &Product<'a>) -> Result<Vec<Stored<'a>>> {
        self.formats.iter().map(|&format| Stored::new(&product.matrices, format)).collect()
    }

    /// A key of a choice among the formats on these threads.
    fn key(&self, layer: &str) -> String {
        let formats: Vec<String> = self.formats.iter().map(|&format| tag(format)).collect();
        format!("{} threads | {} | {layer}", threads(), formats.join(", "))
    }
}

/// A step that copies a value between zeros.
fn border(step: &Step<'_>, from: Value, to: Value) -> Result<ImageStep> {
    let planes = Planes::new(&Between::Copy.op(), step.input, [from.map, to.map])?;
    let mut about = about_planes(step, &Between::Copy, &planes);
    about.layer = format!("{} input", step.name);
    about.shape = format!("{:?}", step.input);
    Ok(ImageStep { work: ImageWork::Planes(planes), from: from.place, to: to.place, about })
}

fn about_planes(step: &Step<'_>, between: &Between, planes: &Planes) -> Description {
    Description {
        layer: step.name.to_owned(),
        shape: format!("{:?}", step.output),
        kernel: planes.variant().name.to_owned(),
        bytes: between.bytes(),
        ..Description::default()
    }
}

/// Activations to time kernels on.
fn random(floats: usize) -> Vec<f32> {
    let mut rng = crate::seed::stream(1, "activations", &[]);
    (0..floats).map(|_| rng.random_range(-1.0..1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_matrix_has_its_rows_as_columns() {
        for (rows, columns) in [(1, 5), (16, 16), (17, 35), (33, 16), (3, 100), (0, 4)] {
            let from: Vec<f32> = (0..rows * columns).map(|place| place as f32).collect();
            let mut to = vec![f32::NAN; from.len()];
            turn(&from, [rows, columns], &mut to);
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                assert_eq!(to[j * rows + i], from[i * columns + j], "{rows}x{columns}: {i}, {j}");
            }
        }
    }
}

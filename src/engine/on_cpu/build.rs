//! From a plan to the steps of a CPU: where every value lies, and which kernel each product runs on.

use std::cell::RefCell;
use std::sync::Arc;

use rand::RngExt;

use super::{BatchStep, BatchWork, DenseProduct, ImageStep, ImageWork, Place, Spread, shared_out};
use crate::engine::attendants::Attendants;
use crate::engine::choices::{Candidate, Choices, KERNELS};
use crate::engine::explain::Description;
use crate::engine::plan::{Between, Plan, Product, Step, Work};
use crate::engine::stored::{Stored, describe, sparsity, tag};
use crate::error::{Error, Result};
use crate::kernels::convolution::{self, Convolution, Geometry};
use crate::kernels::csr_spmm::{self, CsrSpmm};
use crate::kernels::group_spmm::{self, GroupSpmm};
use crate::kernels::masked_dense::{self, DenseLibrary, MaskedDense, Nodes};
use crate::kernels::planes::{Map, cpu::Planes};
use crate::kernels::threads;
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
    map: Map,
}

pub(super) struct Builder<'a, 'p> {
    plan: &'a Plan<'p>,
    formats: &'a [Format],
    batch: usize,
    library: Option<&'a Arc<dyn DenseLibrary>>,
    choices: &'a mut Choices,
    attendants: &'a Attendants,
    buffers: Vec<Planned>,
}

impl<'a, 'p> Builder<'a, 'p> {
    pub fn new(
        plan: &'a Plan<'p>,
        formats: &'a [Format],
        batch: usize,
        library: Option<&'a Arc<dyn DenseLibrary>>,
        choices: &'a mut Choices,
        attendants: &'a Attendants,
    ) -> Self {
        Self { plan, formats, batch, library, choices, attendants, buffers: Vec::new() }
    }

    /// The buffers of a workspace, for the steps that were made so far.
    pub fn buffers(&self) -> Vec<Vec<f32>> {
        self.buffers.iter().map(|buffer| vec![0.0; buffer.floats]).collect()
    }

    pub fn image_steps(&mut self, steps: &[Step<'_>]) -> Result<Vec<ImageStep>> {
        let mut value = Value { place: Place::Image, map: Map::plain(self.plan.input) };
        let mut made = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let to = match steps.get(index + 1) {
                None => Value { place: Place::End, map: Map::plain(step.output) },
                Some(next) => self.value_for(next, step.output, value.place),
            };
            let (work, about) = match &step.work {
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
        // Of images that are shared out, each is convolved by one thread.
        let spread = if shared_out(self.batch) { Spread::Alone } else { Spread::over_all() };
        let (key, attendants) = (self.key(spread, &key), self.attendants);
        self.choices.fastest(&key, &candidates, KERNELS, |(convolution, _), calls| {
            let y: &mut [f32] = &mut y.borrow_mut();
            spread.seconds(attendants, calls, || convolution.run_map(&x, y, to))
        })
    }

    pub fn batch_step(&mut self, step: &Step<'_>) -> Result<BatchStep> {
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
            let mut kernels: Vec<Candidate<'_, DenseProduct>> = Vec::new();
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
                        kernels.push((variant.name.to_owned(), Box::new(make)));
                    }
                }
                Stored::Groups(all) => {
                    let layer = group_spmm::Layer { weights: &all[0], bias, relu };
                    for variant in group_spmm::contenders(batch)? {
                        let make = move || {
                            let kernel = GroupSpmm::with(variant, &layer)?;
                            Ok(DenseProduct::Sparse(Box::new(kernel)))
                        };
                        kernels.push((variant.name.to_owned(), Box::new(make)));
                    }
                }
                Stored::Csr(all) => {
                    let layer = csr_spmm::Layer { weights: &all[0], bias, relu };
                    let make =
                        move || Ok(DenseProduct::Sparse(Box::new(CsrSpmm::new(&layer)?) as _));
                    kernels.push(("csr".to_owned(), Box::new(make)));
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
        let spread = Spread::over_all();
        let (key, attendants) = (self.key(spread, &key), self.attendants);
        self.choices.fastest(&key, &candidates, KERNELS, |(kernel, _), calls| {
            let y: &mut [f32] = &mut y.borrow_mut();
            spread.seconds(attendants, calls, || kernel.run(&x, batch, y))
        })
    }

    /// A product's weights in each of the formats.
    fn stored<'w>(&self, product: &Product<'w>) -> Result<Vec<Stored<'w>>> {
        self.formats.iter().map(|&format| Stored::new(&product.matrices, format)).collect()
    }

    /// A key of a choice among the formats, for a layer that is spread over threads like this.
    fn key(&self, spread: Spread, layer: &str) -> String {
        let formats: Vec<String> = self.formats.iter().map(|&format| tag(format)).collect();
        let threads = if spread == Spread::Alone { 1 } else { threads() };
        format!("{threads} threads | {} | {layer}", formats.join(", "))
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

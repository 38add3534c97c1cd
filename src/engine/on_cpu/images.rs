//! The steps before the first dense layer, which a thread runs on a few images at a time.
//!
//! Each image goes through all of its steps before the next one does, so that its activations stay in the caches.
//! Where a library convolves, it takes the images of a block at once, since it reads its weights, which the second-level
//! cache may not hold, once for all of them: the block's images have gone as far as that step by then.

use std::ops::Range;
use std::time::Instant;

use super::Description;
use crate::error::Result;
use crate::kernels::Aligned;
use crate::kernels::convolution::Convolution;
use crate::kernels::layout::ImageLayout;
use crate::kernels::pool_eltwise::PoolEltwise;

/// Images in a block, where a library convolves and each thread has as many. oneDNN at AlexNet's conv3 to conv5, 1, 2, 4
/// and 8 images at once, the weights of the other layers read in between, AMD EPYC (family 25, model 17): 87, 94, 101,
/// 108 GFLOP/s.
const BLOCK: usize = 8;

/// How many images a thread takes at once for a library, of a batch of so many.
pub(super) fn block(batch: usize, threads: usize) -> usize {
    batch.div_ceil(threads.max(1)).clamp(1, BLOCK)
}

/// Where a step finds its input, or leaves its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The image itself.
    Image,
    /// A buffer of the workspace.
    Buffer(usize),
    /// After all steps on the image.
    End,
}

pub(super) struct ImageStep {
    pub work: ImageWork,
    pub from: Place,
    pub to: Place,
    pub about: Description,
}

pub(super) enum ImageWork {
    PoolEltwise(PoolEltwise),
    Conv {
        convolution: Convolution,
        /// The buffer into which the image is split into phases first.
        split: Option<usize>,
        to: ImageLayout,
    },
}

impl ImageStep {
    /// Whether it takes all images of a block at once.
    fn takes_blocks(&self) -> bool {
        matches!(&self.work, ImageWork::Conv { convolution, .. } if convolution.is_of_a_library())
    }
}

/// The steps on images, and how many images a thread takes.
pub(super) struct ImageSteps {
    steps: Vec<ImageStep>,
    /// Runs of steps that take blocks, or that do not.
    runs: Vec<Range<usize>>,
    block: usize,
}

impl ImageSteps {
    /// Of a batch of so many images that threads share out, where there are several.
    pub fn new(steps: Vec<ImageStep>, batch: usize, threads: usize) -> Self {
        let mut runs = Vec::new();
        let mut start = 0;
        for run in steps.chunk_by(|a, b| a.takes_blocks() == b.takes_blocks()) {
            runs.push(start..start + run.len());
            start += run.len();
        }
        let blocks = steps.iter().any(ImageStep::takes_blocks);
        let block = if blocks { block(batch, threads) } else { 1 };
        Self { steps, runs, block }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn steps(&self) -> &[ImageStep] {
        &self.steps
    }

    /// Images that a thread takes at once.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Activations for a thread, whose buffers need so many floats for an image.
    pub fn workspace(&self, floats: &[usize]) -> Workspace {
        let kept = |index: usize| {
            let place = Place::Buffer(index);
            let mut touching =
                self.steps.iter().filter(|step| step.from == place || step.to == place);
            touching.any(ImageStep::takes_blocks)
        };
        let buffer = |(index, &floats): (usize, &usize)| match kept(index) {
            true => Buffer { values: Aligned::zeros(self.block * floats), stride: floats },
            false => Buffer { values: Aligned::zeros(floats), stride: 0 },
        };
        Workspace {
            buffers: floats.iter().enumerate().map(buffer).collect(),
            seconds: vec![0.0; self.steps.len()],
        }
    }
}

/// A buffer of activations.
#[derive(Clone, Debug, Default)]
struct Buffer {
    values: Aligned,
    /// From one image of a block to the next; 0 where they take turns, as nothing stays in it from one run of steps to
    /// the next.
    stride: usize,
}

/// The activations of a block of images, and the seconds that its steps took.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    buffers: Vec<Buffer>,
    pub seconds: Vec<f64>,
}

/// Images side by side.
struct Inputs<'a> {
    values: &'a [f32],
    stride: usize,
}

/// What becomes of images, side by side.
struct Outputs<'a> {
    values: &'a mut [f32],
    stride: usize,
}

impl Workspace {
    /// Runs all steps on some images, each `images.len() / count` floats long, and leaves what comes of them in `ends`.
    pub fn run<const TIMED: bool>(
        &mut self,
        steps: &ImageSteps,
        count: usize,
        images: &[f32],
        ends: &mut [f32],
    ) -> Result<()> {
        let images = Inputs { stride: images.len() / count, values: images };
        let mut ends = Outputs { stride: ends.len() / count, values: ends };
        for run in &steps.runs {
            let at_once = if steps.steps[run.start].takes_blocks() { count } else { 1 };
            for first in (0..count).step_by(at_once) {
                for index in run.clone() {
                    let start = TIMED.then(Instant::now);
                    let some = first..first + at_once;
                    self.step(&steps.steps[index], some, &images, &mut ends)?;
                    if let Some(start) = start {
                        self.seconds[index] += start.elapsed().as_secs_f64();
                    }
                }
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        step: &ImageStep,
        some: Range<usize>,
        images: &Inputs<'_>,
        ends: &mut Outputs<'_>,
    ) -> Result<()> {
        // Taken out and put back, so that input and output can be borrowed at once.
        let mut taken = match step.to {
            Place::Buffer(to) => std::mem::take(&mut self.buffers[to]),
            Place::Image | Place::End => Buffer::default(),
        };
        let (values, stride) = match step.to {
            Place::End => (&mut *ends.values, ends.stride),
            Place::Image | Place::Buffer(_) => (&mut taken.values[..], taken.stride),
        };
        let y = &mut values[some.start * stride..];
        let done = match &step.work {
            ImageWork::PoolEltwise(kernel) => {
                kernel.run(self.input(step.from, some.start, images).values, y)
            }
            ImageWork::Conv { convolution, split: None, to } => {
                let x = self.input(step.from, some.start, images);
                let to = ImageLayout { image_stride: stride, ..*to };
                convolution.run_maps(x.values, x.stride, some.len(), y, &to)
            }
            ImageWork::Conv { convolution, split: Some(phases), to } => {
                let mut map = std::mem::take(&mut self.buffers[*phases]);
                let image = self.input(step.from, some.start, images).values;
                let done = convolution
                    .split(image, &mut map.values)
                    .and_then(|()| convolution.run_maps(&map.values, 0, 1, y, to));
                self.buffers[*phases] = map;
                done
            }
        };
        if let Place::Buffer(to) = step.to {
            self.buffers[to] = taken;
        }
        done
    }

    /// From that image of a block on.
    fn input<'a>(&'a self, place: Place, image: usize, images: &Inputs<'a>) -> Inputs<'a> {
        let (values, stride) = match place {
            Place::Buffer(index) => (&self.buffers[index].values[..], self.buffers[index].stride),
            Place::Image | Place::End => (images.values, images.stride),
        };
        Inputs { values: &values[image * stride..], stride }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::on_cpu::build::tests::image_steps;
    use crate::engine::plan::{Plan, Work};
    use crate::kernels::convolution::library::tests::LoopsConv;
    use crate::kernels::convolution::{ConvLayer, ConvLibrary, Weights as ConvWeights};
    use crate::network::{Weights, zoo};

    #[test]
    fn a_library_that_takes_blocks_computes_the_same_wherever_it_stands() {
        let library: Arc<dyn ConvLibrary> = Arc::new(LoopsConv);
        for name in ["convnet", "alexnet"] {
            let network = zoo::narrow(name).unwrap();
            let weights = Weights::random(&network, 1).unwrap();
            let plan = Plan::of(&network, &weights).unwrap();
            let input = network.input.iter().product::<usize>();
            let batch = BLOCK + 3;
            let pixels: Vec<f32> = (0..batch * input)
                .map(|place| (place * 7919 % 1013) as f32 / 500.0 - 1.0)
                .collect();
            // Which of the convolutions are the library's.
            let run = |theirs: usize| {
                let (mut steps, floats, end) = image_steps(&plan);
                let convolutions = plan.steps.iter().filter_map(|step| match &step.work {
                    Work::Conv { geometry, product } => Some((step.name, *geometry, product)),
                    _ => None,
                });
                for (place, (name, geometry, product)) in convolutions.enumerate() {
                    if theirs >> place & 1 == 0 {
                        continue;
                    }
                    let weights = ConvWeights::Dense(&product.matrices);
                    let (bias, relu) = (Some(product.bias), product.relu);
                    let layer = ConvLayer { geometry, weights, bias, relu };
                    let step = steps.iter_mut().find(|step| step.about.layer == name).unwrap();
                    let ImageWork::Conv { convolution, split, .. } = &mut step.work else {
                        panic!("{name} is a convolution")
                    };
                    *convolution = Convolution::with_conv_library(&library, &layer).unwrap();
                    *split = None;
                }
                let steps = ImageSteps::new(steps, batch, 1);
                let mut workspace = steps.workspace(&floats);
                let mut ends = vec![f32::NAN; batch * end];
                let block = steps.block();
                assert_eq!(block, if theirs == 0 { 1 } else { BLOCK });
                let blocks = pixels.chunks(block * input).zip(ends.chunks_mut(block * end));
                for (images, ends) in blocks {
                    workspace.run::<false>(&steps, images.len() / input, images, ends).unwrap();
                }
                ends
            };
            let ours = run(0);
            for theirs in 1..8 {
                for (place, (ours, found)) in ours.iter().zip(run(theirs)).enumerate() {
                    let near = (ours - found).abs() <= 1e-4 * ours.abs().max(1.0);
                    assert!(near, "{name}, {theirs:b}, {place}: {ours} and {found}");
                }
            }
        }
    }
}

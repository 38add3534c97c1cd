//! Labelled images as batches on a device, and the measure of a network on them.

use std::fmt::Debug;

use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

use super::prepare::Preparation;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::seed;
use crate::torch::MemoryFormat;
use crate::torch::{Mode, Tensors, forward};

/// Images per step of an evaluation. It changes no result, only its speed.
const EVALUATION_BATCH: usize = 1000;

/// Some images and their classes, on a device.
#[derive(Debug)]
pub struct Batch {
    /// `[count, channels, height, width]`, f32.
    pub images: Tensor,
    /// `[count]`, i64.
    pub labels: Tensor,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.size().first().map_or(0, |&length| length as usize)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The batches of one pass.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch>> + 'a>;

/// In which order a pass takes the images.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// As they are stored, as they are.
    Stored,
    /// For training: in a random order, and augmented where the images are.
    Shuffled {
        /// Seed of the run.
        seed: u64,
        /// Stage and epoch.
        place: [u64; 2],
    },
}

impl Order {
    /// The places of `count` images, in this order.
    pub fn places(self, count: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..count as i64).collect();
        if let Self::Shuffled { seed, place } = self {
            order.shuffle(&mut seed::stream(seed, "shuffle", &place));
        }
        order
    }
}

/// Labelled images, wherever they lie.
pub trait Images: Debug {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One pass over all of them, `size` at a time; the last batch may be smaller.
    ///
    /// # Errors
    /// What keeps them from being read.
    fn batches(&self, order: Order, size: usize) -> Result<Batches<'_>>;

    /// Images of an evaluation's step.
    fn evaluation_batch(&self) -> usize {
        EVALUATION_BATCH
    }
}

/// Images that lie on the device whole: no work per image is left for the training loop.
#[derive(Debug)]
pub struct ImageTensors {
    all: Batch,
    device: Device,
}

impl ImageTensors {
    /// Prepares the images of `split` and copies them to `device`.
    ///
    /// # Errors
    /// No images; images of another shape than was prepared for.
    pub fn new(split: &Split, preparation: &Preparation, device: Device) -> Result<Self> {
        if split.is_empty() {
            return Err(Error::argument("prepare images", "at least one", "none"));
        }
        let images = preparation.apply(split, device)?;
        let labels: Vec<i64> = split.labels.iter().map(|&label| i64::from(label)).collect();
        let labels = Tensor::f_from_slice(&labels).and_then(|labels| labels.f_to_device(device));
        let labels = labels.map_err(Error::torch("copy the labels"))?;
        Ok(Self { all: Batch { images, labels }, device })
    }

    /// All of them.
    pub fn all(&self) -> &Batch {
        &self.all
    }
}

impl Images for ImageTensors {
    fn len(&self) -> usize {
        self.all.len()
    }

    fn batches(&self, order: Order, size: usize) -> Result<Batches<'_>> {
        let count = self.len();
        let places = match order {
            Order::Stored => None,
            Order::Shuffled { .. } => {
                let places = Tensor::f_from_slice(&order.places(count));
                let places = places.and_then(|places| places.f_to_device(self.device));
                Some(places.map_err(Error::torch("copy the order of the images"))?)
            }
        };
        let batch = move |first: usize| {
            let (start, length) = (first as i64, size.min(count - first) as i64);
            let take = |all: &Tensor| match &places {
                None => all.f_narrow(0, start, length),
                Some(places) => all.f_index_select(0, &places.f_narrow(0, start, length)?),
            };
            let both =
                || Ok(Batch { images: take(&self.all.images)?, labels: take(&self.all.labels)? });
            both().map_err(Error::torch("gather a batch"))
        };
        Ok(Box::new((0..count).step_by(size.max(1)).map(batch)))
    }
}

/// How well a network does on a set of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Images whose class has the highest score.
    pub correct: usize,
    /// Images whose class is among the five highest; `None` with fewer than [`MANY_CLASSES`] classes.
    pub correct_top5: Option<usize>,
    /// All images that could be read.
    pub total: usize,
    /// Classes whose score is not the same for all images.
    pub varying: usize,
    /// All classes.
    pub classes: usize,
}

/// Classes from which on it is usual to count the five highest too.
pub const MANY_CLASSES: usize = 100;

impl Score {
    /// Correct images in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.correct as f64 / self.total.max(1) as f64
    }

    /// Whether the network tells no images apart: with three classes or more, less than two scores
    /// depend on the image.
    pub fn is_dead(&self) -> bool {
        self.total > 1 && self.classes > 2 && self.varying < 2
    }
}

/// Measures a network on images, in inference mode.
///
/// # Errors
/// What [`forward`] returns; images that cannot be read.
pub fn score(
    images: &dyn Images,
    network: &Network,
    parameters: &Tensors,
    mask_tensors: &Tensors,
) -> Result<Score> {
    let classes = network.shapes()?.last().map_or(0, |shape| shape.iter().product());
    score_by(images, images.evaluation_batch(), classes, |images| {
        let images = MemoryFormat::PREFERRED.of(images)?;
        forward(network, parameters, mask_tensors, &images, Mode::Inference)
    })
}

/// Measures whatever gives the scores `[images, classes]` of at most `size` images at a time.
///
/// # Errors
/// What `run` says; images that cannot be read.
pub fn score_by(
    images: &dyn Images,
    size: usize,
    classes: usize,
    mut run: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Score> {
    let refused = || Error::torch("count correct images");
    let mut total = 0;
    let mut sums: Option<Counts> = None;
    for batch in images.batches(Order::Stored, size)? {
        let batch = batch?;
        let counts = tch::no_grad(|| {
            let scores = run(&batch.images)?;
            Counts::of(&scores, &batch.labels).map_err(refused())
        })?;
        total += batch.len();
        sums = Some(match sums {
            None => counts,
            Some(sums) => sums.and(&counts).map_err(refused())?,
        });
    }
    // One synchronisation for all batches.
    let number = |sum: &Tensor| Ok::<_, Error>(sum.f_int64_value(&[]).map_err(refused())? as usize);
    let [correct, top5, varying] = match &sums {
        None => [0; 3],
        Some(sums) => [
            number(&sums.first)?,
            number(&sums.five)?,
            number(&sums.varying().map_err(refused())?)?,
        ],
    };
    let correct_top5 = (classes >= MANY_CLASSES).then_some(top5);
    Ok(Score { correct, correct_top5, total, varying, classes })
}

/// By how much scores that are the same may lie apart, of their size: batches of other lengths are summed in
/// another order.
const ROUNDING: f64 = 1e-6;

/// What [`score`] collects on the device.
struct Counts {
    /// Images whose class has the highest score.
    first: Tensor,
    /// Images whose class is among the five highest, where there are many classes.
    five: Tensor,
    /// The lowest and the highest score of each class.
    range: [Tensor; 2],
}

impl Counts {
    fn of(scores: &Tensor, labels: &Tensor) -> Result<Self, tch::TchError> {
        let classes = scores.size().get(1).copied().unwrap_or(0);
        let first = scores.f_argmax(1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
        let five = if classes < MANY_CLASSES as i64 {
            first.shallow_clone()
        } else {
            let (_, best) = scores.f_topk(5, 1, true, false)?;
            best.f_eq_tensor(&labels.f_unsqueeze(1)?)?.f_sum(Kind::Int64)?
        };
        Ok(Self { first, five, range: [scores.f_amin([0], false)?, scores.f_amax([0], false)?] })
    }

    fn and(&self, other: &Self) -> Result<Self, tch::TchError> {
        Ok(Self {
            first: self.first.f_add(&other.first)?,
            five: self.five.f_add(&other.five)?,
            range: [
                self.range[0].f_minimum(&other.range[0])?,
                self.range[1].f_maximum(&other.range[1])?,
            ],
        })
    }

    /// How many classes' scores vary, by more than the order in which equal terms are added; NaN does.
    fn varying(&self) -> Result<Tensor, tch::TchError> {
        let [low, high] = &self.range;
        let rounding = low.f_abs()?.f_maximum(&high.f_abs()?)?.f_mul_scalar(ROUNDING)?;
        let same = high.f_sub(low)?.f_le_tensor(&rounding)?;
        same.f_logical_not()?.f_sum(Kind::Int64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_best_are_counted_where_there_are_many_classes() {
        let scores = Tensor::arange(200, (Kind::Float, Device::Cpu)).view([2, 100]);
        let labels = Tensor::from_slice(&[99_i64, 95]);
        let hits = |labels: &Tensor| {
            let counts = Counts::of(&scores, labels).unwrap();
            [counts.first.int64_value(&[]), counts.five.int64_value(&[])]
        };
        assert_eq!(hits(&labels), [1, 2]);
        assert_eq!(hits(&Tensor::from_slice(&[94_i64, 0]))[1], 0);
    }

    #[test]
    fn scores_that_are_the_same_for_all_images_are_not_counted_as_varying() {
        let counts = |rows: &[f32]| {
            let labels = Tensor::from_slice(&[0_i64, 0]);
            Counts::of(&Tensor::from_slice(rows).view([2, 3]), &labels).unwrap()
        };
        let varying = |counts: &Counts| counts.varying().unwrap().int64_value(&[]);
        let [same, one] =
            [counts(&[1.0, 0.0, 2.0, 1.0, 0.0, 2.0]), counts(&[1.0, 0.0, 2.0, 1.5, 0.0, 2.0])];
        assert_eq!([varying(&same), varying(&one)], [0, 1]);
        let rounded = counts(&[1.0, 0.0, f32::NAN, 1.0f32.next_up(), f32::MIN_POSITIVE, 2.0]);
        assert_eq!(varying(&rounded), 2, "not the first, which is rounded otherwise");
        // The same within each batch, but not in both.
        let other = counts(&[1.0, 0.0, 3.0, 1.0, 0.0, 3.0]);
        assert_eq!(varying(&one.and(&other).unwrap()), 2);
        let score = |varying, classes, total| Score {
            correct: 0,
            correct_top5: None,
            total,
            varying,
            classes,
        };
        assert!(score(1, 10, 2).is_dead() && score(0, 3, 9).is_dead());
        assert!(!score(2, 10, 2).is_dead(), "two classes are told apart");
        assert!(!score(1, 2, 9).is_dead(), "one score decides between two classes");
        assert!(!score(0, 10, 1).is_dead(), "one image");
    }

    #[test]
    fn a_pass_takes_every_image_once() {
        let split = Split { shape: [1, 1, 1], pixels: (0..7).collect(), labels: (0..7).collect() };
        let normalise = crate::data::Normalise { mean: vec![0.0], deviation: vec![1.0 / 255.0] };
        let pixels = crate::data::Preprocessing::Normalise(normalise);
        let preparation = Preparation::fit(&pixels, &split).unwrap();
        let images = ImageTensors::new(&split, &preparation, Device::Cpu).unwrap();
        let pass = |order| {
            let batches: Vec<Batch> =
                images.batches(order, 3).unwrap().collect::<Result<_>>().unwrap();
            assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [3, 3, 1]);
            let labels = |batch: &Batch| Vec::<i64>::try_from(&batch.labels).unwrap();
            for batch in &batches {
                let pixels = Vec::<f32>::try_from(&batch.images.view(-1)).unwrap();
                assert!(pixels.iter().zip(labels(batch)).all(|(&x, label)| x as i64 == label));
            }
            batches.iter().flat_map(labels).collect::<Vec<_>>()
        };
        assert_eq!(pass(Order::Stored), [0, 1, 2, 3, 4, 5, 6]);
        let mut shuffled = pass(Order::Shuffled { seed: 1, place: [0, 1] });
        assert_ne!(shuffled, pass(Order::Shuffled { seed: 1, place: [0, 2] }));
        shuffled.sort_unstable();
        assert_eq!(shuffled, [0, 1, 2, 3, 4, 5, 6]);
        let none = Split { shape: [1, 1, 1], pixels: vec![], labels: vec![] };
        assert!(ImageTensors::new(&none, &preparation, Device::Cpu).is_err());
    }
}

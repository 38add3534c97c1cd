//! A data set as two tensors in memory, and the measure of a network on it.

use tch::{Device, Kind, Tensor};

use super::recipe::Pixels;
use crate::baselines::torch::{Mode, Tensors, forward};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::network::Network;

/// Images per step of an evaluation. It changes no result, only its speed.
const EVALUATION_BATCH: i64 = 1000;

/// Images and labels on a device: no per-sample work is left for the training loop.
#[derive(Debug)]
pub struct ImageTensors {
    /// `[count, channels, height, width]`, f32, normalised.
    pub images: Tensor,
    /// `[count]`, i64.
    pub labels: Tensor,
}

/// How well a network does on a set of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Images whose class has the highest score.
    pub correct: usize,
    /// All images.
    pub total: usize,
}

impl Score {
    /// Correct images in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.correct as f64 / self.total.max(1) as f64
    }
}

impl ImageTensors {
    /// Normalises the first `limit` images of `split`, or all of them, and copies them to `device`.
    ///
    /// # Errors
    /// No images; channels that `pixels` says nothing about.
    pub fn new(
        split: &Split,
        pixels: &Pixels,
        limit: Option<usize>,
        device: Device,
    ) -> Result<Self> {
        let count = limit.map_or(split.len(), |limit| limit.min(split.len()));
        let [channels, height, width] = split.shape;
        if count == 0 || pixels.mean.len() != channels || pixels.deviation.len() != channels {
            let expected = format!("images of {} channels", pixels.mean.len());
            let found = format!("{count} images of {channels} channels");
            return Err(Error::argument("normalise images", expected, found));
        }
        let area = height * width;
        let mut values = vec![0_f32; count * channels * area];
        for (index, plane) in values.chunks_mut(area).enumerate() {
            let (mean, deviation) =
                (pixels.mean[index % channels], pixels.deviation[index % channels]);
            for (value, &pixel) in plane.iter_mut().zip(&split.pixels[index * area..]) {
                *value = ((f64::from(pixel) / 255.0 - mean) / deviation) as f32;
            }
        }
        let labels: Vec<i64> =
            split.labels[..count].iter().map(|&label| i64::from(label)).collect();
        let shape = [count, channels, height, width].map(|length| length as i64);
        let copy = || {
            Ok(Self {
                images: Tensor::f_from_slice(&values)?.f_reshape(shape)?.f_to_device(device)?,
                labels: Tensor::f_from_slice(&labels)?.f_to_device(device)?,
            })
        };
        copy().map_err(Error::torch("copy the images"))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Measures a network on these images, in inference mode.
    ///
    /// # Errors
    /// What [`forward`] returns.
    pub fn score(&self, network: &Network, parameters: &Tensors, gates: &Tensors) -> Result<Score> {
        let total = self.len() as i64;
        let refused = || Error::torch("count correct images");
        let mut correct: Option<Tensor> = None;
        for first in (0..total).step_by(EVALUATION_BATCH as usize) {
            let length = EVALUATION_BATCH.min(total - first);
            let hits = tch::no_grad(|| {
                let images = self.images.f_narrow(0, first, length).map_err(refused())?;
                let scores = forward(network, parameters, gates, &images, Mode::Inference)?;
                let count = || {
                    let labels = self.labels.f_narrow(0, first, length)?;
                    scores.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)
                };
                count().map_err(refused())
            })?;
            correct = Some(match correct {
                None => hits,
                Some(sum) => sum.f_add(&hits).map_err(refused())?,
            });
        }
        // One synchronisation for all batches.
        let correct = match correct {
            None => 0,
            Some(sum) => sum.f_int64_value(&[]).map_err(refused())?,
        };
        Ok(Score { correct: correct as usize, total: total as usize })
    }
}

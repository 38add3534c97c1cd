//! How intensities become a network's inputs, described as data, and what of it needs no fitting.

use serde::{Deserialize, Serialize};

use super::Split;
use crate::error::{Error, Result};

/// Below it, an image is of one colour and stays all 0.
const LEAST_NORM: f64 = 1e-8;

/// What is done to the images, as a recipe says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`{ mean = [...], deviation = [...] }` (a number for each channel), \
                 `{ whiten = { norm = ..., regulariser = ... } }` or \
                 `{ crop = { resize = ..., least_area = ... } }`"
)]
pub enum Preprocessing {
    /// Each channel by its mean and deviation.
    Normalise(Normalise),
    /// Global contrast normalisation, then ZCA whitening.
    Whiten {
        /// Its parameters.
        whiten: Whitening,
    },
    /// Crops of larger images, for data sets of files.
    Crop {
        /// Its parameters.
        crop: Cropping,
    },
}

/// x = (intensity / 255 - mean) / deviation, per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Per channel, of intensities between 0 and 1.
    pub mean: Vec<f64>,
    /// Per channel, likewise.
    pub deviation: Vec<f64>,
}

/// Global contrast normalisation (each image minus its own mean, then scaled to a norm), then ZCA
/// whitening fitted on the training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whitening {
    /// L2 norm of an image before the whitening.
    pub norm: f64,
    /// Added to the eigenvalues of the covariance.
    pub regulariser: f64,
}

/// Training: a random part of the image, scaled to the network's input and flipped at random. Test: the
/// image scaled so that its shorter side is `resize`, and its centre. Both: intensities from 0 to 255,
/// minus the mean image of the training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cropping {
    /// Shorter side of a test image before its centre is taken, in pixels.
    pub resize: usize,
    /// Smallest part of an image's area that a training crop takes, 0 to 1. Its aspect ratio is
    /// between 3/4 and 4/3.
    pub least_area: f64,
}

impl Normalise {
    /// The images as inputs, image by image, each channel by channel.
    ///
    /// # Errors
    /// Images of another number of channels.
    pub fn apply(&self, split: &Split) -> Result<Vec<f32>> {
        let [channels, height, width] = split.shape;
        if self.mean.len() != channels || self.deviation.len() != channels {
            let expected = format!("images of {} channels", self.mean.len());
            return Err(Error::argument("normalise images", expected, channels.to_string()));
        }
        let area = height * width;
        let mut inputs = vec![0_f32; split.pixels.len()];
        for (index, plane) in inputs.chunks_mut(area).enumerate() {
            let (mean, deviation) = (self.mean[index % channels], self.deviation[index % channels]);
            for (value, &pixel) in plane.iter_mut().zip(&split.pixels[index * area..]) {
                *value = ((f64::from(pixel) / 255.0 - mean) / deviation) as f32;
            }
        }
        Ok(inputs)
    }
}

impl Preprocessing {
    /// Refuses what cannot be applied to images of `channels`; the error says which field.
    ///
    /// # Errors
    /// A number that makes no sense, with the field that holds it.
    pub fn check(&self, channels: usize) -> Result<(), (&'static str, String, String)> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        match self {
            Self::Normalise(Normalise { mean, deviation }) => {
                for (field, values) in [("mean", mean), ("deviation", deviation)] {
                    if values.len() != channels || values.iter().any(|v| !v.is_finite()) {
                        let expected = format!("a number for each of the {channels} channels");
                        return Err((field, expected, format!("{values:?}")));
                    }
                }
                if !deviation.iter().all(|&value| positive(value)) {
                    return Err(("deviation", "numbers above 0".into(), format!("{deviation:?}")));
                }
            }
            Self::Whiten { whiten } => {
                for (field, value) in [("norm", whiten.norm), ("regulariser", whiten.regulariser)] {
                    if !positive(value) {
                        return Err((field, "a number above 0".into(), value.to_string()));
                    }
                }
            }
            Self::Crop { crop } => {
                if crop.resize == 0 {
                    return Err(("resize", "at least 1".into(), "0".into()));
                }
                if !(positive(crop.least_area) && crop.least_area <= 1.0) {
                    let expected = "a share above 0, up to 1".into();
                    return Err(("least_area", expected, crop.least_area.to_string()));
                }
            }
        }
        Ok(())
    }
}

/// Each image of `features` intensities minus its own mean, scaled to the L2 norm `norm`.
pub fn normalise_contrast(pixels: &[u8], features: usize, norm: f64, into: &mut [f32]) {
    for (pixels, into) in pixels.chunks_exact(features).zip(into.chunks_exact_mut(features)) {
        let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / features as f64;
        let squares: f64 = pixels.iter().map(|&pixel| (f64::from(pixel) - mean).powi(2)).sum();
        let length = squares.sqrt();
        let scale = if length > LEAST_NORM { norm / length } else { 0.0 };
        for (value, &pixel) in into.iter_mut().zip(pixels) {
            *value = ((f64::from(pixel) - mean) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn contrast_is_normalised_as_by_hand() {
        // Mean 2, deviations -2 0 0 2 of norm sqrt(8); an image of one colour stays 0.
        let mut values = [9.0; 8];
        normalise_contrast(&[0, 2, 2, 4, 7, 7, 7, 7], 4, 55.0, &mut values);
        assert_abs_diff_eq!(values[0], -55.0 / 2.0_f32.sqrt(), epsilon = 1e-4);
        assert_abs_diff_eq!(values[3], 55.0 / 2.0_f32.sqrt(), epsilon = 1e-4);
        assert_eq!(values[1], 0.0);
        assert_eq!(values[4..], [0.0; 4]);
    }

    #[test]
    fn recipes_say_which_preprocessing_they_mean() {
        let parse = |text: &str| {
            #[derive(Debug, Deserialize)]
            struct Field {
                pixels: Preprocessing,
            }
            toml::from_str::<Field>(text).map(|field| field.pixels)
        };
        let normalise = parse("pixels = { mean = [0.5], deviation = [0.1] }").unwrap();
        assert!(matches!(&normalise, Preprocessing::Normalise(_)));
        assert!(normalise.check(1).is_ok());
        assert_eq!(normalise.check(3).unwrap_err().0, "mean");
        let whiten = parse("pixels = { whiten = { norm = 55.0, regulariser = 0.0 } }").unwrap();
        assert_eq!(whiten.check(3).unwrap_err().0, "regulariser");
        let crop = parse("pixels = { crop = { resize = 256, least_area = 1.5 } }").unwrap();
        assert_eq!(crop.check(3).unwrap_err().0, "least_area");
        let error = parse("pixels = { mean = [0.5], devation = [0.1] }").unwrap_err().to_string();
        assert!(error.contains("deviation = [...]") && error.contains("whiten"), "{error}");
    }
}

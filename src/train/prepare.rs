//! From intensities in memory to inputs on a device, as the recipe says and as fitted on the training
//! images.

use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::zca::Zca;
use crate::data::fetch::{Places, hexadecimal};
use crate::data::{Normalise, Preprocessing, Split, Whitening, normalise_contrast};
use crate::error::{Error, Result};
use crate::files;
use crate::network::Weights;

/// Images that are whitened at a time.
const BLOCK: usize = 1000;

/// A preprocessing that is ready to be applied.
#[derive(Debug)]
pub struct Preparation(Kinds);

#[derive(Debug)]
enum Kinds {
    Normalise(Normalise),
    Whiten { norm: f64, zca: Zca },
}

impl Preparation {
    /// Fits a preprocessing on the training images. A whitening is looked up in, and left in, the cache
    /// of this system: it takes the better part of a minute.
    ///
    /// # Errors
    /// No images; channels that it says nothing about; a preprocessing for files.
    pub fn fit(preprocessing: &Preprocessing, train: &Split) -> Result<Self> {
        let cache = Places::from_environment().ok().map(|places| places.cache.join("whitening"));
        Self::fit_with(preprocessing, train, cache.as_deref())
    }

    /// The same, with another cache or none.
    fn fit_with(
        preprocessing: &Preprocessing,
        train: &Split,
        cache: Option<&Path>,
    ) -> Result<Self> {
        if let Err((field, expected, found)) = preprocessing.check(train.shape[0]) {
            return Err(Error::argument(format!("prepare images: {field}"), expected, found));
        }
        match preprocessing {
            Preprocessing::Normalise(normalise) => Ok(Self(Kinds::Normalise(normalise.clone()))),
            Preprocessing::Whiten { whiten } => {
                let zca = whitening(train, whiten, cache)?;
                Ok(Self(Kinds::Whiten { norm: whiten.norm, zca }))
            }
            Preprocessing::Crop { .. } => {
                let expected = "normalisation or whitening, for images in memory";
                Err(Error::argument("prepare images", expected, "crops"))
            }
        }
    }

    /// The images as inputs on `device`, `[count, channels, height, width]`, f32.
    ///
    /// # Errors
    /// Images of another shape than it was fitted on.
    pub fn apply(&self, split: &Split, device: Device) -> Result<Tensor> {
        let [channels, height, width] = split.shape.map(|length| length as i64);
        let shape = [split.len() as i64, channels, height, width];
        let copied = || Error::torch("copy the images");
        match &self.0 {
            Kinds::Normalise(normalise) => {
                let inputs = Tensor::f_from_slice(&normalise.apply(split)?);
                inputs.and_then(|x| x.f_reshape(shape)?.f_to_device(device)).map_err(copied())
            }
            Kinds::Whiten { norm, zca } => {
                let features = split.shape.iter().product::<usize>();
                if zca.features() != features {
                    let expected = format!("images of {} intensities", zca.features());
                    return Err(Error::argument("whiten images", expected, features.to_string()));
                }
                let inputs = Tensor::f_empty(shape, (Kind::Float, device)).map_err(copied())?;
                let mut block = vec![0_f32; BLOCK * features];
                for (place, pixels) in split.pixels.chunks(BLOCK * features).enumerate() {
                    let block = &mut block[..pixels.len()];
                    normalise_contrast(pixels, features, *norm, block);
                    let rows = (pixels.len() / features) as i64;
                    let whitened = Tensor::f_from_slice(block)
                        .and_then(|block| block.f_view([rows, features as i64]))
                        .map_err(copied())?;
                    let whitened = zca.apply(&whitened)?;
                    let first = (place * BLOCK) as i64;
                    let store = || {
                        let whitened = whitened.f_view([rows, channels, height, width])?;
                        inputs.f_narrow(0, first, rows)?.f_copy_(&whitened)
                    };
                    store().map_err(copied())?;
                }
                Ok(inputs)
            }
        }
    }
}

/// The whitening of these images: from the cache where it holds one, else fitted and left there. What
/// cannot be read there is fitted anew; what cannot be written there is told and no more.
fn whitening(train: &Split, parameters: &Whitening, cache: Option<&Path>) -> Result<Zca> {
    let features: usize = train.shape.iter().product();
    let path = cache.map(|folder| folder.join(cache_name(train, parameters)));
    if let Some(zca) = path.as_deref().and_then(|path| stored(path, features)) {
        return Ok(zca);
    }
    let images = train.len();
    eprintln!("fitting the whitening of {features} features on {images} images, once");
    let zca = Zca::fit(images, features, parameters.regulariser, |range, rows| {
        let pixels = &train.pixels[range.start * features..range.end * features];
        normalise_contrast(pixels, features, parameters.norm, rows);
    })?;
    if let Some(path) = &path {
        let written =
            zca.to_arrays().and_then(|arrays| files::replace(path, arrays.to_bytes(None)?));
        if let Err(error) = written {
            eprintln!("the whitening is not kept for the next run: {error}");
        }
    }
    Ok(zca)
}

fn stored(path: &Path, features: usize) -> Option<Zca> {
    let bytes = path.exists().then(|| files::read(path).ok())??;
    let (arrays, _) = Weights::from_bytes(&bytes, &path.display().to_string()).ok()?;
    Zca::from_arrays(&arrays, features)
}

/// Named after all that the whitening depends on.
fn cache_name(train: &Split, parameters: &Whitening) -> String {
    let mut hash = Sha256::new();
    hash.update(parameters.norm.to_le_bytes());
    hash.update(parameters.regulariser.to_le_bytes());
    for length in train.shape {
        hash.update((length as u64).to_le_bytes());
    }
    hash.update(&train.pixels);
    format!("{}.safetensors", &hexadecimal(&hash.finalize())[..32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::to_array;

    /// Images of 1x2x2.
    fn split(images: &[[u8; 4]]) -> Split {
        Split { shape: [1, 2, 2], pixels: images.concat(), labels: vec![0; images.len()] }
    }

    fn values(preparation: &Preparation, split: &Split) -> Vec<f32> {
        let inputs = preparation.apply(split, Device::Cpu).unwrap();
        to_array(&inputs).unwrap().iter().copied().collect()
    }

    #[test]
    fn a_whitening_is_cached_under_all_that_it_depends_on() {
        let images = split(&[[0, 9, 3, 1], [4, 4, 200, 7], [90, 1, 2, 2]]);
        let whiten = |regulariser: f64| Preprocessing::Whiten {
            whiten: Whitening { norm: 55.0, regulariser },
        };
        let folder = tempfile::tempdir().unwrap();
        let fit = |images: &Split, regulariser| {
            let whiten = whiten(regulariser);
            Preparation::fit_with(&whiten, images, Some(folder.path())).unwrap()
        };
        let files = || std::fs::read_dir(folder.path()).unwrap().flatten().collect::<Vec<_>>();
        let first = values(&fit(&images, 0.1), &images);
        assert_eq!(files().len(), 1);
        assert_eq!(values(&fit(&images, 0.1), &images), first);
        let uncached = Preparation::fit_with(&whiten(0.1), &images, None).unwrap();
        assert_eq!(values(&uncached, &images), first);
        assert_eq!(files().len(), 1);
        // A damaged file is fitted anew and mended.
        let path = files()[0].path();
        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(values(&fit(&images, 0.1), &images), first);
        assert!(std::fs::metadata(&path).unwrap().len() > 7);

        assert_ne!(values(&fit(&images, 0.2), &images), first);
        let mut others = images.clone();
        others.pixels[0] = 1;
        let third = fit(&others, 0.1);
        assert_eq!(files().len(), 3);
        let larger = Split { shape: [1, 3, 4], pixels: vec![0; 12], labels: vec![0] };
        assert!(third.apply(&larger, Device::Cpu).is_err());
    }
}

//! The images that a recipe trains on, and those that it is scored on.

use std::fs;

use tch::Device;

use super::files::ImageFiles;
use super::images::{ImageTensors, Images};
use super::prepare::Preparation;
use super::recipe::Recipe;
use crate::data::fetch::Places;
use crate::data::{Cropping, Data, Dataset, ImageFolder, ImageFolders, Preprocessing, crop};
use crate::error::{Error, Result};
use crate::network::{Network, Shape};
use crate::{files, seed};

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// To learn from.
    Train,
    /// To score on: the test set, or what the recipe holds out of the training set.
    Test,
}

/// The images of a subset, prepared as the recipe says, for `device`.
///
/// # Errors
/// Images of another shape than the network's input; a preprocessing of another kind of data set.
pub fn open(
    recipe: &Recipe,
    data: &Data,
    subset: Subset,
    device: Device,
) -> Result<Box<dyn Images>> {
    let network = recipe.original_network()?;
    check_classes(&network, data)?;
    let input = network.input;
    match (data, &recipe.pixels) {
        (Data::Memory(data), Preprocessing::Normalise(_) | Preprocessing::Whiten { .. }) => {
            Ok(Box::new(in_memory(recipe, data, subset, input, device)?))
        }
        (Data::Files(data), Preprocessing::Crop { crop }) => {
            Ok(Box::new(in_files(recipe, data, crop, subset, input, device)?))
        }
        (data, pixels) => {
            let expected =
                "crops for images in files, normalisation or whitening for those in memory";
            let found = format!("{pixels:?} for {}", data.name());
            Err(Error::argument("prepare images", expected, found))
        }
    }
}

/// Refuses a network that has fewer scores than the images have classes.
fn check_classes(network: &Network, data: &Data) -> Result<()> {
    let classes = match data {
        Data::Memory(data) => data.classes,
        Data::Files(data) => data.train.classes().len(),
    };
    let scores: usize = network.shapes()?.last().map_or(0, |last| last.iter().product());
    if scores < classes {
        let expected = format!("a score for each of the {classes} classes of {}", data.name());
        let found = format!("{scores} of {}", network.name);
        return Err(Error::argument("train", expected, found));
    }
    Ok(())
}

fn in_memory(
    recipe: &Recipe,
    data: &Dataset,
    subset: Subset,
    input: Shape,
    device: Device,
) -> Result<ImageTensors> {
    if data.train.shape != input {
        let expected = format!("images of shape {input:?} for {}", recipe.network);
        let found = format!("{:?} of {}", data.train.shape, data.name);
        return Err(Error::argument("train", expected, found));
    }
    let count = data.train.len();
    let rest = count - held_out(recipe, count)?;
    let end = recipe.train_images.unwrap_or(count).min(rest);
    let train = data.train.range(0..end);
    // The test images are prepared by what was fitted on the training images.
    let preparation = Preparation::fit(&recipe.pixels, &train)?;
    match (subset, recipe.validation_images) {
        (Subset::Train, _) => ImageTensors::new(&train, &preparation, device),
        (Subset::Test, None) => ImageTensors::new(&data.test, &preparation, device),
        (Subset::Test, Some(_)) => {
            ImageTensors::new(&data.train.range(rest..count), &preparation, device)
        }
    }
}

/// How many of `count` training images are scored on, not trained on.
fn held_out(recipe: &Recipe, count: usize) -> Result<usize> {
    match recipe.validation_images {
        None => Ok(0),
        Some(held) if (1..count).contains(&held) => Ok(held),
        Some(held) => {
            let expected = format!("at least 1 of the {count} training images, and not all");
            Err(Error::argument("hold images out for validation", expected, held.to_string()))
        }
    }
}

/// Files lie class by class, so what is held out is chosen at random, the same for every run.
fn in_files(
    recipe: &Recipe,
    data: &ImageFolders,
    cropping: &Cropping,
    subset: Subset,
    input: Shape,
    device: Device,
) -> Result<ImageFiles> {
    use rand::seq::SliceRandom;
    let side = crop::side(input, cropping)?;
    let mut places: Vec<usize> = (0..data.train.files().len()).collect();
    if recipe.validation_images.is_some() || recipe.train_images.is_some() {
        places.shuffle(&mut seed::stream(0, "held-out files", &[]));
    }
    let held = places.split_off(places.len() - held_out(recipe, places.len())?);
    places.truncate(recipe.train_images.unwrap_or(usize::MAX));
    places.sort_unstable();
    let train = data.train.select(places);
    let mean = mean_image(&train, cropping, side)?;
    let folder = match (subset, recipe.validation_images) {
        (Subset::Train, _) => train,
        (Subset::Test, None) => data.test.clone(),
        (Subset::Test, Some(_)) => data.train.select(held),
    };
    ImageFiles::new(folder, cropping, side, &mean, device)
}

/// The mean image of the training set, from the cache where it is there: on all of ImageNet it takes
/// minutes.
fn mean_image(train: &ImageFolder, cropping: &Cropping, side: usize) -> Result<Vec<f32>> {
    let name = format!("{}-{}-{side}.f32", train.listing_hash(), cropping.resize);
    let path = Places::from_environment()?.cache.join("mean-images").join(name);
    let stored = fs::read(&path).ok().filter(|bytes| bytes.len() == 4 * 3 * side * side);
    if let Some(bytes) = stored {
        return Ok(bytemuck::pod_collect_to_vec(&bytes));
    }
    eprintln!("taking the mean of the images in {}, once", train.root().display());
    let mean = crop::mean_image(train, side, cropping.resize)?;
    if let Err(error) = files::replace(&path, bytemuck::cast_slice::<f32, u8>(&mean)) {
        eprintln!("the mean image is not kept for the next run: {error}");
    }
    Ok(mean)
}

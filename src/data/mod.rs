//! Data sets: where they come from, how they are checked, and their pixels in memory.
//!
//! Without the feature `experiments`, the reader of the IDX format alone.

pub mod idx;

#[cfg(feature = "experiments")]
mod cifar;
#[cfg(feature = "experiments")]
pub mod crop;
#[cfg(feature = "experiments")]
mod dataset;
#[cfg(feature = "experiments")]
pub mod fetch;
#[cfg(feature = "experiments")]
mod image_folder;
#[cfg(feature = "experiments")]
mod imagenet;
#[cfg(feature = "experiments")]
mod load;
#[cfg(feature = "experiments")]
mod mnist;
#[cfg(feature = "experiments")]
mod preprocess;
#[cfg(feature = "experiments")]
mod synthetic;

#[cfg(feature = "experiments")]
pub use self::{
    cifar::MIRROR as CIFAR_MIRROR,
    dataset::{Data, Dataset, ImageFolders, Origin, Split},
    image_folder::{ImageFile, ImageFolder},
    load::{Source, load, synthetic_name},
    mnist::MIRROR as MNIST_MIRROR,
    preprocess::{Cropping, Normalise, Preprocessing, Whitening, normalise_contrast},
    synthetic::{
        Counts as SyntheticCounts, digits as synthetic_digits,
        image_folder as synthetic_image_folder,
    },
};

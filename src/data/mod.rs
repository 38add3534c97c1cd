//! Data sets: where they come from, how they are checked, and their pixels in memory.

pub mod fetch;
mod idx;
mod mnist;
mod synthetic;

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::network::Shape;

pub use mnist::MIRROR as MNIST_MIRROR;
pub use synthetic::{Counts as SyntheticCounts, digits as synthetic_digits};

/// A labelled data set in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Such as `mnist`, or `synthetic-digits`: what a result made on it is filed under.
    pub name: String,
    /// Where the images came from, for the reader of a log.
    pub origin: Origin,
    /// Number of classes; labels are below it.
    pub classes: usize,
    /// Images to learn from.
    pub train: Split,
    /// Images to test on.
    pub test: Split,
}

/// Images of one shape and their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Channels, height and width of an image.
    pub shape: Shape,
    /// Intensities, image by image, each channel by channel, row by row.
    pub pixels: Vec<u8>,
    /// One class per image.
    pub labels: Vec<u8>,
}

impl Split {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Where a data set's images came from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Files in this folder.
    Folder(PathBuf),
    /// Drawn by this program from a seed.
    Drawn {
        /// The seed.
        seed: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Drawn { seed } => write!(f, "drawn from seed {seed}"),
        }
    }
}

/// Which images to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// The real ones; where neither a folder nor the network has them, synthetic ones behind a
    /// loud line.
    Real,
    /// Synthetic ones.
    Synthetic,
}

/// The data set of that name (`mnist`).
///
/// # Errors
/// An unknown name; a file that is damaged, swapped or of another format.
pub fn load(name: &str, source: Source) -> Result<Dataset> {
    match (name, source) {
        ("mnist", Source::Real) => mnist::load(&fetch::Places::from_environment()?),
        ("mnist", Source::Synthetic) => {
            Ok(synthetic_digits(SyntheticCounts::LIKE_MNIST, SYNTHETIC_SEED))
        }
        ("cifar-10" | "imagenet", _) => Err(Error::Unavailable {
            what: format!("the data set {name}"),
            reason: "this version has no loader for it".into(),
            remedy: "train lenet-300-100 or lenet-5".into(),
        }),
        _ => Err(Error::argument("data set", "mnist", name)),
    }
}

/// The seed of the synthetic digits that stand in for MNIST: part of what that data set is.
const SYNTHETIC_SEED: u64 = 20_170_624;

/// The data set on which a network of the zoo is trained.
///
/// # Errors
/// A network that is not in the zoo.
pub fn of_network(network: &str) -> Result<&'static str> {
    match network {
        "lenet-300-100" | "lenet-5" => Ok("mnist"),
        "convnet" | "nin" => Ok("cifar-10"),
        "alexnet" => Ok("imagenet"),
        _ => Err(Error::argument("network", crate::network::zoo::NAMES.join(", "), network)),
    }
}

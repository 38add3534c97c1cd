//! A data set in memory or in files, and those that have a name.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::image_folder::ImageFolder;
use super::{SyntheticCounts, cifar, fetch, imagenet, mnist, synthetic, synthetic_digits};
use crate::error::{Error, Result};
use crate::network::Shape;

/// A labelled data set.
#[derive(Clone, Debug)]
pub enum Data {
    /// In memory.
    Memory(Dataset),
    /// In files, too large for that.
    Files(ImageFolders),
}

impl Data {
    /// Such as `mnist`, or `synthetic-digits`: what a result made on it is filed under.
    pub fn name(&self) -> &str {
        match self {
            Self::Memory(data) => &data.name,
            Self::Files(data) => &data.name,
        }
    }

    /// Where the images came from, for the reader of a log.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Memory(data) => &data.origin,
            Self::Files(data) => &data.origin,
        }
    }

    /// Drops all test images but the first `count`.
    pub fn keep_first_test_images(&mut self, count: usize) {
        match self {
            Self::Memory(data) => data.test = data.test.range(0..count),
            Self::Files(data) => data.test.keep_first(count),
        }
    }
}

impl From<Dataset> for Data {
    fn from(data: Dataset) -> Self {
        Self::Memory(data)
    }
}

/// A labelled data set in files.
#[derive(Clone, Debug)]
pub struct ImageFolders {
    /// See [`Data::name`].
    pub name: String,
    /// See [`Data::origin`].
    pub origin: Origin,
    /// Images to learn from.
    pub train: ImageFolder,
    /// Images to test on, of the same classes.
    pub test: ImageFolder,
}

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

    /// The images of a range. What lies beyond the last image is left out.
    pub fn range(&self, range: Range<usize>) -> Self {
        let (first, end) = (range.start.min(self.len()), range.end.min(self.len()));
        let features: usize = self.shape.iter().product();
        Self {
            shape: self.shape,
            pixels: self.pixels[first * features..end.max(first) * features].to_vec(),
            labels: self.labels[first..end.max(first)].to_vec(),
        }
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
    /// The real ones; where neither a folder nor the network has them, synthetic ones with a
    /// loud line.
    Real,
    /// Synthetic ones.
    Synthetic,
}

/// The data set of that name: `mnist`, `cifar-10` or `imagenet`. Of synthetic digits, only the first `train_images` to
/// learn from are drawn where that is given: the same ones, since each is drawn from a seed of its own.
///
/// # Errors
/// An unknown name; a data set that is not there; a file that is damaged, swapped or of another format.
pub fn load(name: &str, source: Source, train_images: Option<usize>) -> Result<Data> {
    let first = |counts: SyntheticCounts| SyntheticCounts {
        train: counts.train.min(train_images.unwrap_or(usize::MAX)),
        ..counts
    };
    let places = fetch::Places::from_environment;
    match (name, source) {
        ("mnist", Source::Real) => mnist::load(&places()?).map(Data::Memory),
        ("mnist", Source::Synthetic) => {
            Ok(synthetic_digits(first(SyntheticCounts::LIKE_MNIST), SYNTHETIC_SEED).into())
        }
        ("cifar-10", Source::Real) => cifar::load(&places()?).map(Data::Memory),
        ("cifar-10", Source::Synthetic) => {
            let counts = first(SyntheticCounts::LIKE_CIFAR_10);
            Ok(synthetic::coloured_digits(counts, SYNTHETIC_SEED).into())
        }
        ("imagenet", Source::Real) => imagenet::load(&places()?).map(Data::Files),
        ("imagenet", Source::Synthetic) => imagenet::synthetic(&places()?).map(Data::Files),
        _ => Err(Error::argument("data set", "mnist, cifar-10 or imagenet", name)),
    }
}

/// The name of what [`Source::Synthetic`] puts in the place of a data set.
pub fn synthetic_name(name: &str) -> &str {
    match name {
        "mnist" => "synthetic-digits",
        "cifar-10" => "synthetic-coloured-digits",
        "imagenet" => "synthetic-images",
        other => other,
    }
}

/// The seed of the synthetic digits: part of what that data set is.
pub(super) const SYNTHETIC_SEED: u64 = 20_170_624;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_are_not_asked_for_are_not_drawn_and_the_others_are_the_same() {
        let load = |name, most| match load(name, Source::Synthetic, most).unwrap() {
            Data::Memory(data) => data,
            Data::Files(_) => panic!("{name} lies in memory"),
        };
        for name in ["mnist", "cifar-10"] {
            let (few, more) = (load(name, Some(3)), load(name, Some(20)));
            assert_eq!((few.train.len(), more.train.len()), (3, 20));
            assert_eq!(few.train, more.train.range(0..3));
            assert_eq!((few.test.len(), &few.test), (10_000, &more.test));
        }
    }
}

//! A data set in memory or in files.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::image_folder::ImageFolder;
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

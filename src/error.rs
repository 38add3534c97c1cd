//! The one error type of the library: what was attempted, what was expected, what came instead.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation could not be done. The message says what was expected and what came, down to the system's own
/// reason, which is the source, too; a caller matches the variant and its fields, a person reads the message. A
/// binary adds what the user can do where the library cannot know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {operation} {}: {reason}", path.display())]
    Io {
        /// What was attempted, such as `write`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        reason: io::Error,
    },

    /// A file is whole and readable, but is not the file it should be.
    #[error(
        "{}: expected SHA-256 {expected}, found {found}: the file is \
         damaged or another file under this name; replace it, or remove it to have it downloaded",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Hexadecimal digest of the right file.
        expected: String,
        /// Hexadecimal digest of what is there.
        found: String,
    },

    /// A file's content breaks its format.
    #[error("{what}: expected {expected}, found {found}")]
    Malformed {
        /// The file, and the part of it.
        what: String,
        /// What the format asks for.
        expected: String,
        /// What is there.
        found: String,
    },

    /// An array has not the shape, or not the values, that an operation takes.
    #[error("{operation}: expected {expected}, got {found}")]
    Argument {
        /// The operation, and its argument.
        operation: String,
        /// What it takes.
        expected: String,
        /// What came.
        found: String,
    },

    /// An array has not the shape that an operation takes.
    #[error("{operation}: expected {argument} of shape {expected:?}, got {found:?}")]
    Shape {
        /// The operation.
        operation: String,
        /// Which of its arrays.
        argument: String,
        /// The shape that it takes.
        expected: Vec<usize>,
        /// The shape that came.
        found: Vec<usize>,
    },

    /// A slice has not the length that an operation takes.
    #[error("{operation}: expected {argument} of {expected} values, got {found}")]
    Length {
        /// The operation.
        operation: String,
        /// Which of its slices.
        argument: &'static str,
        /// The length that it takes, or at least needs.
        expected: usize,
        /// The length that came.
        found: usize,
    },

    /// A name that is none of those there are.
    #[error("{what}: expected one of {}, got {found}", known.join(", "))]
    Unknown {
        /// What is named: a network, a kernel, a model.
        what: String,
        /// All names.
        known: Vec<String>,
        /// The name that came.
        found: String,
    },

    /// A network's description contradicts itself.
    #[error("network {network}, layer {layer}: expected {expected}, found {found}")]
    Layer {
        /// The network's name.
        network: String,
        /// The layer's name.
        layer: String,
        /// What the layer needs.
        expected: String,
        /// What it has.
        found: String,
    },

    /// Something that this machine or user has to provide is not there.
    #[error("{what} is not available: {reason}; {remedy}")]
    Unavailable {
        /// What is missing.
        what: String,
        /// How that was found out.
        reason: String,
        /// What to do about it.
        remedy: String,
    },

    /// A download failed.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },

    /// The training loss is no longer a finite number.
    #[error(
        "stage {stage}: the loss became {loss} at epoch {epoch}, batch {batch}, learning rate \
         {learning_rate}; the checkpoint of the epoch before it is kept: lower the learning rate \
         of this stage in the recipe"
    )]
    Diverged {
        /// The stage's name in the recipe.
        stage: String,
        /// Epoch, counted from 1.
        epoch: usize,
        /// Batch of that epoch, counted from 1.
        batch: usize,
        /// Learning rate of that epoch.
        learning_rate: f64,
        /// The loss: NaN or infinite.
        loss: f64,
    },

    /// A network tells no images apart any more: all of them, or all but one, of its scores are the same
    /// whatever the image.
    #[error(
        "stage {stage}: after epoch {epoch}, learning rate {learning_rate}, the scores of only {varying} of \
         {classes} classes still depend on the image: ReLUs are closed for all images, and closed \
         ones get no gradient; the checkpoint of the epoch before it is kept: lower the learning rate of this \
         stage in the recipe, or that of the last layer (learning_rate_factor_of)"
    )]
    Dead {
        /// The stage's name in the recipe.
        stage: String,
        /// Epoch, counted from 1.
        epoch: usize,
        /// Learning rate of that epoch.
        learning_rate: f64,
        /// Classes whose score depends on the image.
        varying: usize,
        /// All classes.
        classes: usize,
    },

    /// A checkpoint belongs to another run.
    #[error(
        "{}: this checkpoint is of {found}, not of {expected}; nothing was overwritten: move it \
         away, or name another checkpoint folder",
        path.display()
    )]
    ForeignCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// The run that asked for it.
        expected: String,
        /// The run that wrote it.
        found: String,
    },

    /// libtorch refused.
    #[cfg(feature = "torch")]
    #[error("libtorch could not {operation}: {reason}")]
    Torch {
        /// What was attempted.
        operation: String,
        /// libtorch's reason.
        #[source]
        reason: tch::TchError,
    },
}

impl Error {
    /// Wraps an I/O error with the operation (a verb) and the path.
    pub fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |reason| Self::Io { operation, path, reason }
    }

    /// A file that breaks its format.
    pub fn malformed(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Malformed { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// An argument that an operation does not take.
    pub fn argument(
        operation: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Argument {
            operation: operation.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Refuses an array of another shape than `expected`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check_shape(
        operation: &str,
        argument: &str,
        expected: &[usize],
        found: &[usize],
    ) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        let (operation, argument) = (operation.to_owned(), argument.to_owned());
        Err(Self::Shape { operation, argument, expected: expected.into(), found: found.into() })
    }

    /// Refuses a slice of another length than `expected`.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn check_length(
        operation: &str,
        argument: &'static str,
        expected: usize,
        found: usize,
    ) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(Self::Length { operation: operation.to_owned(), argument, expected, found })
    }

    /// Refuses a slice that is shorter than `least`.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn check_room(
        operation: &str,
        argument: &'static str,
        least: usize,
        found: usize,
    ) -> Result<()> {
        if found >= least { Ok(()) } else { Self::check_length(operation, argument, least, found) }
    }

    /// A name that is none of `known`.
    pub fn unknown<S: Into<String>>(
        what: impl Into<String>,
        known: impl IntoIterator<Item = S>,
        found: impl Into<String>,
    ) -> Self {
        let known = known.into_iter().map(Into::into).collect();
        Self::Unknown { what: what.into(), known, found: found.into() }
    }

    /// Wraps an error of libtorch with the operation (a verb and its object).
    #[cfg(feature = "torch")]
    pub fn torch(operation: impl Into<String>) -> impl FnOnce(tch::TchError) -> Self {
        let operation = operation.into();
        move |reason| Self::Torch { operation, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_systems_reason_is_in_the_message_and_kept_as_the_source() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::io("write", "weights")(full);
        assert!(error.to_string().starts_with("cannot write weights: "), "{error}");
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn what_came_is_told_from_what_was_expected_by_fields() {
        let error = Error::check_shape("add", "the mask", &[2, 3], &[3, 2]).unwrap_err();
        assert!(
            matches!(&error, Error::Shape { expected, found, .. } if *expected == [2, 3] && *found == [3, 2])
        );
        assert_eq!(error.to_string(), "add: expected the mask of shape [2, 3], got [3, 2]");
        let error = Error::check_room("add", "y", 7, 6).unwrap_err();
        assert!(matches!(error, Error::Length { argument: "y", expected: 7, found: 6, .. }));
        assert!(Error::check_room("add", "y", 7, 8).is_ok());
        assert!(Error::check_length("add", "y", 7, 8).is_err());
        let error = Error::unknown("network", ["lenet-5", "nin"], "vgg");
        assert_eq!(error.to_string(), "network: expected one of lenet-5, nin, got vgg");
    }
}

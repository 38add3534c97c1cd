//! The one error type of the library: what was attempted, what was expected, what came instead.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation could not be done. The message says what was expected and what came, down to the system's
/// own reason, and so none has a further source; a binary adds what the user can do where the library cannot
/// know.
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
    fn the_systems_reason_stands_in_the_message_and_nowhere_else() {
        let error = Error::io("read", "weights")(io::Error::other("no room"));
        assert_eq!(error.to_string(), "cannot read weights: no room");
        assert!(error.source().is_none(), "a chain of causes would show it twice");
    }
}

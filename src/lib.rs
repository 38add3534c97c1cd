//! Scalpel prunes neural networks to fit the hardware that runs them, runs what is left, and
//! measures what that bought. After Yu et al., "Scalpel: customizing DNN pruning to the underlying
//! hardware parallelism", ISCA 2017.
//!
//! The modules are floors: each imports only from those below it. From the ground up: [`error`], [`files`],
//! [`seed`], [`timing`], [`test_support`]; [`network`] and [`data`]; [`device`] and [`sparse`]; [`kernels`],
//! [`prune`], [`import`] and [`baselines`]; [`engine`] and `torch`, libtorch's part; [`train`]; [`report`]; [`bench`](mod@bench),
//! which measures; `experiment`, `campaign` and [`models`], from recipes to published models; and on top [`cli`] and
//! [`options`], the command lines of the binaries. `docs/architecture.md` says more, `docs/glossary.md` has the words.

#![deny(unsafe_op_in_unsafe_fn, unused_must_use, missing_docs)]

pub mod baselines;
#[cfg(feature = "experiments")]
pub mod bench;
#[cfg(all(feature = "experiments", feature = "torch"))]
pub mod campaign;
#[cfg(feature = "experiments")]
pub mod cli;
pub mod data;
pub mod device;
pub mod engine;
pub mod error;
#[cfg(all(feature = "experiments", feature = "torch"))]
pub mod experiment;
pub mod files;
pub mod import;
pub mod kernels;
#[cfg(feature = "experiments")]
pub mod models;
pub mod network;
#[cfg(feature = "experiments")]
pub mod options;
pub mod prune;
#[cfg(feature = "experiments")]
pub mod report;
pub mod seed;
pub mod sparse;
pub mod test_support;
pub mod timing;
#[cfg(feature = "torch")]
pub mod torch;
#[cfg(feature = "experiments")]
pub mod train;

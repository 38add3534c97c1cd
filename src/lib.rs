//! Scalpel prunes neural networks to fit the hardware that runs them, runs what is left, and
//! measures what that bought. After Yu et al., "Scalpel: customizing DNN pruning to the underlying
//! hardware parallelism", ISCA 2017.
//!
//! The modules are floors: each imports only from those below it. From the ground up:
//! [`error`], [`files`], [`measure`], [`test_support`], [`seed`]; [`network`] and [`data`]; [`device`]
//! and [`sparse`]; [`kernels`] and [`prune`]; [`baselines`], which implement contracts of the kernels;
//! [`engine`]; [`train`]; [`report`]; and on top, `experiment` and [`breakeven`], which the binaries
//! share, `campaign`, which runs many of them, [`models`], which keeps what they came to, and `speedup`,
//! which measures how fast that is.

#![deny(unsafe_op_in_unsafe_fn, unused_must_use, missing_docs)]

pub mod baselines;
pub mod bench;
#[cfg(feature = "torch")]
pub mod campaign;
pub mod cli;
pub mod data;
pub mod device;
pub mod engine;
pub mod error;
#[cfg(feature = "torch")]
pub mod experiment;
pub mod files;
pub mod import;
pub mod kernels;
pub mod models;
pub mod network;
pub mod prune;
pub mod report;
pub mod seed;
pub mod sparse;
pub mod test_support;
pub mod timing;
#[cfg(feature = "torch")]
pub mod torch;
pub mod train;

//! Scalpel prunes neural networks to fit the hardware that runs them, runs what is left, and
//! measures what that bought. After Yu et al., "Scalpel: customizing DNN pruning to the underlying
//! hardware parallelism", ISCA 2017.
//!
//! The modules are floors: each imports only from those below it. From the ground up:
//! [`error`], [`files`], [`seed`]; [`network`] and [`data`].

#![deny(unsafe_op_in_unsafe_fn, unused_must_use, missing_docs)]

pub mod data;
pub mod error;
pub mod files;
pub mod network;
pub mod seed;

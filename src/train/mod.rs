//! Training and pruning by recipe, with gradients through `tch`.
//!
//! A recipe is a chain of stages, each from the result of the one before. A stage's result lies in
//! the checkpoint folder under the hash of everything that it depends on, so that recipes which
//! begin alike share their beginning, and a run that was cut goes on where it stopped.

mod initial;
mod outcome;
pub mod recipe;

#[cfg(feature = "torch")]
mod checkpoint;
#[cfg(feature = "torch")]
mod files;
#[cfg(feature = "torch")]
mod images;
#[cfg(feature = "torch")]
mod losses;
#[cfg(feature = "torch")]
mod node_masks;
#[cfg(feature = "torch")]
mod parameters;
#[cfg(feature = "torch")]
pub mod precision;
#[cfg(feature = "torch")]
mod prefetcher;
#[cfg(feature = "torch")]
mod prepare;
#[cfg(feature = "torch")]
mod run;
#[cfg(feature = "torch")]
mod sgd;
#[cfg(feature = "torch")]
mod stage;
#[cfg(feature = "torch")]
pub mod subsets;
#[cfg(feature = "torch")]
mod weight_masks;
#[cfg(feature = "torch")]
mod zca;

pub use initial::initial_weights;
pub use outcome::{EpochMetrics, Outcome, StageOutcome, original_path, weights_path};

#[cfg(feature = "torch")]
pub use files::{ImageFiles, TOLERATED_SHARE};
#[cfg(feature = "torch")]
pub use images::{
    Batch, Batches, ImageTensors, Images, MANY_CLASSES, Order, Score, score, score_by,
};
#[cfg(feature = "torch")]
pub use prepare::Preparation;
#[cfg(feature = "torch")]
pub use run::Run;
#[cfg(feature = "torch")]
pub use sgd::Sgd;
#[cfg(feature = "torch")]
pub use stage::{Observer, Silent};

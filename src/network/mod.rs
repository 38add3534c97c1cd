//! Networks as data: layers in a row, the shapes that follow from them, and their weights by name.

mod cost;
mod description;
mod shape;
mod spec;
pub(crate) mod weights;
pub mod zoo;

pub use cost::Cost;
pub use spec::{
    BatchNorm, Conv, Dropout, Group, Groups, Layer, Linear, LocalResponseNorm, MaskSite, Network,
    NodeKind, Op, Parameter, ParameterRole, Pool, Shape, ShrinkLaw, Shrinking,
};
pub use weights::{NodeMasks, Weights, as_matrix};

//! What a convolution is asked for: its sizes, weights, bias and activation.

use ndarray::ArrayView2;

use crate::error::{Error, Result};
use crate::sparse::{Csr, GroupSparse, UprightSparse};

/// The sizes of a convolution with square kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Input channels, of all groups.
    pub channels: usize,
    /// Height of the input.
    pub height: usize,
    /// Width of the input.
    pub width: usize,
    /// Height and width of a kernel.
    pub side: usize,
    /// Step between two outputs, in pixels.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl Geometry {
    /// Height and width of the output.
    ///
    /// # Errors
    /// A kernel that does not fit into the image; a stride of 0.
    pub fn output(&self) -> Result<[usize; 2]> {
        let along = |length: usize| {
            let room = (length + 2 * self.padding).checked_sub(self.side)?;
            room.checked_div(self.stride).map(|steps| steps + 1)
        };
        match (along(self.height), along(self.width)) {
            (Some(height), Some(width)) if self.side > 0 => Ok([height, width]),
            _ => Err(Error::argument(
                "convolution",
                "a kernel that fits into the padded image, and a stride of at least 1",
                format!("{self:?}"),
            )),
        }
    }
}

/// The weights of a convolution's groups of channels, each `[M, C * side * side]`: a group's inputs follow
/// those of the group before it, as do its outputs. One matrix is an ordinary convolution.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// What SIMD-aware pruning leaves.
    Groups(&'a [GroupSparse]),
    /// What upright pruning leaves.
    Upright(&'a [UprightSparse]),
    /// Dense ones, or what node pruning leaves.
    Dense(&'a [ArrayView2<'a, f32>]),
    /// What traditional pruning leaves.
    Csr(&'a [Csr]),
}

impl Weights<'_> {
    /// The matrices' shapes.
    pub fn shapes(&self) -> Vec<[usize; 2]> {
        match self {
            Self::Groups(groups) => groups.iter().map(GroupSparse::shape).collect(),
            Self::Upright(groups) => groups.iter().map(UprightSparse::shape).collect(),
            Self::Dense(groups) => groups.iter().map(|group| group.dim().into()).collect(),
            Self::Csr(groups) => groups.iter().map(Csr::shape).collect(),
        }
    }
}

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct ConvLayer<'a> {
    /// Sizes.
    pub geometry: Geometry,
    /// Per group of channels.
    pub weights: Weights<'a>,
    /// An entry for each output channel, of all groups; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

impl<'a> ConvLayer<'a> {
    /// Checks that weights, bias and sizes fit each other, and gives each group's shape, bias, first input
    /// and first output.
    pub(super) fn channel_groups(&self) -> Result<Vec<ChannelGroup<'a>>> {
        let Geometry { channels, side, .. } = self.geometry;
        self.geometry.output()?;
        let square = side * side;
        let shapes = self.weights.shapes();
        let outputs: usize = shapes.iter().map(|shape| shape[0]).sum();
        if let Some(bias) = self.bias {
            Error::check_length("convolution", "a bias", outputs, bias.len())?;
        }
        let inputs: usize = shapes.iter().map(|shape| shape[1] / square).sum();
        if inputs != channels || shapes.iter().any(|shape| shape[1] % square != 0) {
            let expected = format!("weights with {square} columns for each of {channels} channels");
            return Err(Error::argument("convolution", expected, format!("{shapes:?}")));
        }
        let (mut first_input, mut first_output) = (0, 0);
        let part = |shape: [usize; 2]| {
            let bias = self.bias.map(|bias| &bias[first_output..first_output + shape[0]]);
            let part = ChannelGroup { shape, bias, first_input, first_output };
            first_input += shape[1] / square;
            first_output += shape[0];
            part
        };
        Ok(shapes.into_iter().map(part).collect())
    }
}

/// One group of channels of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelGroup<'a> {
    pub shape: [usize; 2],
    pub bias: Option<&'a [f32]>,
    pub first_input: usize,
    pub first_output: usize,
}

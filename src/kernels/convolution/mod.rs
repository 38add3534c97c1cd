//! Convolution with group-sparse weights, on `group_spmm`, without im2col.
//!
//! The weights of a convolution's group of channels are a matrix `[M, C * side * side]`; X would have a
//! row for each tap (c, kh, kw), with a column for each output pixel. That matrix is never built: in a
//! map with zeros around it, kept with its row pitch, the row of a tap of a stride-1 convolution is one
//! contiguous slice of the map, from the tap's own offset on. So the product runs on a table of offsets
//! ([`RowTable`]), and the few columns that fall between two rows of the image
//! are computed and dropped ([`Lines`]). A convolution of stride s first splits the map into its s x s
//! phases, on each of which it is one of stride 1. A map that needs no zeros is read where it lies.

pub mod gpu;
mod map;
pub mod reference;
#[cfg(test)]
mod suite;

use std::cell::Cell;

use rayon::prelude::*;

use self::map::Map;
use super::group_spmm::{self, GroupSpmm, Variant, WIDE};
use super::layout::{Input, Lines, Output, RowTable, Rows};
use crate::error::{Error, Result};
use crate::sparse::GroupSparse;

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

/// Weights, bias and activation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Sizes.
    pub geometry: Geometry,
    /// Per group of channels, its weights `[M, C * side * side]`: its inputs follow those of the group
    /// before it, as do its outputs. One matrix is an ordinary convolution.
    pub groups: &'a [GroupSparse],
    /// An entry for each output channel, of all groups; none is all 0.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0. NaN stays NaN.
    pub relu: bool,
}

/// One group of channels, packed.
#[derive(Debug)]
struct Group {
    kernel: GroupSpmm,
    /// Where each tap's row starts in the map.
    taps: RowTable,
    first_output: usize,
}

/// A convolution packed and ready to run.
#[derive(Debug)]
pub struct Convolution {
    geometry: Geometry,
    output: [usize; 2],
    outputs: usize,
    map: Map,
    groups: Vec<Group>,
}

impl Convolution {
    /// Packs a layer for the preferred variant of `group_spmm`.
    ///
    /// # Errors
    /// Sizes that contradict each other; what [`GroupSpmm::new`] refuses.
    pub fn new(layer: &Layer<'_>) -> Result<Self> {
        // The columns of its product are pixels of one map, which a core caches however many they are.
        Self::pack(layer, |layer, columns| GroupSpmm::new(layer, columns.min(WIDE.columns)))
    }

    /// Packs a layer for one variant of `group_spmm`.
    ///
    /// # Errors
    /// Sizes that contradict each other; what [`GroupSpmm::with`] refuses.
    pub fn with(variant: &'static Variant, layer: &Layer<'_>) -> Result<Self> {
        Self::pack(layer, |layer, _| GroupSpmm::with(variant, layer))
    }

    fn pack(
        layer: &Layer<'_>,
        kernel: impl Fn(&group_spmm::Layer<'_>, usize) -> Result<GroupSpmm>,
    ) -> Result<Self> {
        let geometry = layer.geometry;
        let output = geometry.output()?;
        let map = Map::new(&geometry);
        let square = geometry.side * geometry.side;
        let outputs: usize = layer.groups.iter().map(|weights| weights.shape()[0]).sum();
        if let Some(bias) = layer.bias.filter(|bias| bias.len() != outputs) {
            let expected = format!("a bias of {outputs} entries");
            return Err(Error::argument("convolution", expected, bias.len().to_string()));
        }
        let (mut groups, mut first_input, mut first_output) = (Vec::new(), 0, 0);
        for weights in layer.groups {
            let [rows, columns] = weights.shape();
            let inputs = columns / square;
            if columns % square != 0 || first_input + inputs > geometry.channels {
                let room = geometry.channels - first_input;
                return Err(Error::argument(
                    "convolution",
                    format!("weights with {square} columns for each of at most {room} channels"),
                    format!("{columns} columns"),
                ));
            }
            let taps = (0..inputs)
                .flat_map(|channel| (0..square).map(move |tap| (channel, tap)))
                .map(|(channel, tap)| {
                    let [down, right] = [tap / geometry.side, tap % geometry.side];
                    map.tap(first_input + channel, down, right)
                })
                .collect();
            let bias = layer.bias.map(|bias| &bias[first_output..first_output + rows]);
            let layer = group_spmm::Layer { weights, bias, relu: layer.relu };
            let kernel = kernel(&layer, map.columns(output))?;
            groups.push(Group { kernel, taps: RowTable::new(taps), first_output });
            first_input += inputs;
            first_output += rows;
        }
        if first_input != geometry.channels {
            let expected = format!("weights for {} channels", geometry.channels);
            return Err(Error::argument("convolution", expected, first_input.to_string()));
        }
        Ok(Self { geometry, output, outputs, map, groups })
    }

    /// Channels, height and width of the output.
    pub fn output(&self) -> [usize; 3] {
        [self.outputs, self.output[0], self.output[1]]
    }

    /// The variant of `group_spmm` that it runs on; none without groups.
    pub fn variant(&self) -> Option<&'static Variant> {
        self.groups.first().map(|group| group.kernel.variant())
    }

    /// Convolves images: x is `[images, channels, height, width]`, y is `[images, outputs, ...]`. What
    /// y held is overwritten.
    ///
    /// # Errors
    /// Slices of other lengths.
    pub fn run(&self, x: &[f32], images: usize, y: &mut [f32]) -> Result<()> {
        let Geometry { channels, height, width, .. } = self.geometry;
        let (input, output) =
            (channels * height * width, self.outputs * self.output[0] * self.output[1]);
        if input.checked_mul(images) != Some(x.len()) || output.checked_mul(images) != Some(y.len())
        {
            let expected = format!("{images} images of {input} and of {output} floats");
            let found = format!("{} and {}", x.len(), y.len());
            return Err(Error::argument("convolution", expected, found));
        }
        if output == 0 {
            return Ok(());
        }
        let image = |index: usize| &x[index * input..(index + 1) * input];
        let threads = rayon::current_num_threads();
        if threads > 1 && images >= threads {
            let work = y.par_chunks_mut(output).enumerate();
            return work.try_for_each(|(index, y)| self.image(image(index), y));
        }
        y.chunks_mut(output).enumerate().try_for_each(|(index, y)| self.image(image(index), y))
    }

    fn image(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        if self.map.is_the_image() {
            return self.convolve(x, y);
        }
        // Taken and put back, since another image may come to this thread while it waits for others.
        let mut map = MAP.take();
        self.map.fill(x, &mut map);
        let done = self.convolve(&map, y);
        MAP.set(map);
        done
    }

    fn convolve(&self, map: &[f32], y: &mut [f32]) -> Result<()> {
        let [height, width] = self.output;
        let lines = Lines { computed: self.map.pitch(), kept: width, pitch: width };
        for group in &self.groups {
            let x = Input { values: map, rows: Rows::At(&group.taps) };
            let values = &mut y[group.first_output * height * width..];
            let y = Output { values, rows: Rows::Every(height * width), lines };
            group.kernel.run_at(x, self.map.columns(self.output), y)?;
        }
        Ok(())
    }
}

thread_local! {
    /// The map of one image, kept from call to call.
    static MAP: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

//! Convolution with weights in groups of either pattern, dense ones or compressed rows, on `group_spmm`,
//! `upright_spmm` and `csr_spmm`, without im2col; or, with dense weights, on a library's product
//! ([`super::library_gemm`]), for which some pixels at a time are gathered, or a library's own convolution
//! ([`ConvLibrary`]).
//!
//! The weights of a convolution's group of channels are a matrix `[M, C * side * side]`; X would have a
//! row for each tap (c, kh, kw), with a column for each output pixel. That matrix is never built: in a
//! map with zeros around it, kept with its row pitch, the row of a tap of a stride-1 convolution is one
//! contiguous slice of the map, from the tap's own offset on. So the product runs on a table of offsets
//! ([`RowTable`]), and the few columns that fall between two rows of the image are left out, or computed
//! and dropped where a kernel does not know how ([`ColumnLayout`]). A convolution of stride s first splits the map
//! into its s x s phases, on each of which it is one of stride 1. A map that needs no zeros is read where it
//! lies.

pub mod gpu;
mod layer;
pub(crate) mod library;
mod padded_image;
mod product;
pub mod reference;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;

use rayon::prelude::*;

use ndarray::ArrayView2;

use self::layer::ChannelGroup;
pub use self::layer::{ConvLayer, Geometry, Weights};
use self::library::LibraryConv;
pub use self::library::{ConvLibrary, PreparedConv};
use self::padded_image::PaddedImage;
use self::product::{Backend, product};
use super::layout::{ColumnLayout, ImageLayout, Input, Output, RowTable, Rows};
use super::library_gemm::DenseLibrary;
use super::{PackedProduct, SparseVariant};
use crate::error::{Error, Result};

/// One group of channels, packed.
#[derive(Debug)]
struct Group {
    kernel: GroupKernel,
    first_output: usize,
}

/// What convolves one group of channels.
#[derive(Debug)]
enum GroupKernel {
    /// A product on a map.
    Product {
        kernel: Box<dyn PackedProduct>,
        /// Where each tap's row starts in the map.
        taps: RowTable,
    },
    /// A library.
    Library(LibraryConv),
}

/// A convolution packed and ready to run.
#[derive(Debug)]
pub struct Convolution {
    geometry: Geometry,
    output: [usize; 2],
    outputs: usize,
    map: PaddedImage,
    groups: Vec<Group>,
}

impl Convolution {
    /// Packs a layer for the preferred variants.
    ///
    /// # Errors
    /// Sizes that contradict each other; what the product's kernel refuses.
    pub fn new(layer: &ConvLayer<'_>) -> Result<Self> {
        Self::pack(layer, Backend::Preferred)
    }

    /// Packs a layer of groups for one variant of their pattern, or one of dense weights for one of any.
    ///
    /// # Errors
    /// Sizes that contradict each other; a variant for other weights; what its kernel refuses.
    pub fn with(variant: SparseVariant, layer: &ConvLayer<'_>) -> Result<Self> {
        Self::pack(layer, Backend::Variant(variant))
    }

    /// Packs a layer of dense weights for a library's product.
    ///
    /// # Errors
    /// Sizes that contradict each other; weights that are not dense.
    pub fn with_library(library: &Arc<dyn DenseLibrary>, layer: &ConvLayer<'_>) -> Result<Self> {
        Self::pack(layer, Backend::Library(library))
    }

    /// Prepares a layer of dense weights for a library's own convolution.
    ///
    /// # Errors
    /// Sizes that contradict each other; weights that are not dense; what the library refuses.
    pub fn with_conv_library(
        library: &Arc<dyn ConvLibrary>,
        layer: &ConvLayer<'_>,
    ) -> Result<Self> {
        let parts = layer.channel_groups()?;
        let Weights::Dense(all) = layer.weights else {
            let expected = "dense weights for a library";
            return Err(Error::argument("convolution", expected, library.name()));
        };
        let square = layer.geometry.side * layer.geometry.side;
        let group = |(part, weights): (&ChannelGroup<'_>, &ArrayView2<'_, f32>)| {
            let geometry = Geometry { channels: part.shape[1] / square, ..layer.geometry };
            let weights: Vec<f32> = weights.iter().copied().collect();
            let bias = super::bias("convolution", part.bias, part.shape[0])?;
            let own = LibraryConv::new(
                library,
                &geometry,
                part.first_input,
                (&weights, &bias),
                layer.relu,
            );
            Ok(Group { kernel: GroupKernel::Library(own?), first_output: part.first_output })
        };
        let groups = parts.iter().zip(all).map(group).collect::<Result<Vec<_>>>()?;
        Self::of_groups(&layer.geometry, &parts, groups)
    }

    fn of_groups(
        geometry: &Geometry,
        parts: &[ChannelGroup<'_>],
        groups: Vec<Group>,
    ) -> Result<Self> {
        let outputs = parts.iter().map(|part| part.shape[0]).sum();
        let (output, map) = (geometry.output()?, PaddedImage::new(geometry));
        Ok(Self { geometry: *geometry, output, outputs, map, groups })
    }

    fn pack(layer: &ConvLayer<'_>, backend: Backend<'_>) -> Result<Self> {
        let geometry = layer.geometry;
        let parts = layer.channel_groups()?;
        let output = geometry.output()?;
        let map = PaddedImage::new(&geometry);
        let square = geometry.side * geometry.side;
        let columns = map.columns(output);
        let mut packed = Vec::with_capacity(parts.len());
        for (place, part) in parts.iter().enumerate() {
            let taps = (0..part.shape[1] / square)
                .flat_map(|channel| (0..square).map(move |tap| (channel, tap)))
                .map(|(channel, tap)| {
                    let [down, right] = [tap / geometry.side, tap % geometry.side];
                    map.tap(part.first_input + channel, down, right)
                })
                .collect();
            let kernel = product(layer, place, part.bias, backend, columns)?;
            let kernel = GroupKernel::Product { kernel, taps: RowTable::new(taps) };
            packed.push(Group { kernel, first_output: part.first_output });
        }
        Self::of_groups(&geometry, &parts, packed)
    }

    /// Channels, height and width of the output.
    pub fn output(&self) -> [usize; 3] {
        [self.outputs, self.output[0], self.output[1]]
    }

    /// Columns of the product of such a convolution, those that are dropped included.
    ///
    /// # Errors
    /// A kernel that does not fit into the image; a stride of 0.
    pub fn columns(geometry: &Geometry) -> Result<usize> {
        Ok(PaddedImage::new(geometry).columns(geometry.output()?))
    }

    /// The variant that it runs on; none without groups of channels.
    pub fn variant(&self) -> Option<&'static str> {
        self.groups.first().map(|group| match &group.kernel {
            GroupKernel::Product { kernel, .. } => kernel.name(),
            GroupKernel::Library(_) => library::NAME,
        })
    }

    /// The variant that it runs on, and the library that computes it where there is one; `none` without groups of
    /// channels.
    pub fn label(&self) -> String {
        self.groups.first().map_or("none".to_owned(), |group| match &group.kernel {
            GroupKernel::Product { kernel, .. } => kernel.label(),
            GroupKernel::Library(library) => library.label(),
        })
    }

    /// Whether an image has to be split into phases, by [`Convolution::split`], before [`Convolution::run_maps`] reads
    /// it.
    pub fn is_split(&self) -> bool {
        self.map.unsplit().is_none() && !self.is_of_a_library()
    }

    /// Whether a library convolves, which gains by several images at once.
    pub fn is_of_a_library(&self) -> bool {
        matches!(self.groups.first(), Some(Group { kernel: GroupKernel::Library(_), .. }))
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
        // What memory cannot hold, no slice has.
        let floats = |image: usize| image.saturating_mul(images);
        Error::check_length("convolution", "x", floats(input), x.len())?;
        Error::check_length("convolution", "y", floats(output), y.len())?;
        if output == 0 {
            return Ok(());
        }
        let image =
            |(index, y): (usize, &mut [f32])| self.image(&x[index * input..(index + 1) * input], y);
        let threads = crate::kernels::threads();
        if threads > 1 && images >= threads {
            return y.par_chunks_mut(output).enumerate().try_for_each(image);
        }
        y.chunks_mut(output).enumerate().try_for_each(image)
    }

    fn image(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let Geometry { channels, height, width, .. } = self.geometry;
        let from = ImageLayout::plain([channels, height, width]);
        let to = ImageLayout::plain(self.output());
        if self.map.is_the_image() || self.is_of_a_library() {
            return self.run_from(x, &from, 1, y, &to);
        }
        // Taken and put back, since another image may come to this thread while it waits for others.
        let mut map = MAP.take();
        map.clear();
        map.resize(self.map.floats(), 0.0);
        self.map.fill(x, &mut map);
        let done = self.run_maps(&map, 0, 1, y, &to);
        MAP.set(map);
        done
    }

    /// Where whoever makes the image of such a convolution writes it, so that [`Convolution::run_maps`] can
    /// read it: the zeros around it lie there already, once. `None` where it lies as it is, for [`Convolution::split`]
    /// to split it into phases, or for a library to read.
    pub fn input_map(geometry: &Geometry) -> Option<ImageLayout> {
        PaddedImage::new(geometry).unsplit()
    }

    /// Floats of the map of such a convolution.
    pub fn map_floats(geometry: &Geometry) -> usize {
        PaddedImage::new(geometry).floats()
    }

    /// Writes an image, `[channels, height, width]`, to its places in a map that holds zeros elsewhere.
    ///
    /// # Errors
    /// Slices that are too short.
    pub fn split(&self, image: &[f32], map: &mut [f32]) -> Result<()> {
        let Geometry { channels, height, width, .. } = self.geometry;
        Error::check_room("convolution", "the image", channels * height * width, image.len())?;
        Error::check_room("convolution", "the map", self.map.floats(), map.len())?;
        self.map.fill(image, map);
        Ok(())
    }

    /// Convolves so many images, each in a map of its own, one `map_stride` floats after the other, or, for a library
    /// that splits nothing, as they are; and writes their results where `to` says; their neighbours in a row must be
    /// neighbours there.
    ///
    /// # Errors
    /// Maps that are too short; places that `y` does not have; what a library refuses.
    pub fn run_maps(
        &self,
        maps: &[f32],
        map_stride: usize,
        images: usize,
        y: &mut [f32],
        to: &ImageLayout,
    ) -> Result<()> {
        let Geometry { channels, height, width, .. } = self.geometry;
        let plain = ImageLayout::plain([channels, height, width]);
        let from = self.map.unsplit().unwrap_or(plain);
        self.run_from(maps, &ImageLayout { image_stride: map_stride, ..from }, images, y, to)
    }

    /// As [`Convolution::run_maps`]; a library finds the images as `from` says.
    fn run_from(
        &self,
        maps: &[f32],
        from: &ImageLayout,
        images: usize,
        y: &mut [f32],
        to: &ImageLayout,
    ) -> Result<()> {
        if images == 0 {
            return Ok(());
        }
        let [_, width] = self.output;
        let needed = match self.is_of_a_library() {
            true => {
                let Geometry { channels, height, width, .. } = self.geometry;
                from.floats([channels, height, width], images)
            }
            false => (images - 1) * from.image_stride + self.map.floats(),
        };
        Error::check_room("convolution", "the maps", needed, maps.len())?;
        Error::check_room("convolution", "y", to.floats(self.output(), images), y.len())?;
        if to.pixel_stride != 1 {
            let expected = "a y whose pixels of a row are neighbours";
            return Err(Error::argument("convolution", expected, format!("{to:?}")));
        }
        let columns = ColumnLayout::lines(self.map.pitch(), width, to.row_stride);
        for group in &self.groups {
            let first = to.offset + group.first_output * to.channel_stride;
            // A group without outputs may start after the end.
            let end = y.len();
            match &group.kernel {
                GroupKernel::Product { kernel, taps } => {
                    for image in 0..images {
                        let values = &maps[image * from.image_stride..];
                        let x = Input { values, rows: Rows::At(taps) };
                        let values = &mut y[(first + image * to.image_stride).min(end)..];
                        let y = Output { values, rows: Rows::Every(to.channel_stride), columns };
                        kernel.run_at(x, self.map.columns(self.output), y)?;
                    }
                }
                GroupKernel::Library(library) => {
                    let y = &mut y[first.min(end)..];
                    library.run(maps, from, images, y, to)?;
                }
            }
        }
        Ok(())
    }
}

thread_local! {
    /// The map of one image, kept from call to call.
    static MAP: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

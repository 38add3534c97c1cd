//! An image with zeros around it, in phases.
//!
//! Of stride 1, a plane per channel: `height + 2 padding` rows. A row's zeros on the right are those
//! on the left of the row below, so that the pitch is `width + padding` alone. Of stride s, s x s such
//! planes per channel, plane (a, b) with the padded image's pixels (a + s i, b + s j).

use super::Geometry;
use crate::kernels::layout::ImageLayout;

#[derive(Clone, Copy, Debug)]
pub(super) struct PaddedImage {
    geometry: Geometry,
    pitch: usize,
    /// Floats of one phase of one channel.
    plane: usize,
    floats: usize,
}

impl PaddedImage {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let Geometry { channels, height, width, side, stride, padding } = *geometry;
        let (rows, pitch) = match stride {
            // A kernel narrower than the zeros leaves more columns than these.
            1 => (
                height + 2 * padding,
                (width + padding).max((width + 2 * padding + 1).saturating_sub(side)),
            ),
            _ => ((height + 2 * padding).div_ceil(stride), (width + 2 * padding).div_ceil(stride)),
        };
        let plane = rows * pitch;
        // The last row's zeros on the right have no row below them.
        let after = if stride == 1 { padding } else { 0 };
        let floats = channels * stride * stride * plane + after;
        Self { geometry: *geometry, pitch, plane, floats }
    }

    /// From one row of a plane to the next.
    pub(super) fn pitch(&self) -> usize {
        self.pitch
    }

    /// Columns of the product for an output of this height and width: the last line ends with the
    /// last pixel.
    pub(super) fn columns(&self, [height, width]: [usize; 2]) -> usize {
        (height - 1) * self.pitch + width
    }

    /// Floats of the map of one image.
    pub(super) fn floats(&self) -> usize {
        self.floats
    }

    /// Where the image lies in it, unless it is split into phases.
    pub(super) fn unsplit(&self) -> Option<ImageLayout> {
        let Geometry { stride, padding, .. } = self.geometry;
        (stride == 1).then_some(ImageLayout {
            offset: padding * (self.pitch + 1),
            image_stride: self.floats,
            channel_stride: self.plane,
            row_stride: self.pitch,
            pixel_stride: 1,
        })
    }

    /// Whether the image itself serves as its map.
    pub(super) fn is_the_image(&self) -> bool {
        self.geometry.stride == 1 && self.geometry.padding == 0
    }

    /// Where the row of a tap starts: `down` and `right` are its place in the kernel.
    pub(super) fn tap(&self, channel: usize, down: usize, right: usize) -> usize {
        let stride = self.geometry.stride;
        let phase = (channel * stride + down % stride) * stride + right % stride;
        phase * self.plane + down / stride * self.pitch + right / stride
    }

    /// Writes an image into a map that holds zeros around it.
    pub(super) fn fill(&self, image: &[f32], map: &mut [f32]) {
        let Geometry { channels, height, width, stride, padding, .. } = self.geometry;
        for channel in 0..channels {
            for row in 0..height {
                let from = &image[(channel * height + row) * width..][..width];
                let down = row + padding;
                if stride == 1 {
                    let to = channel * self.plane + down * self.pitch + padding;
                    map[to..to + width].copy_from_slice(from);
                    continue;
                }
                for phase in 0..stride {
                    // The first pixel of this row that lies in the phase, and its column there.
                    let first = (phase + stride - padding % stride) % stride;
                    let to = &mut map[self.tap(channel, down, first + padding)..];
                    let from = from.get(first..).unwrap_or_default();
                    match stride {
                        2 => every::<2>(from, to),
                        4 => every::<4>(from, to),
                        _ => {
                            let pixels = from.iter().step_by(stride);
                            to.iter_mut().zip(pixels).for_each(|(to, &pixel)| *to = pixel);
                        }
                    }
                }
            }
        }
    }
}

/// Copies every `S`-th value. The stride is known when it is compiled, so that it is of whole vectors.
fn every<const S: usize>(from: &[f32], to: &mut [f32]) {
    let (groups, rest) = from.as_chunks::<S>();
    let (whole, last) = to.split_at_mut(groups.len());
    whole.iter_mut().zip(groups).for_each(|(to, group)| *to = group[0]);
    if let (Some(to), Some(&pixel)) = (last.first_mut(), rest.first()) {
        *to = pixel;
    }
}

//! A library's own convolution under [`super::Convolution`]: of one group of channels, of some images at once.

use std::fmt;
use std::sync::Arc;

use super::Geometry;
use crate::error::{Error, Result};
use crate::kernels::activate;
use crate::kernels::layout::ImageLayout;

/// A library's convolutions, each on the thread that calls it.
pub trait ConvLibrary: Send + Sync {
    /// The library and its version.
    fn name(&self) -> String;

    /// Prepares the convolution of one group of channels: `geometry` has that group's channels, `weights` are
    /// `[outputs, channels, side, side]`, `bias` has an entry for each output.
    ///
    /// # Errors
    /// What the library refuses.
    fn prepare(
        &self,
        geometry: &Geometry,
        weights: &[f32],
        bias: &[f32],
    ) -> Result<Box<dyn PreparedConv>>;
}

/// A convolution that a library has prepared.
pub trait PreparedConv: Send + Sync {
    /// Convolves so many images, `[images, channels, height, width]`, that lie in `x` as `layout` says, and gives
    /// their results, `[images, outputs, height, width]` without anything between them, to `take`.
    ///
    /// # Errors
    /// A slice that is too short; what the library refuses.
    fn run(
        &self,
        x: &[f32],
        layout: &ImageLayout,
        images: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<()>;
}

/// What a library's own convolution is called.
pub(super) const NAME: &str = "convolution_f32_library";

/// What a convolution by a library of that name is called.
pub(crate) fn label(library: &str) -> String {
    format!("{NAME} ({library})")
}

/// The library's name, and what it has prepared for one group of channels.
pub(super) struct LibraryConv {
    name: String,
    prepared: Box<dyn PreparedConv>,
    relu: bool,
    /// Its first channel among those of all groups.
    first_input: usize,
    /// Channels, height and width of its results.
    output: [usize; 3],
}

impl LibraryConv {
    /// Prepares one group of channels, of this geometry.
    pub fn new(
        library: &Arc<dyn ConvLibrary>,
        geometry: &Geometry,
        first_input: usize,
        (weights, bias): (&[f32], &[f32]),
        relu: bool,
    ) -> Result<Self> {
        let [height, width] = geometry.output()?;
        let prepared = library.prepare(geometry, weights, bias)?;
        let output = [bias.len(), height, width];
        Ok(Self { name: library.name(), prepared, relu, first_input, output })
    }

    pub fn label(&self) -> String {
        label(&self.name)
    }

    /// Convolves so many images of all channels and writes what comes of them to `y` on, their rows, channels and
    /// images as far apart as in `to`.
    pub fn run(
        &self,
        x: &[f32],
        layout: &ImageLayout,
        images: usize,
        y: &mut [f32],
        to: &ImageLayout,
    ) -> Result<()> {
        let [channels, height, width] = self.output;
        if images * channels * height * width == 0 {
            return Ok(());
        }
        let own = ImageLayout {
            offset: layout.offset + self.first_input * layout.channel_stride,
            ..*layout
        };
        let mut found = 0;
        let expected = images * channels * height * width;
        self.prepared.run(x, &own, images, &mut |results| {
            found = results.len();
            // What is of another size is refused below.
            let results = if found == expected { results } else { &[] };
            for (image, results) in results.chunks_exact(channels * height * width).enumerate() {
                let y = &mut y[image * to.image_stride..];
                for (channel, results) in results.chunks_exact(height * width).enumerate() {
                    let y = &mut y[channel * to.channel_stride..];
                    match self.relu {
                        true => {
                            rows(results, y, width, to.row_stride, |value| activate(value, true))
                        }
                        false => rows(results, y, width, to.row_stride, |value| value),
                    }
                }
            }
        })?;
        Error::check_length(&self.name, "a convolution's results", expected, found)
    }
}

/// Writes rows of results that lie side by side to their places.
fn rows(
    results: &[f32],
    y: &mut [f32],
    width: usize,
    row_stride: usize,
    value: impl Fn(f32) -> f32,
) {
    for (results, y) in results.chunks_exact(width).zip(y.chunks_mut(row_stride)) {
        for (y, &result) in y[..width].iter_mut().zip(results) {
            *y = value(result);
        }
    }
}

impl fmt::Debug for LibraryConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.name, self.output)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernels::convolution::{ConvLayer, Weights, reference};
    use ndarray::Array2;

    /// A library by plain loops: what is checked is how convolutions hand over to one.
    pub(crate) struct LoopsConv;

    struct Prepared {
        geometry: Geometry,
        weights: Array2<f32>,
        bias: Vec<f32>,
    }

    impl ConvLibrary for LoopsConv {
        fn name(&self) -> String {
            "plain loops".into()
        }

        fn prepare(
            &self,
            geometry: &Geometry,
            weights: &[f32],
            bias: &[f32],
        ) -> Result<Box<dyn PreparedConv>> {
            let columns = geometry.channels * geometry.side * geometry.side;
            let weights = Array2::from_shape_vec((bias.len(), columns), weights.to_vec()).unwrap();
            Ok(Box::new(Prepared { geometry: *geometry, weights, bias: bias.to_vec() }))
        }
    }

    impl PreparedConv for Prepared {
        fn run(
            &self,
            x: &[f32],
            layout: &ImageLayout,
            images: usize,
            take: &mut dyn FnMut(&[f32]),
        ) -> Result<()> {
            let Geometry { channels, height, width, .. } = self.geometry;
            let views = [self.weights.view()];
            let weights = Weights::Dense(&views);
            let bias = Some(&self.bias[..]);
            let layer = ConvLayer { geometry: self.geometry, weights, bias, relu: false };
            let mut results = Vec::new();
            for image in 0..images {
                let mut plain = Vec::new();
                let first = layout.offset + image * layout.image_stride;
                for (channel, row) in (0..channels).flat_map(|c| (0..height).map(move |r| (c, r))) {
                    let start = first + channel * layout.channel_stride + row * layout.row_stride;
                    plain.extend(&x[start..start + width]);
                }
                results.extend(reference::run(&layer, &plain)?);
            }
            take(&results);
            Ok(())
        }
    }

    /// A library whose convolutions give what is none, at once.
    pub(crate) struct Instant;

    impl ConvLibrary for Instant {
        fn name(&self) -> String {
            "instant".into()
        }

        fn prepare(
            &self,
            geometry: &Geometry,
            _: &[f32],
            bias: &[f32],
        ) -> Result<Box<dyn PreparedConv>> {
            let [height, width] = geometry.output()?;
            Ok(Box::new(Zeros(vec![0.0; bias.len() * height * width])))
        }
    }

    struct Zeros(Vec<f32>);

    impl PreparedConv for Zeros {
        fn run(
            &self,
            _: &[f32],
            _: &ImageLayout,
            images: usize,
            take: &mut dyn FnMut(&[f32]),
        ) -> Result<()> {
            take(&self.0.repeat(images));
            Ok(())
        }
    }

    #[test]
    fn results_of_another_number_and_weights_that_are_not_dense_are_refused() {
        let geometry =
            Geometry { channels: 1, height: 4, width: 4, side: 1, stride: 1, padding: 0 };
        let output = [2, 4, 4];
        for found in [31, 33, 0] {
            let prepared: Box<dyn PreparedConv> = Box::new(Zeros(vec![0.0; found]));
            let conv = LibraryConv {
                name: "a library".into(),
                prepared,
                relu: true,
                first_input: 0,
                output,
            };
            let plain = ImageLayout::plain(output);
            let error = conv.run(&[0.0; 16], &plain, 1, &mut [0.0; 64], &plain).unwrap_err();
            assert!(error.to_string().contains("32"), "{error}");
        }
        let sparse = [crate::sparse::Csr::from_dense(ndarray::arr2(&[[1.0]]).view()).unwrap()];
        let layer = ConvLayer { geometry, weights: Weights::Csr(&sparse), bias: None, relu: false };
        let library: Arc<dyn ConvLibrary> = Arc::new(LoopsConv);
        let error = super::super::Convolution::with_conv_library(&library, &layer).unwrap_err();
        assert!(error.to_string().contains("dense weights"), "{error}");
    }
}

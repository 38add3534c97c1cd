//! From an image file to a network's input: decoding, scaling, cropping, flipping.

use std::path::Path;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, RgbImage};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::image_folder::ImageFolder;
use super::preprocess::Cropping;
use crate::error::{Error, Result};

/// Width over height of a training crop, at least; at most it is one over that.
const LEAST_ASPECT: f64 = 3.0 / 4.0;

/// Tries to find a crop inside the image before its middle is taken.
const TRIES: usize = 10;

/// Images that a mean image is taken over, spread over the folder.
const MEAN_IMAGES: usize = 10_000;

/// A part of an image, in pixels; corners may lie between them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// Decodes an image file, whatever its ending says it is.
///
/// # Errors
/// A file that cannot be read or is no whole image, by name.
pub fn decode(path: &Path) -> Result<RgbImage> {
    let broken = |reason: String| {
        Error::malformed(path.display().to_string(), "a whole JPEG or PNG image", reason)
    };
    let reader = ImageReader::open(path).map_err(Error::io("open", path))?;
    let reader = reader.with_guessed_format().map_err(Error::io("read", path))?;
    let image = reader.decode().map_err(|error| broken(error.to_string()))?;
    if image.width() == 0 || image.height() == 0 {
        return Err(broken("no pixels".into()));
    }
    Ok(image.into_rgb8())
}

/// A random part of the image, scaled to `side` x `side` and flipped half of the time: its area is
/// between `least_area` and all of the image's, its aspect ratio between 3/4 and 4/3. Planes of red,
/// green and blue, `[3, side, side]`. (Szegedy et al., *Going deeper with convolutions*, 2015.)
///
/// # Errors
/// What the scaling library refuses.
pub fn training_crop(
    image: &RgbImage,
    side: usize,
    least_area: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<u8>> {
    let window = random_window(image.dimensions(), least_area, rng);
    let flip = rng.random();
    scaled(image, window, side, flip)
}

/// The middle of the image, `side` x `side`, once its shorter side is scaled to `resize`. Planes as in
/// [`training_crop`].
///
/// # Errors
/// What the scaling library refuses.
pub fn centre_crop(image: &RgbImage, side: usize, resize: usize) -> Result<Vec<u8>> {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    // The crop as a part of the image as it is: scaling once is enough.
    let length = width.min(height) * side.min(resize) as f64 / resize as f64;
    let (left, top) = ((width - length) / 2.0, (height - length) / 2.0);
    scaled(image, Window { left, top, width: length, height: length }, side, false)
}

/// The mean over the middles of a folder's images, `[3, side, side]`; over 10,000 of them, spread over
/// the folder, where there are more. Images that cannot be decoded are left out.
///
/// # Errors
/// No image that can be decoded.
pub fn mean_image(folder: &ImageFolder, side: usize, resize: usize) -> Result<Vec<f32>> {
    let files = folder.files();
    let taken = files.len().min(MEAN_IMAGES);
    let places = (0..taken).map(|place| place * files.len() / taken);
    let chosen: Vec<&Path> = places.map(|place| files[place].path.as_path()).collect();
    let length = 3 * side * side;
    // Sums of whole numbers: the order of the threads changes nothing.
    let (sums, count) = chosen
        .par_iter()
        .filter_map(|path| centre_crop(&decode(path).ok()?, side, resize).ok())
        .fold(
            || (vec![0_u64; length], 0_u64),
            |(mut sums, count), crop| {
                sums.iter_mut().zip(&crop).for_each(|(sum, &value)| *sum += u64::from(value));
                (sums, count + 1)
            },
        )
        .reduce(
            || (vec![0; length], 0),
            |(mut sums, count), (others, more)| {
                sums.iter_mut().zip(&others).for_each(|(sum, other)| *sum += other);
                (sums, count + more)
            },
        );
    if count == 0 {
        let root = folder.root().display().to_string();
        return Err(Error::malformed(root, "images that can be decoded", "none"));
    }
    Ok(sums.into_iter().map(|sum| (sum as f64 / count as f64) as f32).collect())
}

/// Checks that crops of this kind fit a network's input, and returns its side.
///
/// # Errors
/// An input that is not square or has not three channels; a crop larger than what it is cut from.
pub fn side([channels, height, width]: [usize; 3], cropping: &Cropping) -> Result<usize> {
    if channels == 3 && height == width && height <= cropping.resize {
        return Ok(height);
    }
    let expected = format!("a square input of 3 channels, at most {} wide", cropping.resize);
    Err(Error::argument("crop images", expected, format!("{channels}x{height}x{width}")))
}

fn random_window((width, height): (u32, u32), least_area: f64, rng: &mut ChaCha8Rng) -> Window {
    let (width, height) = (f64::from(width), f64::from(height));
    for _ in 0..TRIES {
        let area = width * height * rng.random_range(least_area..=1.0);
        let aspect = rng.random_range(LEAST_ASPECT.ln()..=-LEAST_ASPECT.ln()).exp();
        let (wide, tall) = ((area * aspect).sqrt(), (area / aspect).sqrt());
        if wide <= width && tall <= height {
            let left = rng.random_range(0.0..=width - wide);
            let top = rng.random_range(0.0..=height - tall);
            return Window { left, top, width: wide, height: tall };
        }
    }
    // A long image: as much of its middle as the aspect ratio allows.
    let wide = width.min(height / LEAST_ASPECT);
    let tall = height.min(width / LEAST_ASPECT);
    let (left, top) = ((width - wide) / 2.0, (height - tall) / 2.0);
    Window { left, top, width: wide, height: tall }
}

/// A part of the image at another size, as planes.
fn scaled(image: &RgbImage, window: Window, side: usize, flip: bool) -> Result<Vec<u8>> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::argument("scale an image", "a part of it", error.to_string())
    };
    // Typed images: the untyped ones compile the scaling of every pixel type, which takes minutes.
    let source = TypedImageRef::<U8x3>::from_buffer(image.width(), image.height(), image.as_raw())
        .map_err(|error| refused(&error))?;
    let mut target = TypedImage::<U8x3>::new(side as u32, side as u32);
    let options = ResizeOptions::new()
        .crop(window.left, window.top, window.width, window.height)
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| refused(&error))?;
    let pixels = target.pixels();
    let mut planes = vec![0; 3 * side * side];
    for (channel, plane) in planes.chunks_exact_mut(side * side).enumerate() {
        for (row, line) in plane.chunks_exact_mut(side).enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let from = if flip { side - 1 - column } else { column };
                *value = pixels[row * side + from].0[channel];
            }
        }
    }
    Ok(planes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    /// Red grows to the right, green downwards.
    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 7]))
    }

    #[test]
    fn the_centre_is_cut_from_the_scaled_image() {
        // At its own size, the middle 4x4 of 10x8, shorter side 8: columns 3 to 6, rows 2 to 5.
        let crop = centre_crop(&ramp(10, 8), 4, 8).unwrap();
        assert_eq!(crop[..4], [3, 4, 5, 6]);
        assert_eq!([crop[16], crop[16 + 12]], [2, 5]);
        assert_eq!(crop[32..], [7; 16]);
        // Half the size: about the means of two by two pixels.
        let crop = centre_crop(&ramp(8, 8), 4, 4).unwrap();
        for (found, mean) in crop[..4].iter().zip([0.5, 2.5, 4.5, 6.5]) {
            assert!((f64::from(*found) - mean).abs() <= 0.75, "{crop:?}");
        }
    }

    #[test]
    fn training_crops_lie_inside_and_are_flipped_half_of_the_time() {
        let image = ramp(200, 120);
        let mut flips = 0;
        for index in 0..200 {
            let mut rng = seed::stream(1, "crop", &[index]);
            let window = random_window(image.dimensions(), 0.08, &mut rng);
            let (right, bottom) = (window.left + window.width, window.top + window.height);
            assert!(window.left >= 0.0 && window.top >= 0.0 && right <= 200.0 && bottom <= 120.0);
            let area = window.width * window.height / (200.0 * 120.0);
            assert!((0.0799..=1.0001).contains(&area), "{area}");
            let aspect = window.width / window.height;
            assert!((0.7499..=1.3334).contains(&aspect), "{aspect}");

            let crop =
                training_crop(&image, 8, 0.08, &mut seed::stream(1, "crop", &[index])).unwrap();
            assert_eq!(crop.len(), 3 * 64);
            flips += usize::from(crop[0] > crop[7]);
        }
        assert!((70..130).contains(&flips), "{flips}");
    }

    #[test]
    fn a_long_image_has_a_crop_too() {
        let window = random_window((1000, 10), 1.0, &mut seed::stream(1, "crop", &[]));
        assert!((window.width / window.height - 4.0 / 3.0).abs() < 1e-9 && window.height == 10.0);
    }

    #[test]
    fn only_square_colour_inputs_are_cropped() {
        let cropping = Cropping { resize: 256, least_area: 0.08 };
        assert_eq!(side([3, 227, 227], &cropping).unwrap(), 227);
        for shape in [[1, 227, 227], [3, 227, 200], [3, 300, 300]] {
            assert!(side(shape, &cropping).is_err());
        }
    }

    #[test]
    fn images_of_every_kind_have_the_pixels_that_other_loaders_see() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/images"));
        let expected = std::fs::read_to_string(folder.join("pixels.txt")).unwrap();
        for line in expected.lines() {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let image = decode(&folder.join(name)).unwrap();
            for (place, colour) in words.enumerate() {
                let (x, y) = (8 + 16 * (place as u32 % 2), 8 + 16 * (place as u32 / 2));
                let colour: Vec<u8> =
                    colour.split(',').map(|value| value.parse().unwrap()).collect();
                let found = image.get_pixel(x, y).0;
                // Decoders of JPEG and conversions from four inks round otherwise by some units.
                let near = found.iter().zip(&colour).all(|(a, b)| a.abs_diff(*b) <= 3);
                assert!(near, "{name} at {x}, {y}: {found:?}, not {colour:?}");
            }
        }
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.jpg");
        ramp(40, 30).save(&path).unwrap();
        assert_eq!(decode(&path).unwrap().dimensions(), (40, 30));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 8]).unwrap();
        let error = decode(&path).unwrap_err().to_string();
        assert!(error.contains("image.jpg") && error.contains("whole JPEG"), "{error}");
    }
}

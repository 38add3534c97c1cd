//! Digits drawn by this program: strokes, bent and tilted at random, rendered with soft edges.
//!
//! They stand in for MNIST where there is no network, and serve tests that must not depend on
//! files. Equal seeds give equal bytes.

use std::f64::consts::PI;
use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Dataset, Origin, Split};
use crate::error::{Error, Result};
use crate::{files, seed};

/// The seed of the digits that stand in for a data set: part of what that set is.
pub(super) const SEED: u64 = 20_170_624;

const SIDE: usize = 28;

/// How many synthetic digits to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// For training.
    pub train: usize,
    /// For testing.
    pub test: usize,
}

impl Counts {
    /// As many as MNIST has.
    pub const LIKE_MNIST: Self = Self { train: 60_000, test: 10_000 };
    /// As many as CIFAR-10 has.
    pub const LIKE_CIFAR_10: Self = Self { train: 50_000, test: 10_000 };
    /// Few, as files: enough to see the pipeline of ImageNet at work.
    pub const FEW: Self = Self { train: 1000, test: 200 };
}

/// Draws a data set of the ten digits, in turn, from `seed`.
pub fn digits(counts: Counts, seed: u64) -> Dataset {
    Dataset {
        name: "synthetic-digits".into(),
        origin: Origin::Drawn { seed },
        classes: 10,
        train: split(counts.train, seed, "train"),
        test: split(counts.test, seed, "test"),
    }
}

fn split(count: usize, seed: u64, part: &str) -> Split {
    let mut pixels = vec![0; count * SIDE * SIDE];
    pixels.par_chunks_mut(SIDE * SIDE).enumerate().for_each(|(index, image)| {
        let mut rng = seed::stream(seed, part, &[index as u64]);
        draw(index % 10, &mut rng, image);
    });
    Split { shape: [1, SIDE, SIDE], pixels, labels: (0..count).map(|i| (i % 10) as u8).collect() }
}

/// Draws the same digits in colour, on 32x32 pixels, in place of CIFAR-10.
pub fn coloured_digits(counts: Counts, seed: u64) -> Dataset {
    let plain = digits(counts, seed);
    let colour = |split: &Split, part: &str| {
        let mut pixels = vec![0; split.len() * 3 * COLOUR_SIDE * COLOUR_SIDE];
        let images = split.pixels.par_chunks(SIDE * SIDE);
        let painted = pixels.par_chunks_mut(3 * COLOUR_SIDE * COLOUR_SIDE);
        images.zip(painted).enumerate().for_each(|(index, (image, painted))| {
            paint(image, COLOUR_SIDE, &mut seed::stream(seed, part, &[index as u64]), painted);
        });
        Split { shape: [3, COLOUR_SIDE, COLOUR_SIDE], pixels, labels: split.labels.clone() }
    };
    Dataset {
        name: "synthetic-coloured-digits".into(),
        train: colour(&plain.train, "colour train"),
        test: colour(&plain.test, "colour test"),
        ..plain
    }
}

const COLOUR_SIDE: usize = 32;

/// Writes the digits in colour as JPEG files, `train/<digit>/<number>.jpg` and `val/...`, each of a size of
/// its own, in place of ImageNet. Files that are there stay.
///
/// # Errors
/// A folder that cannot be written.
pub fn image_folder(root: &Path, counts: Counts, seed: u64) -> Result<()> {
    let plain = digits(counts, seed);
    for (part, split) in [("train", &plain.train), ("val", &plain.test)] {
        let write = |(index, image): (usize, &[u8])| -> Result<()> {
            let folder = root.join(part).join(split.labels[index].to_string());
            let path = folder.join(format!("{index:05}.jpg"));
            if path.exists() {
                return Ok(());
            }
            let mut rng = seed::stream(seed, part, &[index as u64, 1]);
            let side = rng.random_range(40..=64_usize) * 4;
            let mut planes = vec![0; 3 * side * side];
            paint(image, side, &mut rng, &mut planes);
            let at = |x: u32, y: u32| y as usize * side + x as usize;
            let picture = RgbImage::from_fn(side as u32, side as u32, |x, y| {
                image::Rgb([0, 1, 2].map(|channel| planes[channel * side * side + at(x, y)]))
            });
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, ImageFormat::Jpeg).map_err(|error| {
                Error::argument("encode an image", "one that JPEG can hold", error.to_string())
            })?;
            files::replace(&path, bytes.into_inner())
        };
        split.pixels.par_chunks(SIDE * SIDE).enumerate().try_for_each(write)?;
    }
    Ok(())
}

/// A digit at another size, in one random colour on another, `[3, side, side]`.
fn paint(image: &[u8], side: usize, rng: &mut ChaCha8Rng, painted: &mut [u8]) {
    let ground: [f64; 3] = std::array::from_fn(|_| rng.random_range(0.0..255.0));
    // Lighter or darker than the ground, in every channel by enough to be seen.
    let contrast = rng.random_range(90.0..160.0);
    let ink = ground.map(|value| if value < 128.0 { value + contrast } else { value - contrast });
    for (channel, plane) in painted.chunks_exact_mut(side * side).enumerate() {
        for (place, value) in plane.iter_mut().enumerate() {
            let [row, column] = [place / side, place % side].map(|at| at * SIDE / side);
            let share = f64::from(image[row * SIDE + column]) / 255.0;
            *value = (ground[channel] + share * (ink[channel] - ground[channel])).round() as u8;
        }
    }
}

type Point = (f64, f64);

/// A stroke: points joined by straight lines, in a box of side 1, y downwards.
type Stroke = Vec<Point>;

/// Points from `from` to `to`, close enough to each other to be bent.
fn line(from: Point, to: Point) -> Stroke {
    let between = |t: f64| (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
    (0..=8).map(|step| between(f64::from(step) / 8.0)).collect()
}

/// Points of an ellipse from angle `from` to `to`, in half turns, clockwise from the right.
fn arc(center: Point, radius: Point, from: f64, to: f64) -> Stroke {
    let at = |angle: f64| (center.0 + radius.0 * angle.cos(), center.1 + radius.1 * angle.sin());
    (0..=20).map(|step| at(PI * (from + (to - from) * f64::from(step) / 20.0))).collect()
}

/// The strokes of a digit, undistorted.
fn strokes(digit: usize) -> Vec<Stroke> {
    match digit {
        0 => vec![arc((0.5, 0.5), (0.26, 0.38), 0.0, 2.0)],
        1 => vec![line((0.36, 0.26), (0.54, 0.12)), line((0.54, 0.12), (0.54, 0.88))],
        2 => vec![
            arc((0.49, 0.33), (0.24, 0.21), -1.0, 0.25),
            line((0.66, 0.48), (0.25, 0.87)),
            line((0.25, 0.87), (0.77, 0.87)),
        ],
        3 => vec![
            arc((0.46, 0.31), (0.24, 0.19), -0.85, 0.5),
            arc((0.46, 0.69), (0.27, 0.19), -0.5, 0.85),
        ],
        4 => vec![
            line((0.6, 0.12), (0.22, 0.62)),
            line((0.22, 0.62), (0.8, 0.62)),
            line((0.63, 0.38), (0.63, 0.9)),
        ],
        5 => vec![
            line((0.74, 0.13), (0.33, 0.13)),
            line((0.33, 0.13), (0.3, 0.46)),
            arc((0.47, 0.65), (0.27, 0.23), -0.65, 0.8),
        ],
        6 => vec![
            line((0.62, 0.11), (0.36, 0.4)),
            line((0.36, 0.4), (0.27, 0.66)),
            arc((0.5, 0.67), (0.23, 0.21), 0.0, 2.0),
        ],
        7 => vec![line((0.24, 0.14), (0.77, 0.14)), line((0.77, 0.14), (0.43, 0.88))],
        8 => vec![arc((0.5, 0.31), (0.2, 0.18), 0.0, 2.0), arc((0.5, 0.69), (0.25, 0.2), 0.0, 2.0)],
        _ => vec![arc((0.49, 0.33), (0.23, 0.21), 0.0, 2.0), line((0.72, 0.34), (0.63, 0.88))],
    }
}

/// Draws one digit: an affine map (turn, slant, size, place), an elastic one (three low waves in
/// each direction), a pen of random width and pressure, and a little grain.
fn draw(digit: usize, rng: &mut ChaCha8Rng, image: &mut [u8]) {
    let (turn, slant) = (rng.random_range(-0.28..0.28_f64), rng.random_range(-0.35..0.35));
    let (wide, tall) = (rng.random_range(0.75..1.1), rng.random_range(0.8..1.1));
    let shift: Point = (rng.random_range(-0.08..0.08), rng.random_range(-0.08..0.08));
    let wave = |rng: &mut ChaCha8Rng| -> [f64; 4] {
        let amplitude = rng.random_range(-0.035..0.035);
        let (fx, fy) = (rng.random_range(-7.0..7.0), rng.random_range(-7.0..7.0));
        [amplitude, fx, fy, rng.random_range(0.0..2.0 * PI)]
    };
    let waves: [[[f64; 4]; 3]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| wave(rng)));
    let bend = |axis: usize, (x, y): Point| -> f64 {
        waves[axis]
            .iter()
            .map(|[amplitude, fx, fy, phase]| amplitude * (fx * x + fy * y + phase).sin())
            .sum()
    };
    let place = |point: Point| -> Point {
        let point = (point.0 + bend(0, point), point.1 + bend(1, point));
        let (x, y) = ((point.0 - 0.5) * wide, (point.1 - 0.5) * tall);
        let x = x - slant * y;
        let (x, y) = (x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos());
        // Like MNIST's, the digits fill the middle 20 pixels.
        let scale = 22.0;
        (14.0 + scale * (x + shift.0), 14.0 + scale * (y + shift.1))
    };
    let segments: Vec<(Point, Point)> = strokes(digit)
        .into_iter()
        .flat_map(|stroke| {
            let points: Vec<Point> = stroke.into_iter().map(place).collect();
            points.windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
        })
        .collect();

    let (pen, pressure) = (rng.random_range(0.7..1.6), rng.random_range(0.8..1.0));
    let reach = pen + 0.6; // how far from a stroke's middle there is ink
    let mut distances = [reach * reach; SIDE * SIDE];
    for &(from, to) in &segments {
        let pixels = |a: f64, b: f64| {
            let (low, high) = (a.min(b) - reach, a.max(b) + reach);
            low.clamp(0.0, SIDE as f64) as usize..high.ceil().clamp(0.0, SIDE as f64) as usize
        };
        for y in pixels(from.1, to.1) {
            for x in pixels(from.0, to.0) {
                let distance = &mut distances[y * SIDE + x];
                let center = (x as f64 + 0.5, y as f64 + 0.5);
                *distance = distance.min(squared_distance(center, (from, to)));
            }
        }
    }
    for (pixel, distance) in image.iter_mut().zip(distances) {
        let ink = (reach - distance.sqrt()).clamp(0.0, 1.0) * pressure;
        let grain = if ink > 0.0 { rng.random_range(-0.06..0.06) } else { 0.0 };
        *pixel = (255.0 * (ink + grain).clamp(0.0, 1.0)).round() as u8;
    }
}

fn squared_distance((x, y): Point, ((ax, ay), (bx, by)): (Point, Point)) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((x - ax) * dx + (y - ay) * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    let (ex, ey) = (x - ax - along * dx, y - ay - along * dy);
    ex * ex + ey * ey
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_digits_and_others_do_not() {
        let counts = Counts { train: 30, test: 10 };
        let first = digits(counts, 1);
        assert_eq!(first.train, digits(counts, 1).train);
        assert_ne!(first.train.pixels, digits(counts, 2).train.pixels);
        assert_ne!(first.train.pixels[..784], first.test.pixels[..784]);
        assert_eq!(first.train.labels[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    #[test]
    fn colours_keep_the_digit_visible_and_files_hold_what_was_drawn() {
        let data = coloured_digits(Counts { train: 20, test: 10 }, 1);
        assert_eq!((data.train.shape, data.train.len(), data.test.len()), ([3, 32, 32], 20, 10));
        for plane in data.train.pixels.chunks(32 * 32) {
            let (least, most) = (plane.iter().min().unwrap(), plane.iter().max().unwrap());
            assert!(most - least > 60, "{least} to {most}");
        }
        let folder = tempfile::tempdir().unwrap();
        image_folder(folder.path(), Counts { train: 20, test: 10 }, 1).unwrap();
        let image = crate::data::crop::decode(&folder.path().join("train/3/00013.jpg")).unwrap();
        assert!(image.width() >= 160 && image.width() == image.height());
        let before = std::fs::metadata(folder.path().join("val/9/00009.jpg")).unwrap().modified();
        image_folder(folder.path(), Counts { train: 20, test: 10 }, 1).unwrap();
        let after = std::fs::metadata(folder.path().join("val/9/00009.jpg")).unwrap().modified();
        assert_eq!(before.unwrap(), after.unwrap());
    }

    #[test]
    fn every_digit_leaves_ink_and_no_two_are_alike() {
        let data = digits(Counts { train: 200, test: 0 }, 7);
        let images: Vec<&[u8]> = data.train.pixels.chunks(SIDE * SIDE).collect();
        for (index, image) in images.iter().enumerate() {
            let inked = image.iter().filter(|&&pixel| pixel > 100).count();
            assert!((20..400).contains(&inked), "digit {} has {inked} dark pixels", index % 10);
            assert!(images[..index].iter().all(|other| other != image));
        }
    }
}

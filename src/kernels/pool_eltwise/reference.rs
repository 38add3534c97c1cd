//! The operations by their definition: plain loops, f64.

use super::{Op, Window};
use crate::kernels::activate;

/// Y `[images, channels, ...]` of X `[images, channels, height, width]`, both contiguous.
pub fn run(op: &Op<'_>, [channels, height, width]: [usize; 3], x: &[f32]) -> Vec<f32> {
    let area = height * width;
    let mut y = Vec::new();
    for (index, plane) in x.chunks(area.max(1)).enumerate() {
        let channel = index % channels;
        let pixel = |row: usize, column: usize, padding: usize| {
            let row = row.checked_sub(padding).filter(|&row| row < height)?;
            let column = column.checked_sub(padding).filter(|&column| column < width)?;
            Some(f64::from(plane[row * width + column]))
        };
        let window = |window: &Window, [top, left]: [usize; 2]| {
            let places = (0..window.size).flat_map(|i| (0..window.size).map(move |j| (i, j)));
            let pixels = places.filter_map(|(i, j)| pixel(top + i, left + j, window.padding));
            pixels.collect::<Vec<f64>>()
        };
        let [rows, columns] = op.output([height, width]);
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
            let own = || plane[row * width + column];
            y.push(match op {
                Op::Max(pool) => {
                    let values = window(pool, [row * pool.stride, column * pool.stride]);
                    let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
                    values.into_iter().fold(f64::NEG_INFINITY, larger) as f32
                }
                Op::MaxAffine { window: pool, scale, shift } => {
                    let values = window(pool, [row * pool.stride, column * pool.stride]);
                    let (scale, shift) = (f64::from(scale[channel]), f64::from(shift[channel]));
                    let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
                    values.into_iter().map(|x| scale * x + shift).fold(f64::NEG_INFINITY, larger)
                        as f32
                }
                Op::Average(pool) => {
                    let values = window(pool, [row * pool.stride, column * pool.stride]);
                    (values.iter().sum::<f64>() / (pool.size * pool.size) as f64) as f32
                }
                Op::Norm { size, alpha, beta } => {
                    let around = Window { size: *size, stride: 1, padding: size / 2 };
                    let squares = window(&around, [row, column]).iter().map(|v| v * v).sum::<f64>();
                    let mean = squares / (size * size) as f64;
                    let scale = (1.0 + f64::from(*alpha) * mean).powf(f64::from(*beta));
                    (f64::from(own()) / scale) as f32
                }
                Op::Affine { scale, shift, relu } => {
                    let value = f64::from(scale[channel]) * f64::from(own());
                    activate((value + f64::from(shift[channel])) as f32, *relu)
                }
                Op::Copy { relu } => activate(own(), *relu),
            });
        }
    }
    y
}

//! Plots as SVG. Equal data give equal bytes.

mod bars;
mod breakeven;
mod scatter;
mod stages;

use plotters::style::RGBColor;

use crate::error::{Error, Result};

pub(super) use bars::Bars;
pub use breakeven::breakeven_plot;
pub(super) use scatter::{Panel, Scatter, Series};
pub use stages::stages_plot;

const SIZE: (u32, u32) = (720, 400);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// What `draw` draws, as SVG.
///
/// # Errors
/// What the drawing library refuses.
fn svg(title: &str, draw: impl FnOnce(&mut String) -> Result<(), String>) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg).map_err(|reason| {
        Error::argument(format!("plot {title}"), "numbers that can be drawn", reason)
    })?;
    Ok(svg)
}

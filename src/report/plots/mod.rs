//! Plots as SVG. Equal data give equal bytes.

mod bars;
mod breakeven;
mod scatter;
mod stages;

use plotters::style::RGBColor;

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

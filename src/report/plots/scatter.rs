//! Accuracy over what it costs: points by technique, in panels beside each other.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{COLOURS, svg};
use crate::error::Result;

const SIZE: (u32, u32) = (960, 420);

/// Pixels: the height of the legend, and the width of a name in it.
const LEGEND: u32 = 24;
const NAME: i32 = 125;

/// Of a series by its place.
fn colour(index: usize) -> RGBColor {
    COLOURS.get(index).copied().unwrap_or(RGBColor(90, 90, 90))
}

/// Round numbers in a range, for its axis.
fn round(least: f64, most: f64) -> Vec<f64> {
    let decades = least.log10().floor() as i32..=most.log10().ceil() as i32;
    // Written as text and read again, since a power of ten is not always the nearest number to it.
    let numbers = decades.flat_map(|decade| {
        [1, 2, 3, 5, 7].map(|digit| format!("{digit}e{decade}").parse().unwrap_or(f64::NAN))
    });
    numbers.filter(|number| (least..=most).contains(number)).collect()
}

/// What was measured of one technique.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name, in the legend.
    pub name: &'static str,
    /// Cost and accuracy of each measurement.
    pub points: Vec<(f64, f64)>,
    /// Each through points that belong together.
    pub lines: Vec<Vec<(f64, f64)>>,
}

/// A panel, on a logarithmic axis of costs.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What the cost is, with its unit.
    pub cost: String,
    /// In the order of the legend, the same in all panels as far as they have as many; those without points are
    /// drawn nowhere.
    pub series: Vec<Series>,
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }
}

/// Panels with one axis of accuracies.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// Above all panels.
    pub title: String,
    /// The lowest accuracy that is drawn.
    pub lowest: f64,
    /// From left to right; none is empty.
    pub panels: Vec<Panel>,
}

impl Scatter {
    /// The plot; equal points give equal bytes.
    ///
    /// # Errors
    /// What the drawing library refuses.
    pub fn plot(&self) -> Result<String> {
        svg(&self.title, |svg| self.draw(svg))
    }

    fn draw(&self, svg: &mut String) -> Result<(), String> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| e.to_string())?;
        let area = area.titled(&self.title, ("sans-serif", 18)).map_err(|e| e.to_string())?;
        let (legend, area) = area.split_vertically(LEGEND);
        self.draw_legend(&legend)?;
        let areas = area.split_evenly((1, self.panels.len()));
        for (index, (panel, area)) in self.panels.iter().zip(&areas).enumerate() {
            self.draw_panel(panel, area, index == 0)?;
        }
        area.present().map_err(|e| e.to_string())
    }

    /// The names of the series that have points, side by side.
    fn draw_legend(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let panels = self.panels.iter().map(|panel| &panel.series[..]);
        let names = panels.max_by_key(|series| series.len()).unwrap_or_default();
        let is_drawn = |index: usize| {
            let of =
                |panel: &Panel| panel.series.get(index).is_some_and(|own| !own.points.is_empty());
            self.panels.iter().any(of)
        };
        let mut left = 70;
        for (index, series) in names.iter().enumerate().filter(|(index, _)| is_drawn(*index)) {
            let dot = Circle::new((left, LEGEND as i32 / 2), 4, colour(index).filled());
            area.draw(&dot).map_err(|e| e.to_string())?;
            let name =
                Text::new(series.name, (left + 9, LEGEND as i32 / 2 - 6), ("sans-serif", 13));
            area.draw(&name).map_err(|e| e.to_string())?;
            left += NAME;
        }
        Ok(())
    }

    fn draw_panel(
        &self,
        panel: &Panel,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        is_first: bool,
    ) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let all = || self.panels.iter().flat_map(Panel::points).map(|(_, y)| y);
        let highest = all().fold(f64::NEG_INFINITY, f64::max);
        let lowest = all().fold(highest, f64::min).max(self.lowest);
        let margin = (0.06 * (highest - lowest)).max(0.05);
        let costs = || panel.points().map(|(x, _)| x);
        let (least, most) = (costs().fold(f64::MAX, f64::min), costs().fold(0.0, f64::max));
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(if is_first { 56 } else { 40 })
            .build_cartesian_2d(
                (0.8 * least..1.25 * most)
                    .log_scale()
                    .with_key_points(round(0.8 * least, 1.25 * most)),
                lowest - margin..highest + margin,
            )
            .map_err(|e| text(&e))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&panel.cost).x_labels(20).x_label_formatter(&|cost| cost.to_string());
        mesh.light_line_style(RGBColor(245, 245, 245));
        if is_first {
            mesh.y_desc("test accuracy, %");
        }
        mesh.draw().map_err(|e| text(&e))?;
        for (index, series) in panel.series.iter().enumerate() {
            let colour = colour(index);
            for line in &series.lines {
                let drawn = line.iter().copied().filter(|(_, y)| *y >= lowest);
                let line = LineSeries::new(drawn, colour.mix(0.5).stroke_width(1));
                chart.draw_series(line).map_err(|e| text(&e))?;
            }
            let drawn = series.points.iter().filter(|(_, y)| *y >= lowest);
            let dots = drawn.map(|&point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots).map_err(|e| text(&e))?;
        }
        Ok(())
    }
}

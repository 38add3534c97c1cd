//! Accuracy over what it costs: points by technique, in panels beside each other.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::COLOURS;
use crate::error::{Error, Result};

const SIZE: (u32, u32) = (960, 400);

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
    /// In the order of the legend, the same in all panels; those without points are drawn nowhere.
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
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|reason| {
            Error::argument(format!("plot {}", self.title), "numbers that can be drawn", reason)
        })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), String> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| e.to_string())?;
        let area = area.titled(&self.title, ("sans-serif", 18)).map_err(|e| e.to_string())?;
        let areas = area.split_evenly((1, self.panels.len()));
        for (index, (panel, area)) in self.panels.iter().zip(&areas).enumerate() {
            self.draw_panel(panel, area, index == 0)?;
        }
        area.present().map_err(|e| e.to_string())
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
                (0.8 * least..1.25 * most).log_scale(),
                lowest - margin..highest + margin,
            )
            .map_err(|e| text(&e))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&panel.cost).light_line_style(RGBColor(245, 245, 245));
        if is_first {
            mesh.y_desc("test accuracy, %");
        }
        mesh.draw().map_err(|e| text(&e))?;
        for (index, series) in panel.series.iter().enumerate() {
            let colour = COLOURS.get(index).copied().unwrap_or(RGBColor(90, 90, 90));
            for line in &series.lines {
                let drawn = line.iter().copied().filter(|(_, y)| *y >= lowest);
                let line = LineSeries::new(drawn, colour.mix(0.5).stroke_width(1));
                chart.draw_series(line).map_err(|e| text(&e))?;
            }
            let drawn = series.points.iter().filter(|(_, y)| *y >= lowest);
            let dots = drawn.map(|&point| Circle::new(point, 3, colour.filled()));
            let dots = chart.draw_series(dots).map_err(|e| text(&e))?;
            let is_drawn =
                |panel: &Panel| panel.series.get(index).is_some_and(|own| !own.points.is_empty());
            if is_first && self.panels.iter().any(is_drawn) {
                dots.label(series.name)
                    .legend(move |(x, y)| Circle::new((x + 6, y), 4, colour.filled()));
            }
        }
        if is_first {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE)
                .draw()
                .map_err(|e| text(&e))?;
        }
        Ok(())
    }
}

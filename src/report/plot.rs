//! Plots as SVG.

use plotters::prelude::*;

use super::results::Summary;
use crate::error::{Error, Result};

pub(super) const SIZE: (u32, u32) = (720, 400);
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Accuracy against the fraction of weights that is left, stage by stage, a line per run. Equal runs
/// give equal bytes.
///
/// # Errors
/// What the drawing library refuses.
pub fn stages_plot(title: &str, runs: &[&Summary]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, runs).map_err(|reason| {
        Error::argument(format!("plot {title}"), "numbers that can be drawn", reason)
    })?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, runs: &[&Summary]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let points = |run: &Summary| -> Vec<(f64, f64)> {
        let left = |weights: usize| 100.0 * weights as f64 / run.weights_total.max(1) as f64;
        run.stages.iter().map(|stage| (left(stage.weights_kept), stage.accuracy)).collect()
    };
    let accuracies: Vec<f64> = runs.iter().flat_map(|run| points(run)).map(|(_, y)| y).collect();
    let lowest = accuracies.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = accuracies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = (0.1 * (highest - lowest)).max(0.05);

    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| text(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(100.0..0.0, lowest - margin..highest + margin)
        .map_err(|e| text(&e))?;
    chart
        .configure_mesh()
        .x_desc("weights left, %")
        .y_desc("test accuracy, %")
        .light_line_style(RGBColor(240, 240, 240))
        .draw()
        .map_err(|e| text(&e))?;
    for (index, run) in runs.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line = LineSeries::new(points(run), colour.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(|e| text(&e))?
            .label(format!("seed {}", run.seed))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = points(run).into_iter().map(|point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).map_err(|e| text(&e))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE)
        .draw()
        .map_err(|e| text(&e))?;
    area.present().map_err(|e| text(&e))
}

/// Clusters of bars on a logarithmic scale: how many times faster each of several candidates is.
pub(super) struct Bars<'a> {
    pub title: String,
    /// What they are faster than.
    pub of: &'a str,
    /// The candidates.
    pub series: &'a [&'a str],
    /// By name, a bar for each candidate that was measured.
    pub clusters: Vec<(String, Vec<Option<f64>>)>,
    /// A ratio to compare with, and what it is.
    pub line: Option<(f64, String)>,
}

impl Bars<'_> {
    /// The plot; equal bars give equal bytes.
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
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let Self { title, of, series, clusters, line } = self;
        let highest = clusters.iter().flat_map(|(_, bars)| bars.iter().flatten());
        let highest = highest.fold(4.0_f64, |most, &bar| most.max(bar)) * 1.3;
        let lowest = 0.1;

        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| text(&e))?;
        let count = clusters.len();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 15))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..count as f64, (lowest..highest).log_scale())
            .map_err(|e| text(&e))?;
        let names: Vec<String> = clusters.iter().map(|(name, _)| name.clone()).collect();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * count + 1)
            .x_label_formatter(&|x| {
                let middle = (x.fract() - 0.5).abs() < 1e-6;
                names.get(*x as usize).filter(|_| middle).cloned().unwrap_or_default()
            })
            .y_desc(format!("times faster than {of}"))
            .y_label_formatter(&|ratio| format!("{ratio:.1}"))
            .light_line_style(RGBColor(245, 245, 245))
            .draw()
            .map_err(|e| text(&e))?;
        let width = 0.8 / series.len() as f64;
        for (index, name) in series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let bars = clusters.iter().enumerate().filter_map(|(place, (_, bars))| {
                let left = place as f64 + 0.1 + index as f64 * width;
                let corners = [(left, 1.0), (left + 0.9 * width, bars[index]?)];
                Some(Rectangle::new(corners, colour.filled()))
            });
            chart.draw_series(bars).map_err(|e| text(&e))?.label(*name).legend(move |(x, y)| {
                Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
            });
        }
        let across = |ratio: f64| [(0.0, ratio), (count as f64, ratio)];
        let even = LineSeries::new(across(1.0), BLACK.stroke_width(1));
        chart.draw_series(even).map_err(|e| text(&e))?;
        if let Some((ratio, name)) = line {
            let grey = RGBColor(110, 110, 110);
            let dashes = DashedLineSeries::new(across(*ratio), 6, 4, grey.stroke_width(2));
            chart.draw_series(dashes).map_err(|e| text(&e))?.label(name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 12, y)], grey.stroke_width(2))
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .draw()
            .map_err(|e| text(&e))?;
        area.present().map_err(|e| text(&e))
    }
}

//! Bars of speedups.

use std::ops::Range;

use plotters::prelude::*;

use super::{COLOURS, SIZE, svg};
use crate::error::Result;

/// Clusters of bars on a logarithmic scale: how many times faster each of several candidates is.
pub struct Bars<'a> {
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
        svg(&self.title, |svg| self.draw(svg))
    }

    /// From the lowest ratio that is drawn to the highest.
    fn range(&self) -> Range<f64> {
        let all = || self.clusters.iter().flat_map(|(_, bars)| bars.iter().flatten());
        let lowest = all().fold(0.5_f64, |least, &bar| least.min(0.8 * bar));
        let highest = all().fold(4.0_f64, |most, &bar| most.max(bar));
        // The upper third is the legend's, which would cover bars.
        lowest..highest * (highest / lowest).powf(0.6)
    }

    fn draw(&self, svg: &mut String) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let Self { title, of, series, clusters, line } = self;

        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| text(&e))?;
        let count = clusters.len();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 15))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..count as f64, self.range().log_scale())
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

//! Accuracy against the share of weights that is left.

use plotters::prelude::*;

use super::{COLOURS, SIZE, svg};
use crate::error::Result;
use crate::report::records::Summary;

/// Accuracy against the fraction of weights that is left, stage by stage, a line per run. Equal runs
/// give equal bytes.
///
/// # Errors
/// What the drawing library refuses.
pub fn stages_plot(title: &str, runs: &[&Summary]) -> Result<String> {
    svg(title, |svg| draw(svg, title, runs))
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

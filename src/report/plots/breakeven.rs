//! Speedup over the dense product against density.

use plotters::prelude::*;

use super::{COLOURS, SIZE, svg};
use crate::error::Result;
use crate::report::slug;
use crate::report::sweep::{BreakevenPoint, StoredSweep, breakeven_of, cells};
use crate::timing::geometric_mean;

/// Points (density, speedup) of one N and width.
type Line = Vec<(f64, f64)>;

/// The plot of a sweep, with a name for it: geometric means over the shapes, a line per N, the break-even marked.
/// Equal points give equal bytes.
///
/// # Errors
/// What the drawing library refuses.
pub fn breakeven_plot(stored: &StoredSweep) -> Result<(String, String)> {
    // The same sweep has the same hash on all hardware.
    let name = slug(&format!("breakeven {} {}", stored.hardware(), stored.hash));
    let title = stored.title();
    Ok((name, svg(&title, |svg| draw(svg, &title, &stored.points))?))
}

/// The line of each N and width: geometric means over the shapes.
fn lines(points: &[BreakevenPoint]) -> Vec<((usize, usize), Line)> {
    let mut lines: Vec<((usize, usize), Line)> = Vec::new();
    for (n, width, density) in cells(points) {
        let here =
            points.iter().filter(|p| (p.n, p.group_width, p.asked_density) == (n, width, density));
        let speedups: Vec<f64> = here.map(BreakevenPoint::over_dense).collect();
        let point = (density, geometric_mean(&speedups));
        match lines.last_mut().filter(|(line, _)| *line == (n, width)) {
            Some((_, line)) => line.push(point),
            None => lines.push(((n, width), vec![point])),
        }
    }
    lines
}

fn draw(svg: &mut String, title: &str, points: &[BreakevenPoint]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let lines = lines(points);
    let all = || lines.iter().flat_map(|(_, line)| line);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (left, right) = range(&mut all().map(|point| point.0));
    let (low, high) = range(&mut all().map(|point| point.1));

    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| text(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (left * 0.95..right * 1.05).log_scale(),
            (low.min(1.0) * 0.9..high.max(1.0) * 1.1).log_scale(),
        )
        .map_err(|e| text(&e))?;
    chart
        .configure_mesh()
        .x_desc("density")
        .y_desc("times faster than dense")
        .x_label_formatter(&|density| format!("{density:.2}"))
        .y_label_formatter(&|ratio| format!("{ratio:.1}"))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()
        .map_err(|e| text(&e))?;
    let even = [(left * 0.95, 1.0), (right * 1.05, 1.0)];
    chart.draw_series(LineSeries::new(even, BLACK.stroke_width(1))).map_err(|e| text(&e))?;
    for (index, ((n, width), line)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))
            .map_err(|e| text(&e))?
            .label(format!("N = {n}, W = {width}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = line.iter().map(|&point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).map_err(|e| text(&e))?;
        if let Some(density) = breakeven_of(line) {
            let mark = Cross::new((density, 1.0), 6, colour.stroke_width(2));
            chart.draw_series([mark]).map_err(|e| text(&e))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .draw()
        .map_err(|e| text(&e))?;
    area.present().map_err(|e| text(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::environment::Environment;
    use crate::report::sweep::{Sweep, tests::point};

    #[test]
    fn the_same_sweep_of_two_processors_has_two_plots() {
        let on = |cpu: &str| StoredSweep {
            hash: "8429637fc857".into(),
            sweep: Sweep {
                shapes: vec![[3, 4]],
                densities: vec![0.2],
                columns: vec![1],
                pattern: Default::default(),
                widths: vec![8],
                threads: 1,
                isa: None,
                mkl_instructions: None,
                device: None,
            },
            points: vec![point(1, 0.2, 40.0)],
            environment: Environment { cpu: cpu.into(), ..Environment::read("cpu") },
        };
        let name = |cpu| breakeven_plot(&on(cpu)).unwrap().0;
        assert_eq!(name("AMD EPYC (model 1)"), "breakeven-amd-epyc-model-1-8429637fc857");
        assert_ne!(name("AMD EPYC (model 1)"), name("AMD EPYC (model 17)"));
    }

    #[test]
    fn equal_points_give_equal_bytes() {
        let mut svgs = [String::new(), String::new()];
        let points = [point(1, 0.4, 50.0), point(16, 0.2, 90.0), point(1, 0.2, 40.0)];
        svgs.iter_mut().for_each(|svg| draw(svg, "title", &points).unwrap());
        assert_eq!(svgs[0], svgs[1]);
        assert!(svgs[0].contains("N = 16, W = 8"));
    }
}

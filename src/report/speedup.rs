//! Measured times of whole networks: rows, their table and their bars.

use std::collections::BTreeMap;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::authors::Authors;
use super::environment::Environment;
use super::plot::{COLOURS, SIZE};
use super::text::Table;
use crate::device::class::HardwareClass;
use crate::error::{Error, Result};
use crate::measure::geometric_mean;
use crate::network::zoo;

/// The library on the network as it was.
pub const LIBRARY: &str = "libtorch";
/// The library on the network without its blocked nodes.
pub const LIBRARY_COMPACTED: &str = "libtorch-compacted";
/// Our own dense kernels on the network as it was.
pub const DENSE: &str = "dense";
/// The fastest of all that applies.
pub const SCALPEL: &str = "scalpel";

/// The contestants, as they stand in tables and bars.
pub const CONTESTANTS: [&str; 8] =
    [LIBRARY, LIBRARY_COMPACTED, DENSE, "traditional", "simd", "node", "both", SCALPEL];

/// One contestant's time for one batch of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedupRow {
    /// A network of the zoo.
    pub network: String,
    /// `cpu`, `wgpu`, `cuda` or `cuda:1`.
    pub device: String,
    /// Threads of the CPU.
    pub threads: usize,
    /// Images in the batch.
    pub batch: usize,
    /// One of [`CONTESTANTS`].
    pub policy: String,
    /// Median time of a batch.
    pub microseconds: f64,
    /// The median's interval of 95% confidence.
    pub interval: [f64; 2],
    /// The library's dense time over this one; absent where no library runs on the device.
    pub speedup_over_library: Option<f64>,
    /// The time of the fastest dense contestant, ours or the library's, over this one.
    pub speedup_over_dense: f64,
    /// Bytes of the weights as they are stored, indices and biases included.
    pub bytes: usize,
    /// A published model, or how the weights were drawn.
    pub weights_from: String,
    /// Accuracy in percent of the original network and of this very model, where it was trained.
    pub accuracy: Option<[f64; 2]>,
}

/// What was measured of a network at one batch size, all in one interleaved run.
#[derive(Clone, Debug)]
pub struct StoredSpeedup {
    /// A row per contestant.
    pub rows: Vec<SpeedupRow>,
    /// Where and when.
    pub environment: Environment,
}

impl StoredSpeedup {
    /// The row of a contestant.
    pub fn row(&self, policy: &str) -> Option<&SpeedupRow> {
        self.rows.iter().find(|row| row.policy == policy)
    }

    /// The class of the hardware that ran it.
    pub fn class(&self) -> Option<HardwareClass> {
        let row = self.rows.first()?;
        Some(HardwareClass::of(&row.device, row.threads))
    }

    fn first(&self) -> Option<&SpeedupRow> {
        self.rows.first()
    }

    /// The fastest dense contestant.
    fn fastest_dense(&self) -> Option<&SpeedupRow> {
        let dense = [LIBRARY, DENSE].into_iter().filter_map(|policy| self.row(policy));
        dense.min_by(|a, b| a.microseconds.total_cmp(&b.microseconds))
    }
}

/// Measurements on one device with equally many threads and images: a table and a plot of their own.
#[derive(Clone, Debug)]
pub struct SpeedupGroup<'a> {
    /// In the networks' order.
    pub members: Vec<&'a StoredSpeedup>,
}

/// The measurements by hardware, device, threads and batch.
pub fn speedup_groups(stored: &[StoredSpeedup]) -> Vec<SpeedupGroup<'_>> {
    let mut groups: BTreeMap<_, Vec<&StoredSpeedup>> = BTreeMap::new();
    for one in stored {
        let Some(row) = one.first() else { continue };
        let hardware = one.environment.hardware();
        let key = (hardware, row.device.clone(), row.threads, row.batch);
        groups.entry(key).or_default().push(one);
    }
    let place = |one: &&StoredSpeedup| {
        let network = one.first().map(|row| row.network.clone()).unwrap_or_default();
        zoo::NAMES.iter().position(|name| *name == network)
    };
    let sorted = groups.into_values().map(|mut members| {
        members.sort_by_key(place);
        SpeedupGroup { members }
    });
    sorted.collect()
}

impl SpeedupGroup<'_> {
    fn first(&self) -> Option<&SpeedupRow> {
        self.members.first().and_then(|one| one.first())
    }

    /// What the group is, in a few words.
    pub fn title(&self) -> String {
        let Some(row) = self.first() else { return String::new() };
        let threads = match row.threads {
            1 => "one thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        let device = if row.device == "cpu" { threads } else { row.device.clone() };
        format!("{device}, batch {}", row.batch)
    }

    /// The name of its plot.
    pub fn plot_name(&self) -> String {
        let text = format!("speedup {}", self.title());
        let slug = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        text.replace(", ", " ").chars().map(slug).collect()
    }

    /// The geometric mean over the networks of a ratio of a contestant's rows; none where one of them lacks
    /// it.
    pub fn mean(&self, policy: &str, ratio: impl Fn(&SpeedupRow) -> Option<f64>) -> Option<f64> {
        let ratios: Option<Vec<f64>> =
            self.members.iter().map(|one| one.row(policy).and_then(&ratio)).collect();
        ratios.filter(|all| !all.is_empty()).map(|all| geometric_mean(&all))
    }

    /// A row per network: what dense networks take, and how many times faster the policies are.
    pub fn table(&self) -> Table {
        let mut table = Table::new([
            "network",
            "libtorch, us",
            "fastest dense, us",
            "traditional",
            "SIMD-aware",
            "node",
            "both",
            "scalpel",
            "scalpel over fastest dense",
            "scalpel, us",
            "bytes, of dense",
            "accuracy",
            "weights of scalpel",
            "date",
        ]);
        let times = |ratio: Option<f64>| match ratio {
            Some(ratio) => format!("{ratio:.2}x"),
            None => "not measured".into(),
        };
        // Where no library runs on the device, our own dense network takes its place.
        let over = |row: &SpeedupRow| row.speedup_over_library.or(Some(row.speedup_over_dense));
        for one in &self.members {
            let Some(scalpel) = one.row(SCALPEL) else { continue };
            let time = |row: Option<&SpeedupRow>| {
                row.map_or("not measured".into(), |row| format!("{:.1}", row.microseconds))
            };
            let dense = one.fastest_dense();
            let fastest = dense.map_or(String::new(), |row| format!(" ({})", row.policy));
            let share = one
                .row(DENSE)
                .map(|dense| 100.0 * scalpel.bytes as f64 / dense.bytes.max(1) as f64);
            let mut cells = vec![
                scalpel.network.clone(),
                time(one.row(LIBRARY)),
                format!("{}{fastest}", time(dense)),
            ];
            for policy in ["traditional", "simd", "node", "both", SCALPEL] {
                cells.push(times(one.row(policy).and_then(over)));
            }
            cells.push(times(Some(scalpel.speedup_over_dense)));
            cells.push(format!("{:.1}", scalpel.microseconds));
            cells.push(share.map_or(String::new(), |share| format!("{share:.1}%")));
            cells.push(match scalpel.accuracy {
                Some([before, after]) => format!("{before:.2} -> {after:.2}"),
                None => "not trained".into(),
            });
            cells.push(scalpel.weights_from.clone());
            cells.push(one.environment.date.clone());
            table.row(cells);
        }
        let mut mean = vec!["geometric mean".to_owned(), String::new(), String::new()];
        for policy in ["traditional", "simd", "node", "both", SCALPEL] {
            mean.push(times(self.mean(policy, over)));
        }
        mean.push(times(self.mean(SCALPEL, |row| Some(row.speedup_over_dense))));
        table.row(mean);
        table
    }

    /// Bars of the speedup over the library's dense network, by network and policy, with their geometric
    /// means, and the paper's mean as a line. Equal rows give equal bytes.
    ///
    /// # Errors
    /// What the drawing library refuses.
    pub fn plot(&self) -> Result<String> {
        let title = self.title();
        let mut svg = String::new();
        self.draw(&mut svg, &title).map_err(|reason| {
            Error::argument(format!("plot {title}"), "numbers that can be drawn", reason)
        })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, title: &str) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let over = |row: &SpeedupRow| row.speedup_over_library.or(Some(row.speedup_over_dense));
        let policies = ["traditional", "simd", "node", "both", SCALPEL];
        let mut clusters: Vec<(String, Vec<Option<f64>>)> = Vec::new();
        for one in &self.members {
            let Some(first) = one.first() else { continue };
            let bars = policies.iter().map(|policy| one.row(policy).and_then(over)).collect();
            clusters.push((first.network.clone(), bars));
        }
        let means = policies.iter().map(|policy| self.mean(policy, over)).collect();
        clusters.push(("geometric mean".into(), means));
        let highest = clusters.iter().flat_map(|(_, bars)| bars.iter().flatten());
        let highest = highest.fold(4.0_f64, |most, &bar| most.max(bar)) * 1.3;
        let lowest = 0.1;

        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| text(&e))?;
        let count = clusters.len();
        let mut chart = ChartBuilder::on(&area)
            .caption(
                format!("Times faster than libtorch's dense network: {title}"),
                ("sans-serif", 15),
            )
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
            .y_desc("times faster")
            .y_label_formatter(&|ratio| format!("{ratio:.1}"))
            .light_line_style(RGBColor(245, 245, 245))
            .draw()
            .map_err(|e| text(&e))?;
        let width = 0.8 / policies.len() as f64;
        for (index, policy) in policies.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let bars = clusters.iter().enumerate().filter_map(|(place, (_, bars))| {
                let left = place as f64 + 0.1 + index as f64 * width;
                let corners = [(left, 1.0), (left + 0.9 * width, bars[index]?)];
                Some(Rectangle::new(corners, colour.filled()))
            });
            chart.draw_series(bars).map_err(|e| text(&e))?.label(*policy).legend(move |(x, y)| {
                Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
            });
        }
        let even = [(0.0, 1.0), (count as f64, 1.0)];
        chart.draw_series(LineSeries::new(even, BLACK.stroke_width(1))).map_err(|e| text(&e))?;
        let class = self.members.first().and_then(|one| one.class());
        let authors = Authors::published().map_err(|e| text(&e))?;
        if let Some(mean) = class.and_then(|class| authors.mean_speedup(class)) {
            let line = [(0.0, mean), (count as f64, mean)];
            let grey = RGBColor(110, 110, 110);
            chart
                .draw_series(DashedLineSeries::new(line, 6, 4, grey.stroke_width(2)))
                .map_err(|e| text(&e))?
                .label(format!("the paper's mean, {mean:.2}"))
                .legend(move |(x, y)| {
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

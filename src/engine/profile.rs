//! What an executable consists of, and where its time goes.

use std::fmt::Write as _;

use serde::Serialize;

/// One step of an executable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerProfile {
    /// The layer that it is for.
    pub layer: String,
    /// Weights as a matrix, `MxK` (of every group of channels), or the shape that it makes.
    pub shape: String,
    /// The share of the weights that is not 0; none without weights.
    pub density: Option<f64>,
    /// The kernels that it runs on.
    pub kernel: String,
    /// Bytes of its weights as they are stored, with indices.
    pub bytes: usize,
    /// Measured, for the whole batch.
    pub microseconds: f64,
    /// Of the time of all steps.
    pub share: f64,
}

/// What is known of a step before it is measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Description {
    pub layer: String,
    pub shape: String,
    pub density: Option<f64>,
    pub kernel: String,
    pub bytes: usize,
}

/// Steps in a line: what tells apart two executables of one network.
pub(super) fn summary<'a>(steps: impl Iterator<Item = &'a Description>) -> String {
    let step = |Description { layer, shape, kernel, bytes, .. }: &Description| {
        format!("{layer} {shape} {kernel} {bytes} bytes")
    };
    steps.map(step).collect::<Vec<_>>().join(", ")
}

/// Descriptions with measured seconds.
pub(super) fn profiled<'a>(
    steps: impl Iterator<Item = (&'a Description, f64)>,
) -> Vec<LayerProfile> {
    let steps: Vec<_> = steps.collect();
    let all: f64 = steps.iter().map(|(_, seconds)| seconds).sum();
    let explain = |(step, seconds): (&Description, f64)| LayerProfile {
        layer: step.layer.clone(),
        shape: step.shape.clone(),
        density: step.density,
        kernel: step.kernel.clone(),
        bytes: step.bytes,
        microseconds: 1e6 * seconds,
        share: if all > 0.0 { seconds / all } else { 0.0 },
    };
    steps.into_iter().map(explain).collect()
}

/// The steps as lines of text, columns aligned.
pub fn profile_table(steps: &[LayerProfile]) -> String {
    let mut text = format!(
        "{:<12} {:<18} {:>7} {:<40} {:>11} {:>11} {:>6}\n",
        "layer", "shape", "density", "kernel", "bytes", "us", "share"
    );
    for step in steps {
        let density = step.density.map_or(String::new(), |density| format!("{density:.3}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<12} {:<18} {density:>7} {:<40} {:>11} {:>11.1} {:>5.1}%",
            step.layer,
            step.shape,
            step.kernel,
            step.bytes,
            step.microseconds,
            100.0 * step.share
        );
    }
    text
}

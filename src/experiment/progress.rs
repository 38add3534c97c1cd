//! A progress bar for a run, with the time that is left.

use indicatif::{ProgressBar, ProgressStyle};

use crate::train::recipe::Stage;
use crate::train::{EpochMetrics, Observer};

/// Shows on stderr which stage and epoch a run is at, the latest accuracy, and the time left for
/// all stages.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    label: String,
    stage: String,
    epochs_of_stage: usize,
    epochs_to_come: usize,
    epochs_done: usize,
}

/// Ticks of the bar per epoch, so that long epochs move it too.
const TICKS: u64 = 100;

impl Progress {
    /// A bar with this label in front.
    pub fn new(label: impl Into<String>) -> Self {
        let bar = ProgressBar::no_length();
        let template = "{prefix} {wide_bar} {elapsed} gone, {eta} left, {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            label: label.into(),
            stage: String::new(),
            epochs_of_stage: 0,
            epochs_to_come: 0,
            epochs_done: 0,
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn stage(&mut self, stage: &Stage, epochs_done: usize, epochs_to_come: usize) {
        self.stage.clone_from(&stage.name);
        self.epochs_of_stage = stage.epochs;
        self.epochs_done = epochs_done;
        self.epochs_to_come = epochs_to_come;
        self.bar.set_length(self.bar.position() + TICKS * epochs_to_come as u64);
        self.bar.set_prefix(format!(
            "{} {} {}/{}",
            self.label,
            stage.name,
            epochs_done + 1,
            stage.epochs
        ));
        if self.bar.is_hidden() {
            eprintln!(
                "{}: stage {}, {} epochs",
                self.label,
                stage.name,
                stage.epochs - epochs_done
            );
        }
    }

    fn batch(&mut self, done: usize, batches: usize) {
        // A tick for every hundredth of the epoch, whatever the number of batches.
        let tick = |batch: usize| TICKS * batch as u64 / batches.max(1) as u64;
        self.bar.inc(tick(done) - tick(done - 1));
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.epochs_done += 1;
        let next = (self.epochs_done + 1).min(self.epochs_of_stage);
        self.bar
            .set_prefix(format!("{} {} {next}/{}", self.label, self.stage, self.epochs_of_stage));
        let nodes: Vec<String> = metrics.nodes_kept.iter().map(usize::to_string).collect();
        let nodes =
            if nodes.is_empty() { String::new() } else { format!(", nodes {}", nodes.join(" ")) };
        self.bar.set_message(format!("{:.2}%{nodes}", metrics.accuracy()));
    }
}

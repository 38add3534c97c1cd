//! A run's `metrics.csv`: a row per epoch.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::train::EpochMetrics;

/// Its first columns.
const COLUMNS: [&str; 5] = ["stage", "epoch", "learning_rate", "train_loss", "test_accuracy"];

/// An epoch, as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EpochRow {
    pub(super) stage: String,
    /// Mean over the epoch's images.
    pub(super) train_loss: f64,
    /// In percent.
    pub(super) accuracy: f64,
}

/// A row per epoch; a column of living nodes per masked layer, empty while nothing is masked.
pub(super) fn metrics_csv<'a>(
    rows: impl Iterator<Item = &'a EpochMetrics>,
    node_layers: &[String],
) -> String {
    let rows: Vec<&EpochMetrics> = rows.collect();
    let top5 = rows.iter().any(|row| row.test_correct_top5.is_some());
    let mut text = COLUMNS.join(",");
    if top5 {
        text.push_str(",test_accuracy_top5");
    }
    for layer in node_layers {
        text.push_str(",nodes_");
        text.push_str(layer);
    }
    text.push('\n');
    for row in rows {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{},{},{},{},{}",
            row.stage,
            row.epoch,
            row.learning_rate,
            row.train_loss,
            row.accuracy()
        );
        if top5 {
            let _ = match row.test_correct_top5 {
                Some(correct) => {
                    write!(text, ",{}", 100.0 * correct as f64 / row.test_total.max(1) as f64)
                }
                None => write!(text, ","),
            };
        }
        for index in 0..node_layers.len() {
            let _ = match row.nodes_kept.get(index) {
                Some(nodes) => write!(text, ",{nodes}"),
                None => write!(text, ","),
            };
        }
        text.push('\n');
    }
    text
}

/// Reads the epochs back.
///
/// # Errors
/// A file that cannot be read, or whose rows are not those of a run.
pub(super) fn read_metrics(path: &Path) -> Result<Vec<EpochRow>> {
    let text = files::read_text(path)?;
    let malformed = |line: usize, found: &str| {
        let expected = format!("the columns {}", COLUMNS.join(", "));
        Error::malformed(format!("{}, line {line}", path.display()), expected, found.to_owned())
    };
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if !header.split(',').take(COLUMNS.len()).eq(COLUMNS) {
        return Err(malformed(1, header));
    }
    let row = |(index, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |column: usize| {
            let cell: &&str = cells.get(column).ok_or_else(|| malformed(index + 2, line))?;
            cell.parse::<f64>().map_err(|_| malformed(index + 2, line))
        };
        Ok(EpochRow { stage: cells[0].to_owned(), train_loss: number(3)?, accuracy: number(4)? })
    };
    lines.enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let epoch = EpochMetrics {
            stage: "original".into(),
            epoch: 1,
            learning_rate: 0.1,
            train_loss: 0.25,
            test_correct: 3,
            test_total: 4,
            test_correct_top5: Some(4),
            nodes_kept: vec![5],
        };
        std::fs::write(&path, metrics_csv([&epoch].into_iter(), &["conv1".into()])).unwrap();
        let row = EpochRow { stage: "original".into(), train_loss: 0.25, accuracy: 75.0 };
        assert_eq!(read_metrics(&path).unwrap(), [row]);

        let rows = "stage,epoch,learning_rate,train_loss,test_accuracy\noriginal,1,0.1\n";
        for (text, place) in [(rows, "line 2"), ("stage,epoch\n", "line 1"), ("", "line 1")] {
            std::fs::write(&path, text).unwrap();
            let error = read_metrics(&path).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains("train_loss"), "{error}");
        }
    }
}

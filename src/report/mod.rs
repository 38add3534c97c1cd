//! From results to text and pictures: the results tree, the machine's fingerprint, tables and plots. Nothing here
//! measures, trains or computes a network.

mod authors;
mod document;
mod environment;
mod html;
mod json;
mod metrics;
mod pages;
mod plots;
mod records;
mod run_folder;
mod run_table;
mod runs;
mod speedup;
mod sweep;
mod table;
mod tree;

pub use authors::{Authors, MeanSpeedup, NodeRow, SimdRow};
pub use document::{Block, Document, Section};
pub use environment::{Ceilings, Environment};
pub use pages::{Tables, speedup_table};
pub use plots::{breakeven_plot, stages_plot};
pub use records::{Latency, LatencyRow, StageDuration, StageSummary, Summary};
pub use run_folder::{RunFolder, StoredRun};
pub use run_table::run_table;
pub use speedup::{
    CANDIDATES, DENSE, LIBRARY, LIBRARY_COMPACTED, OF_THE_DENSE_NETWORK, PYTORCH,
    PYTORCH_COMPACTED, PYTORCH_COMPACTED_TF32, PYTORCH_CUSPARSE, PYTORCH_TF32, SCALPEL,
    SpeedupGroup, SpeedupRow, StoredSpeedup, speedup_groups,
};
pub use sweep::{BreakevenPoint, StoredSweep, Sweep, breakeven_of, breakeven_table};
pub use table::{Cell, Table};
pub use tree::ResultsTree;

/// A name as a folder or a file is called.
fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    name.chars().map(plain).collect::<String>().split_whitespace().collect::<Vec<_>>().join("-")
}

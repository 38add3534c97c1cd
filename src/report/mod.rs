//! What a run leaves behind: the results tree, the machine it ran on, tables and plots.

mod authors;
mod breakeven;
mod choices;
mod environment;
#[cfg(feature = "torch")]
mod latency;
mod metrics;
mod plot;
mod precision;
#[cfg(feature = "torch")]
mod progress;
mod results;
mod rows;
mod run_table;
mod runs;
mod speedup;
mod summarise;
mod tables;
mod text;

pub use authors::{Authors, MeanSpeedup, NodeRow, SimdRow};
pub use breakeven::{BreakevenPoint, StoredSweep, Sweep, breakeven_of, breakeven_table};
pub use environment::{Ceilings, Environment};
#[cfg(feature = "torch")]
pub use latency::measure_latency;
pub use plot::stages_plot;
#[cfg(feature = "torch")]
pub use progress::Progress;
pub use results::{
    Latency, LatencyRow, ResultsTree, RunFolder, StageDuration, StageSummary, StoredRun, Summary,
};
pub use run_table::run_table;
pub use speedup::{
    CONTESTANTS, DENSE, LIBRARY, LIBRARY_COMPACTED, OF_THE_DENSE_NETWORK, PYTORCH,
    PYTORCH_COMPACTED, PYTORCH_COMPACTED_TF32, PYTORCH_CUSPARSE, PYTORCH_TF32, SCALPEL,
    SpeedupGroup, SpeedupRow, StoredSpeedup, speedup_groups,
};
pub use summarise::{storage_format, summarise, write_run};
pub use tables::Tables;
pub use text::Table;

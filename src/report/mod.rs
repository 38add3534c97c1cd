//! What a run leaves behind: the results tree, the machine it ran on, tables and plots.

mod authors;
mod breakeven;
mod environment;
mod metrics;
mod plot;
mod precision;
mod results;
mod rows;
mod run_folder;
mod run_table;
mod runs;
mod speedup;
mod tables;
mod text;
mod trials;

pub use authors::{Authors, MeanSpeedup, NodeRow, SimdRow};
pub use breakeven::{BreakevenPoint, StoredSweep, Sweep, breakeven_of, breakeven_table};
pub use environment::{Ceilings, Environment};
pub use plot::stages_plot;
pub use results::{Latency, LatencyRow, ResultsTree, StageDuration, StageSummary, Summary};
pub use run_folder::{RunFolder, StoredRun};
pub use run_table::run_table;
pub use speedup::{
    CANDIDATES, DENSE, LIBRARY, LIBRARY_COMPACTED, OF_THE_DENSE_NETWORK, PYTORCH,
    PYTORCH_COMPACTED, PYTORCH_COMPACTED_TF32, PYTORCH_CUSPARSE, PYTORCH_TF32, SCALPEL,
    SpeedupGroup, SpeedupRow, StoredSpeedup, speedup_groups,
};
pub use tables::Tables;
pub use text::Table;

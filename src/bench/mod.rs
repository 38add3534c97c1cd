//! What measures: break-even sweeps of products ([`breakeven`]), whole networks by every policy beside their
//! baselines ([`speedup`]), and one pruned network after its run ([`measure_latency`]). All of them compare
//! results before they time anything, and time in turns ([`crate::timing`]).

pub mod breakeven;
#[cfg(feature = "torch")]
mod latency;
#[cfg(feature = "torch")]
pub mod speedup;

#[cfg(feature = "torch")]
pub use latency::measure_latency;

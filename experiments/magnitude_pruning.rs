//! Traditional pruning of a network, by the magnitude of single weights: trains, prunes in stages, times, and prints the row.

use scalpel::experiment;
use scalpel::train::recipe::Technique;

fn main() -> anyhow::Result<()> {
    Ok(experiment::main(Technique::MagnitudePruning)?)
}

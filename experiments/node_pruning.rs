//! Node pruning of a network: trains, prunes in stages, times, and prints the row.

use scalpel::experiment;
use scalpel::train::recipe::Technique;

fn main() -> anyhow::Result<()> {
    Ok(experiment::main(Technique::NodePruning)?)
}

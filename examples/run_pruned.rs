//! Runs a published model: LeNet-5, pruned to 2.6% of its weights.

use std::path::Path;

use scalpel::engine::{AutotuneCache, Device, Request, compile};
use scalpel::models;

fn main() -> anyhow::Result<()> {
    let (card, model) = models::open(Path::new("zoo"), "lenet-5-combined-pruning-half-rate-short")?;
    let network = model.network().expect("a pruned model describes its network");
    let weights = model.to_weights()?;

    // Every layer by the kernel that is the fastest on this processor.
    let mut autotune = AutotuneCache::in_memory();
    let mut executable = compile(&Request::new(network, &weights), Device::Cpu, &mut autotune)?;

    let (image, mut scores) = ([0.5; 28 * 28], [0.0; 10]);
    executable.run(&image, &mut scores)?;
    println!("{:.2}% on MNIST in {} bytes: {scores:.1?}", card.accuracy, card.bytes);
    Ok(())
}

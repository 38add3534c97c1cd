//! The accuracy of given weights: ours or the authors', masked, compacted or sparse.

use std::path::PathBuf;

use clap::Parser;
use scalpel::baselines::torch::TorchNetwork;
use scalpel::data::{self, Source};
use scalpel::error::Error;
use scalpel::network::{Network, NodeMasks, zoo};
use scalpel::train::recipe::{Recipe, Technique};
use scalpel::train::{ImageTensors, device, import};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Measures the test accuracy of a network's weights")]
struct Cli {
    /// A network of the zoo, such as lenet-5
    #[arg(long)]
    network: String,
    /// safetensors or a state dict of PyTorch, under the authors' parameter names, with or without masks
    #[arg(long)]
    weights: PathBuf,
    /// Test on digits drawn by this program
    #[arg(long)]
    synthetic: bool,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let original = zoo::by_name(&cli.network)?;
    let (weights, described) = import::read(&cli.weights)?;
    let network = described.unwrap_or_else(|| original.clone());
    if network.name != original.name {
        let file = cli.weights.display();
        return Err(Error::malformed(file.to_string(), original.name, network.name).into());
    }
    let masks = weights.node_masks(&network)?;
    let device = device::by_name(&cli.device)?;
    let on_device = TorchNetwork::new(&network, &weights, &masks, device)?;

    let source = if cli.synthetic { Source::Synthetic } else { Source::Real };
    let dataset = data::load(data::of_network(&original.name)?, source)?;
    let pixels = Recipe::built_in(&original.name, Technique::NodePruning)?.pixels;
    let test = ImageTensors::new(&dataset.test, &pixels, None, device)?;
    let (network, parameters, gates) = on_device.parts();
    let score = test.score(network, parameters, gates)?;
    let nodes = nodes_kept(&original, network, &masks)?;
    if cli.json {
        let report = json!({
            "network": original.name,
            "dataset": dataset.name,
            "accuracy": score.percent(),
            "correct": score.correct,
            "total": score.total,
            "nodes_kept": nodes,
        });
        println!("{report}");
    } else {
        let (percent, correct, total) = (score.percent(), score.correct, score.total);
        println!("{} on {}: {percent:.2}% ({correct} of {total})", original.name, dataset.name);
        println!("nodes kept: {nodes:?}");
    }
    Ok(())
}

/// Living nodes of each masked layer: by its mask, or by its size in a compacted network.
fn nodes_kept(
    original: &Network,
    network: &Network,
    masks: &NodeMasks,
) -> anyhow::Result<Vec<usize>> {
    let shapes = network.shapes()?;
    let count = |site: scalpel::network::MaskSite| match masks.get(&site.name) {
        Some(alive) => scalpel::prune::node::count(alive),
        None => {
            let producer = &original.layers[site.producer].name;
            let place = network.layers.iter().position(|layer| layer.name == *producer);
            place.map_or(0, |place| shapes[place][0])
        }
    };
    Ok(original.mask_sites()?.into_iter().map(count).collect())
}

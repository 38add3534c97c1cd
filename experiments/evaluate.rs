//! The accuracy of given weights: ours or the authors', masked, compacted or sparse.

use std::path::Path;
use std::process::ExitCode;

use scalpel::cli::{self, Evaluate};
use scalpel::data::{self, Source};
use scalpel::error::Error;
use scalpel::import;
use scalpel::models::{self, Card};
use scalpel::network::{Network, Weights, zoo};
use scalpel::prune::compact::living_nodes;
use scalpel::torch::MemoryFormat;
use scalpel::torch::TorchNetwork;
use scalpel::train::recipe::{Recipe, Technique};
use scalpel::train::subsets::{self, Subset};
use scalpel::{torch, train};
use serde_json::json;

/// Percent by which a model may score apart from its card: another machine rounds otherwise, and an image
/// that lies between two classes then falls on the other side.
const TOLERANCE: f64 = 0.03;

/// What is to be measured.
struct Given {
    original: Network,
    weights: Weights,
    described: Option<Network>,
    card: Option<Card>,
}

impl Given {
    fn published(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let (card, model) = models::open(folder, name)?;
        let original = zoo::by_name(&card.network)?;
        let described = model.network().cloned();
        Ok(Self { original, weights: model.to_weights()?, described, card: Some(card) })
    }

    fn file(network: &str, path: &Path, key: Option<&str>) -> anyhow::Result<Self> {
        let original = zoo::by_name(network)?;
        let imported = import::read(path, key)?;
        let described = imported.network.clone();
        let weights = import::matching(&imported, described.as_ref().unwrap_or(&original))?;
        if let Some(network) = described.as_ref().filter(|network| network.name != original.name) {
            let file = path.display().to_string();
            return Err(Error::malformed(file, original.name, network.name.clone()).into());
        }
        Ok(Self { original, weights, described, card: None })
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Evaluate) -> anyhow::Result<ExitCode> {
    let given = match (&cli.zoo, &cli.network, &cli.weights) {
        (Some(name), ..) => Given::published(&cli.zoo_dir.zoo_dir, name)?,
        (None, Some(network), Some(weights)) => Given::file(network, weights, cli.key.as_deref())?,
        _ => anyhow::bail!("expected --zoo, or a network and --weights"), // clap has refused it
    };
    let Given { original, weights, described, card } = given;
    let network = described.unwrap_or_else(|| original.clone());
    let masks = weights.node_masks(&network)?;
    tch::set_num_threads(cli.run.thread_count() as i32);
    let device = torch::device(&cli.run.device)?;
    let on_device = TorchNetwork::new(&network, &weights, &masks, device)?;
    let on_device = on_device.in_format(MemoryFormat::PREFERRED)?;

    let source = if cli.synthetic { Source::Synthetic } else { Source::Real };
    let mut recipe = Recipe::built_in(&original.name, Technique::NodePruning, None)?;
    if let Some(Card { dataset, pixels, .. }) = &card {
        (recipe.dataset, recipe.pixels) = (dataset.clone(), pixels.clone());
    }
    let data = data::load(&recipe.dataset, source)?;
    let test = subsets::open(&recipe, &data, Subset::Test, device)?;
    let (network, parameters, mask_tensors) = on_device.parts();
    let score = train::score(test.as_ref(), network, parameters, mask_tensors)?;
    let nodes = living_nodes(&original, network, &masks)?;
    let agrees = card.as_ref().map(|card| (score.percent() - card.accuracy).abs() <= TOLERANCE);
    if cli.run.json.json {
        let report = json!({
            "network": original.name,
            "dataset": data.name(),
            "accuracy": score.percent(),
            "correct": score.correct,
            "correct_top5": score.correct_top5,
            "total": score.total,
            "nodes_kept": nodes,
            "card": card,
            "agrees": agrees,
        });
        println!("{report}");
    } else {
        let (percent, correct, total) = (score.percent(), score.correct, score.total);
        println!("{} on {}: {percent:.2}% ({correct} of {total})", original.name, data.name());
        if let Some(top5) = score.correct_top5 {
            println!("among the five highest: {:.2}%", 100.0 * top5 as f64 / total.max(1) as f64);
        }
        println!("nodes kept: {nodes:?}");
        if let Some(card) = &card {
            let said = if agrees == Some(true) { "agrees" } else { "DOES NOT AGREE" };
            println!("its card says {:.2}%: {said}", card.accuracy);
        }
    }
    Ok(if agrees == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

//! The accuracy of given weights: ours or the authors', masked, compacted or sparse.

use std::path::Path;
use std::process::ExitCode;

use ndarray::ArrayD;
use scalpel::bench::speedup::BenchDevice;
use scalpel::cli::{self, Evaluate};
use scalpel::data::{self, Preprocessing, Source};
use scalpel::engine::{AutotuneCache, Device, Request, compile};
use scalpel::import::NetworkWeights;
use scalpel::models::{self, Card};
use scalpel::network::{Network, zoo};
use scalpel::prune::compact::living_nodes;
use scalpel::torch::{MemoryFormat, TorchNetwork, to_array, to_tensor};
use scalpel::train::recipe::{Recipe, Technique};
use scalpel::train::subsets::{self, Subset};
use scalpel::train::{Images, Score};
use scalpel::{torch, train};
use serde_json::json;

/// Percent by which a model may score apart from its card: another machine rounds otherwise, and an image
/// that lies between two classes then falls on the other side.
const TOLERANCE: f64 = 0.03;

/// Images of a step of our own kernels.
const BATCH: usize = 100;

/// Weights in a group, where the file's are not stored in groups.
const GROUP: usize = 8;

/// What is to be measured.
struct Given {
    original: Network,
    own: NetworkWeights,
    card: Option<Card>,
}

impl Given {
    fn published(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let (card, model) = models::open(folder, name)?;
        let original = zoo::by_name(&card.network)?;
        let own = NetworkWeights {
            network: model.network().unwrap_or(&original).clone(),
            weights: model.to_weights()?,
            group_width: model.group_width(),
        };
        Ok(Self { original, own, card: Some(card) })
    }

    fn file(network: &Network, path: &Path, key: Option<&str>) -> anyhow::Result<Self> {
        let own = NetworkWeights::read(path, key, network)?;
        Ok(Self { original: network.clone(), own, card: None })
    }
}

/// What is told of a model.
struct Measured<'a> {
    network: &'a str,
    data: &'a str,
    score: Score,
    nodes: Vec<usize>,
    card: Option<Card>,
    /// Whether the score is the card's; none, where there is no card or not all images were tested.
    agrees: Option<bool>,
}

impl Measured<'_> {
    fn print_json(&self) {
        let report = json!({
            "network": self.network,
            "dataset": self.data,
            "accuracy": self.score.percent(),
            "correct": self.score.correct,
            "correct_top5": self.score.correct_top5,
            "total": self.score.total,
            "nodes_kept": self.nodes,
            "card": self.card,
            "agrees": self.agrees,
        });
        println!("{report}");
    }

    fn print(&self) {
        let (percent, correct) = (self.score.percent(), self.score.correct);
        let total = self.score.total;
        println!("{} on {}: {percent:.2}% ({correct} of {total})", self.network, self.data);
        if let Some(top5) = self.score.correct_top5 {
            println!("among the five highest: {:.2}%", 100.0 * top5 as f64 / total.max(1) as f64);
        }
        println!("nodes kept: {:?}", self.nodes);
        if let Some(card) = &self.card {
            let said = match self.agrees {
                Some(true) => "agrees",
                Some(false) => "DOES NOT AGREE",
                None => "of all test images, not compared",
            };
            println!("its card says {:.2}%: {said}", card.accuracy);
        }
    }
}

/// The score of a network that our own kernels run.
fn by_our_kernels(
    request: &Request<'_>,
    device: Device<'_>,
    test: &dyn Images,
) -> anyhow::Result<Score> {
    let mut autotune = AutotuneCache::in_memory();
    let mut executable = compile(request, device, &mut autotune)?;
    let pixels = request.network.input.iter().product::<usize>();
    let classes: usize = request.network.shapes()?.last().map_or(0, |last| last.iter().product());
    // The last step may have fewer images: the others' places hold what was there before.
    let (mut images, mut scores) = (vec![0.0; BATCH * pixels], vec![0.0; BATCH * classes]);
    Ok(train::score_by(test, BATCH, classes, |batch| {
        let own = to_array(batch)?;
        let count = own.len() / pixels;
        images.iter_mut().zip(&own).for_each(|(to, &pixel)| *to = pixel);
        executable.run(&images, &mut scores)?;
        let scores =
            ArrayD::from_shape_vec(vec![count, classes], scores[..count * classes].to_vec());
        to_tensor(&scores.unwrap_or_default(), tch::Device::Cpu)
    })?)
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
    let Given { original, own: NetworkWeights { network, weights, group_width }, card } = given;
    let masks = weights.node_masks(&network)?;
    tch::set_num_threads(cli.run.thread_count() as i32);
    // Before the images are loaded: the pool of threads can be made once.
    let place = cli.policy.map(|_| BenchDevice::open(&cli.run.device)).transpose()?;
    let context = place.as_ref().map(|place| place.context(cli.run.thread_count())).transpose()?;
    let source = if cli.synthetic { Source::Synthetic } else { Source::Real };
    let mut recipe = match &cli.recipe {
        Some(path) => Recipe::load_for(&original, path)?,
        None => Recipe::built_in(&original.name, Technique::NodePruning, None)?,
    };
    // The test images, whatever the recipe chooses its settings by.
    recipe.validation_images = None;
    if let Some(Card { dataset, pixels, .. }) = &card {
        (recipe.dataset, recipe.pixels) = (dataset.clone(), pixels.clone());
    }
    // What is fitted on the training images needs them.
    let is_fitted = !matches!(recipe.pixels, Preprocessing::Normalise(_));
    let mut data = data::load(&recipe.dataset, source, (!is_fitted).then_some(0))?;
    if let Some(count) = cli.images {
        data.keep_first_test_images(count.get());
    }
    let score = match cli.policy.zip(context) {
        None => {
            let device = torch::device(&cli.run.device)?;
            let on_device = TorchNetwork::new(&network, &weights, &masks, device)?;
            let on_device = on_device.in_format(MemoryFormat::PREFERRED)?;
            let test = subsets::open(&recipe, &data, Subset::Test, device)?;
            let (network, parameters, mask_tensors) = on_device.parts();
            train::score(test.as_ref(), network, parameters, mask_tensors)?
        }
        Some((policy, context)) => {
            let test = subsets::open(&recipe, &data, Subset::Test, tch::Device::Cpu)?;
            let request = Request {
                masks: &masks,
                policy,
                group_width: group_width.unwrap_or(GROUP),
                batch: BATCH,
                libraries: context.libraries(),
                ..Request::new(&network, &weights)
            };
            by_our_kernels(&request, context.device, test.as_ref())?
        }
    };
    let nodes = living_nodes(&original, &network, &masks)?;
    let whole = card.as_ref().filter(|_| cli.images.is_none());
    let agrees = whole.map(|card| (score.percent() - card.accuracy).abs() <= TOLERANCE);
    let network = &original.name;
    let measured = Measured { network, data: data.name(), score, nodes, card, agrees };
    if cli.run.json.json {
        measured.print_json()
    } else {
        measured.print()
    }
    Ok(if agrees == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

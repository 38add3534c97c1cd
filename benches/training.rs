//! One epoch of LeNet-300-100 as this project trains it (gathering, masks, evaluation and checkpoint
//! included) against a bare tch loop over the same matrices; or a step of other networks in each memory
//! format of libtorch, and in bf16. In turns in one run.
//!
//! ```text
//! cargo bench --bench training
//! cargo bench --bench training -- lenet-5 convnet nin
//! ```
//!
//! Prints the medians and their ratio.

mod steps;

use std::time::Instant;

use scalpel::data::{SyntheticCounts, synthetic_digits};
use scalpel::network::{Network, zoo};
use scalpel::options::{BenchArgs, JsonArg};
use scalpel::report::Table;
use scalpel::timing::{MeasureConfig, interleave};
use scalpel::torch;
use scalpel::torch::MemoryFormat;
use scalpel::torch::Tensors;
use scalpel::train::recipe::{Keep, Precision, Prune, Recipe, Stage, Target, Technique};
use scalpel::train::{EpochMetrics, ImageTensors, Images as _, Observer, Preparation, Run};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const ROUNDS: usize = 7;

/// The bare loop: three layers, the optimiser of tch, batches gathered from one tensor.
struct Bare {
    _store: nn::VarStore,
    network: nn::Sequential,
    optimiser: nn::Optimizer,
}

impl Bare {
    fn new() -> Self {
        let store = nn::VarStore::new(Device::Cpu);
        let root = store.root();
        let layer =
            |name, inputs, outputs| nn::linear(&root / name, inputs, outputs, Default::default());
        let network = nn::seq()
            .add(layer("ip1", 784, 300))
            .add_fn(|x| x.relu())
            .add(layer("ip2", 300, 100))
            .add_fn(|x| x.relu())
            .add(layer("ip3", 100, 10));
        let optimiser = nn::sgd(0.9, 0.0, 1e-4, false).build(&store, 0.01).expect("an optimiser");
        Self { _store: store, network, optimiser }
    }

    fn epoch(&mut self, data: &ImageTensors, batch_size: i64) {
        let count = data.len() as i64;
        let order = Tensor::randperm(count, (Kind::Int64, Device::Cpu));
        for first in (0..count).step_by(batch_size as usize) {
            let chosen = order.narrow(0, first, batch_size.min(count - first));
            let images = data.all().images.index_select(0, &chosen).flatten(1, -1);
            let labels = data.all().labels.index_select(0, &chosen);
            let loss = self.network.forward(&images).cross_entropy_for_logits(&labels);
            self.optimiser.backward_step(&loss);
        }
    }
}

/// Between two of our epochs, runs a bare one; times both.
struct Turns<'a> {
    bare: Bare,
    data: &'a ImageTensors,
    batch_size: i64,
    start: Instant,
    ours: Vec<f64>,
    bares: Vec<f64>,
}

impl Observer for Turns<'_> {
    fn epoch(&mut self, _: &EpochMetrics) {
        self.ours.push(self.start.elapsed().as_secs_f64());
        let start = Instant::now();
        self.bare.epoch(self.data, self.batch_size);
        self.bares.push(start.elapsed().as_secs_f64());
        self.start = Instant::now();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.remove(0); // the first is warm-up
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A step of a network in each memory format, and with the channels last in bf16; and there, a step that
/// prunes nodes.
fn steps_of(name: &str, json: JsonArg) {
    let network = zoo::by_name(name).expect("a network");
    let batch = Recipe::built_in(name, Technique::NodePruning, None).expect("a recipe").batch_size;
    let [channels, height, width] = network.input.map(|length| length as i64);
    let shape = [batch as i64, channels, height, width];
    let images = Tensor::rand(shape, (Kind::Float, Device::Cpu));
    let labels = Tensor::randint(10, [batch as i64], (Kind::Int64, Device::Cpu));
    let candidates = [
        (MemoryFormat::Contiguous, Precision::F32, false),
        (MemoryFormat::ChannelsLast, Precision::F32, false),
        (MemoryFormat::ChannelsLast, Precision::Bf16, false),
        (MemoryFormat::ChannelsLast, Precision::F32, true),
        (MemoryFormat::ChannelsLast, Precision::Bf16, true),
    ];
    let mut calls = candidates.map(|(format, precision, prunes)| {
        let parameters = steps::parameters(&network, format);
        let mask_tensors = if prunes { open_gates(&network) } else { Tensors::new() };
        let (network, images, labels) = (&network, &images, &labels);
        move || {
            // As in training, where a gathered batch is contiguous.
            let images = format.of(images).expect("images in that format");
            steps::step(network, &parameters, &mask_tensors, precision, (&images, labels));
        }
    });
    let mut turns = calls.each_mut().map(|call| call as &mut dyn FnMut());
    let timings =
        interleave(&mut turns, MeasureConfig::new(ROUNDS, MeasureConfig::DEFAULT.min_turn));
    let mut table =
        Table::new(["memory format", "precision", "masks learn", "ms", "of contiguous"]);
    for ((format, precision, prunes), timing) in candidates.iter().zip(&timings) {
        table.row([
            format!("{format:?}"),
            format!("{precision:?}"),
            if *prunes { "yes".into() } else { "no".into() },
            format!("{:.2}", 1e3 * timing.median),
            format!("{:.2}", timing.median / timings[0].median),
        ]);
    }
    let threads = tch::get_num_threads();
    json.table(&format!("{name}, a step of {batch} images, {threads} threads"), &table);
}

/// A mask tensor for every node of a network, all open, which learn.
fn open_gates(network: &Network) -> Tensors {
    let open = |nodes: usize| {
        Tensor::ones([1, nodes as i64], (Kind::Float, Device::Cpu)).set_requires_grad(true)
    };
    let sites = network.mask_sites().expect("masks");
    sites.into_iter().map(|site| (site.name, open(site.nodes))).collect()
}

fn main() {
    torch::device("cpu").expect("a processor"); // keeps freed memory, as the experiments do
    let given = BenchArgs::on_cpu().expect("a processor");
    tch::set_num_threads(given.run.thread_count() as i32);
    let names = given.words;
    match names.is_empty() {
        true => epochs(given.run.json),
        false => names.iter().for_each(|name| steps_of(name, given.run.json)),
    }
}

fn epochs(json: JsonArg) {
    let dataset = synthetic_digits(SyntheticCounts::LIKE_MNIST, 1);
    let built_in =
        Recipe::built_in("lenet-300-100", Technique::NodePruning, None).expect("a recipe");
    let preparation = Preparation::fit(&built_in.pixels, &dataset.train).expect("normalisation");
    let train = ImageTensors::new(&dataset.train, &preparation, Device::Cpu).expect("images");
    let data = dataset.into();
    let mut table = Table::new(["epoch", "ours, s", "bare, s", "ratio"]);
    let node = Prune::Node { target: Target::All, penalty: 2e-4, stop_at: Default::default() };
    for (name, prune) in [("plain", None), ("with masks that learn", Some(node))] {
        let stage = Stage {
            name: "timed".into(),
            learning_rate: 0.01,
            learning_rate_epochs: Some(100),
            one_cycle: None,
            weight_decay_factor: None,
            epochs: ROUNDS + 1,
            quick_epochs: None,
            compact: false,
            prune,
            keep: Keep::Last,
        };
        let recipe = Recipe { stages: vec![stage], ..built_in.clone() };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut turns = Turns {
            bare: Bare::new(),
            data: &train,
            batch_size: recipe.batch_size as i64,
            start: Instant::now(),
            ours: Vec::new(),
            bares: Vec::new(),
        };
        let checkpoints = folder.path();
        let run =
            Run { recipe: &recipe, data: &data, original: None, device: Device::Cpu, checkpoints };
        let outcome = run.run(&mut turns).expect("a run");
        assert!(
            outcome.stages[0].correct_last_epoch * 10 > outcome.test_total * 9,
            "it must have learnt"
        );
        let (ours, bare) = (median(turns.ours), median(turns.bares));
        let ratio = format!("{:.2}", ours / bare);
        table.row([name.to_owned(), format!("{ours:.3}"), format!("{bare:.3}"), ratio]);
    }
    let threads = tch::get_num_threads();
    json.table(&format!("LeNet-300-100, 60,000 images, {threads} threads"), &table);
}

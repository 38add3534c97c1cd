//! Images per second that the pipeline for files makes, beside those that a training step takes.
//!
//! ```text
//! cargo bench --bench loading                        # drawn images
//! cargo bench --bench loading -- <a folder of class folders>
//! ```
//!
//! The step never waits where the first number is above the second. Reading scales with the threads.

mod steps;

use std::path::PathBuf;
use std::time::Instant;

use scalpel::data::{Cropping, ImageFolder, SyntheticCounts, crop, synthetic_image_folder};
use scalpel::network::zoo;
use scalpel::options::BenchArgs;
use scalpel::report::Table;
use scalpel::torch;
use scalpel::torch::MemoryFormat;
use scalpel::torch::Tensors;
use scalpel::train::recipe::Precision;
use scalpel::train::{ImageFiles, Images, Order};
use tch::Device;

const CROPPING: Cropping = Cropping { resize: 256, least_area: 0.08 };
const SIDE: usize = 227;
const BATCH: usize = 32;
/// Images that a pass is cut down to.
const MOST: usize = 512;
const ROUNDS: usize = 5;

fn main() {
    torch::device("cpu").expect("a processor"); // keeps freed memory, as the experiments do
    let drawn = tempfile::tempdir().expect("a temporary folder");
    let given = BenchArgs::on_cpu().expect("a processor");
    tch::set_num_threads(given.run.thread_count() as i32);
    let json = given.run.json;
    let given = given.words.into_iter().next();
    let root = given.map_or_else(
        || {
            let counts = SyntheticCounts { train: MOST, test: 0 };
            synthetic_image_folder(drawn.path(), counts, 1).expect("drawn images");
            drawn.path().join("train")
        },
        PathBuf::from,
    );
    let folder = ImageFolder::open(&root).expect("a folder of images");
    let count = folder.files().len();
    let folder = folder.select((0..MOST.min(count)).map(|place| place * count / MOST.min(count)));
    let mean = crop::mean_image(&folder, SIDE, CROPPING.resize).expect("a mean image");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let title = format!("{} images of {}", folder.files().len(), root.display());
    let mut table = Table::new(["what", "threads", "images/s"]);
    let mut row = |what: &str, threads: usize, rate: f64| {
        table.row([what.to_owned(), threads.to_string(), format!("{rate:.0}")]);
    };
    for workers in (0..).map(|power| 1 << power).take_while(|&workers| workers <= cores) {
        let files = ImageFiles::new(folder.clone(), &CROPPING, SIDE, &mean, Device::Cpu);
        let files = files.expect("a loader").with_workers(workers);
        let rates = (0..ROUNDS).map(|round| {
            let start = Instant::now();
            let order = Order::Shuffled { seed: 1, place: [0, round as u64] };
            let batches = files.batches(order, BATCH).expect("batches");
            let images: usize = batches.map(|batch| batch.expect("a batch").len()).sum();
            assert_eq!(images, files.len());
            images as f64 / start.elapsed().as_secs_f64()
        });
        row("reading", workers, median(rates.collect()));
    }

    let network = zoo::alexnet();
    let format = MemoryFormat::PREFERRED;
    let parameters = steps::parameters(&network, format);
    let files = ImageFiles::new(folder, &CROPPING, SIDE, &mean, Device::Cpu).expect("a loader");
    let batch = files.batches(Order::Stored, BATCH).expect("batches").next();
    let batch = batch.expect("a batch").expect("images");
    let images = format.of(&batch.images).expect("images in that format");
    let mask_tensors = Tensors::new(); // a plain step is the faster one to read for
    let step = || {
        steps::step(&network, &parameters, &mask_tensors, Precision::F32, (&images, &batch.labels))
    };
    step(); // warm-up
    let rates = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        step();
        batch.len() as f64 / start.elapsed().as_secs_f64()
    });
    let threads = tch::get_num_threads() as usize;
    row(&format!("a step of {}", network.name), threads, median(rates.collect()));
    json.table(&title, &table);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

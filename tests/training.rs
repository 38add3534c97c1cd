//! Short real trainings against stored numbers.
#![cfg(feature = "torch")]

use scalpel::data::{self, Source};
use scalpel::requirement;
use scalpel::train::recipe::{Recipe, Technique};
use scalpel::train::{EpochMetrics, Outcome, Run, Silent};
use tch::Device;

/// The original training of a built-in recipe, cut after so many epochs.
fn train(network: &str, epochs: usize, images: Option<usize>, source: Source) -> Outcome {
    let mut recipe = Recipe::built_in(network, Technique::NodePruning).unwrap();
    recipe.stages.truncate(1);
    recipe.stages[0].epochs = epochs;
    recipe.train_images = images;
    let dataset = data::load(&recipe.dataset, source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path();
    let run = Run { recipe: &recipe, dataset: &dataset, device: Device::Cpu, checkpoints };
    run.run(&mut Silent).unwrap()
}

fn metrics(outcome: &Outcome) -> &[EpochMetrics] {
    &outcome.stages[0].metrics
}

#[test]
fn lenet_300_100_learns_synthetic_digits_to_over_95_percent() {
    let outcome = train("lenet-300-100", 2, None, Source::Synthetic);
    let accuracy = metrics(&outcome)[1].accuracy();
    assert!(accuracy > 95.0, "{accuracy}");
}

#[test]
fn two_epochs_of_lenet_300_100_on_mnist_come_to_the_stored_numbers() {
    if std::env::var_os(data::fetch::DATA_DIR_VARIABLE).is_none() {
        return requirement::skip("data", "SCALPEL_DATA_DIR is not set");
    }
    let outcome = train("lenet-300-100", 2, None, Source::Real);
    let [first, second] = metrics(&outcome) else { panic!("two epochs") };
    // Seed 1 first came to these on an AMD EPYC; another processor rounds otherwise.
    approx::assert_abs_diff_eq!(first.train_loss, 0.2582, epsilon = 0.01);
    approx::assert_abs_diff_eq!(second.train_loss, 0.0988, epsilon = 0.01);
    approx::assert_abs_diff_eq!(second.accuracy(), 97.01, epsilon = 0.4);
}

#[test]
fn lenet_5_learns_from_a_part_of_mnist() {
    if std::env::var_os(data::fetch::DATA_DIR_VARIABLE).is_none() {
        return requirement::skip("data", "SCALPEL_DATA_DIR is not set");
    }
    let outcome = train("lenet-5", 2, Some(10_000), Source::Real);
    let [first, second] = metrics(&outcome) else { panic!("two epochs") };
    assert!(second.train_loss < 0.5 * first.train_loss, "{first:?} {second:?}");
    approx::assert_abs_diff_eq!(second.accuracy(), 96.0, epsilon = 1.0);
}

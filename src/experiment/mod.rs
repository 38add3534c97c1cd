//! What the experiment binaries share: their arguments, and one experiment from recipe to results.

mod progress;
mod summarise;

pub use progress::Progress;
pub use summarise::summarise;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::bench::measure_latency;
use crate::data::fetch::sha256;
use crate::data::{self, Source};
use crate::error::{Error, Result};
use crate::files;
use crate::import;
use crate::network::{Network, NodeMasks, Weights};
use crate::options::{CheckpointsArg, NetworkOrFile, ResultsArg, RunArgs};
use crate::prune::compact::compact;
use crate::report::{Environment, Latency, ResultsTree, Summary, run_table};
use crate::sparse::Format;
use crate::timing::MeasureConfig;
use crate::torch;
use crate::train::recipe::{Precision, Recipe, Technique};
use crate::train::{Observer, Run, original_path, precision};

/// Batch sizes at which inference is timed.
const BATCHES: [usize; 2] = [1, 128];

/// Weights in a group of our kernels, where a run pruned no groups.
const GROUP_WIDTH: usize = 8;

/// Arguments of the binaries that run one technique.
#[derive(Args, Clone, Debug)]
pub struct RecipeArgs {
    /// The network, such as lenet-300-100; with --recipe, also a file (.json) that describes one
    #[arg(value_parser = NetworkOrFile)]
    pub network: Network,
    /// A recipe of your own
    #[arg(long, conflicts_with = "variant")]
    pub recipe: Option<PathBuf>,
    /// Another recipe that the program carries, such as all or lossless
    #[arg(long)]
    pub variant: Option<String>,
}

/// Arguments of all binaries that train.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Start of every random stream; the recipe's own, where absent
    #[arg(long)]
    pub seed: Option<u64>,
    /// Fewer epochs, for a first look; the result says so
    #[arg(long)]
    pub quick: bool,
    /// Train on digits drawn by this program instead of the network's data set; the result says so
    #[arg(long)]
    pub synthetic: bool,
    /// An original network that is trained already, safetensors or a state dict of PyTorch: its training is left
    /// out, and the result names the file by its SHA-256
    #[arg(long, value_name = "FILE")]
    pub original: Option<PathBuf>,
    /// Which dictionary of tensors in the file of --original, where it has several
    #[arg(long, requires = "original")]
    pub key: Option<String>,
    /// Hold out the last so many training images and score on them instead of the test images, to choose
    /// hyper-parameters by; the result says so
    #[arg(long)]
    pub validation: Option<usize>,
    /// Numbers in which the layers multiply during training; the recipe's own, where absent
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Leave the inference times out, where other programs keep this machine busy: the same command without this
    /// option adds them later
    #[arg(long)]
    pub no_latency: bool,
    /// What computes, and how results are printed.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where results go.
    #[command(flatten)]
    pub results: ResultsArg,
    /// Where checkpoints go.
    #[command(flatten)]
    pub checkpoints: CheckpointsArg,
}

/// What an experiment came to, and where it lies.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it came to.
    pub summary: Summary,
    /// How fast it is now, unless that was left out.
    pub latency: Option<Latency>,
    /// Where it ran.
    pub environment: Environment,
    /// Its folder in the results tree.
    pub results: PathBuf,
    /// The original network's weights, with which other runs can begin.
    pub original: PathBuf,
    /// The final weights, masks among them.
    pub weights: PathBuf,
}

/// The recipe that arguments, a technique and options come to.
///
/// # Errors
/// A recipe that there is not, or that is another network's or technique's.
pub fn recipe(args: &RecipeArgs, technique: Technique, options: &Options) -> Result<Recipe> {
    let network = &args.network;
    let mut recipe = match &args.recipe {
        Some(path) => Recipe::load_for(network, path)?,
        None => Recipe::built_in(&network.name, technique, args.variant.as_deref())?,
    };
    if recipe.technique != technique {
        let expected = format!("a recipe for {}", technique.experiment());
        return Err(Error::argument("recipe", expected, recipe.technique.experiment()));
    }
    recipe.seed = options.seed.unwrap_or(recipe.seed);
    recipe.validation_images = options.validation.or(recipe.validation_images);
    recipe.precision = options.precision.unwrap_or(recipe.precision);
    recipe = if options.quick { recipe.quick() } else { recipe.full() };
    if recipe.stages.is_empty() {
        return Err(Error::argument("--quick", "stages with quick_epochs in the recipe", "none"));
    }
    match (&options.original, &recipe.original_weights) {
        (None, None) => Ok(recipe),
        (Some(path), _) => {
            let found = sha256(&files::read(path)?);
            match recipe.original_weights.as_ref().filter(|&expected| *expected != found) {
                Some(expected) => {
                    Err(begins_from(expected, format!("{} with {found}", path.display())))
                }
                None => recipe.from_original(&found),
            }
        }
        (None, Some(expected)) => Err(begins_from(expected, "none".into())),
    }
}

fn begins_from(sha256: &str, found: String) -> Error {
    let expected = format!("the file with SHA-256 {sha256}, from which the recipe begins");
    Error::argument("--original", expected, found)
}

/// The weights that a recipe begins from.
fn original(path: &Path, key: Option<&str>, recipe: &Recipe) -> Result<Weights> {
    let imported = import::read(path, key)?;
    let network = recipe.original_network()?;
    let weights = import::matching(&imported, &network)?;
    let Some(other) = &imported.network else { return Ok(weights) };
    // A published network has no layers of masks any more.
    let is_original =
        *other == network || *other == compact(&network, &weights, &NodeMasks::new())?.0;
    if !is_original || !imported.sparse.is_empty() {
        let expected = format!("{} as it was before pruning", network.name);
        let found = match &imported.sparse[..] {
            [] => format!("a file that describes another network ({})", other.name),
            [array, ..] => format!("a file that stores {array} without its zeros"),
        };
        return Err(Error::malformed(path.display().to_string(), expected, found));
    }
    Ok(weights)
}

/// Runs one technique on one network, by the recipe that the program carries or by the arguments' own,
/// and writes its results.
///
/// # Errors
/// Whatever keeps it from running; what was done before is kept, and the same command goes on from
/// there.
pub fn run(args: &RecipeArgs, technique: Technique, options: &Options) -> Result<Report> {
    let recipe = recipe(args, technique, options)?;
    let mut progress = Progress::new(format!("{} {}", recipe.network, technique.experiment()));
    let report = run_recipe(&recipe, options, &mut progress);
    progress.finish();
    report
}

/// Runs a recipe and writes its results; `observer` is told how it goes on.
///
/// # Errors
/// As [`run`].
pub fn run_recipe(
    recipe: &Recipe,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let device = torch::device(&options.run.device)?;
    if let Some(threads) = options.run.threads {
        tch::set_num_threads(i32::from(threads));
    }
    let original = options
        .original
        .as_deref()
        .map(|path| original(path, options.key.as_deref(), recipe))
        .transpose()?;
    let source = if options.synthetic { Source::Synthetic } else { Source::Real };
    let data = data::load(&recipe.dataset, source, recipe.first_images())?;
    let threads = Some(tch::get_num_threads() as usize);
    let environment = Environment { threads, ..Environment::read(&options.run.device) };
    let (network, experiment) = (&recipe.network, recipe.technique.experiment());
    eprintln!("{network}, {experiment}, on {} ({})", data.name(), data.origin());
    if let Some(warning) = precision::warning(recipe.precision, device) {
        eprintln!("{warning}");
    }

    // Results made on other data are another run: they must not take the place of the real ones.
    let filed = Recipe { dataset: data.name().to_owned(), ..recipe.clone() };
    let folder = ResultsTree::at(&options.results.results).run(&filed);
    // Better refused now than after hours of training.
    files::check_folder(folder.path())?;
    let checkpoints = &options.checkpoints.checkpoints;
    let original = original.as_ref();
    let outcome = Run { recipe, data: &data, original, device, checkpoints }.run(observer)?;
    let group_width = match recipe.storage_format() {
        Format::Groups(width) => width,
        Format::Upright(height) => height,
        _ => GROUP_WIDTH,
    };
    let measure =
        || measure_latency(&outcome, group_width, device, &BATCHES, MeasureConfig::DEFAULT);
    let latency = (!options.no_latency).then(measure).transpose()?;
    let summary = summarise(recipe, data.name(), &outcome)?;
    folder.write(&filed, &outcome, &summary, &environment, latency.as_ref())?;
    let results = folder.path().to_owned();
    let original = original_path(checkpoints, recipe, data.name());
    Ok(Report { summary, latency, environment, results, original, weights: outcome.path })
}

/// Prints reports to stdout: a table, or an array of JSON objects.
///
/// # Errors
/// The authors' numbers cannot be read.
pub fn print(reports: &[Report], json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(reports).map_err(|error| {
            Error::argument("print the results", "finite numbers", error.to_string())
        })?;
        println!("{text}");
        return Ok(());
    }
    let columns: Vec<_> =
        reports.iter().map(|r| (&r.summary, r.latency.as_ref(), &r.environment)).collect();
    print!("\n{}", run_table(&columns)?.markdown());
    for report in reports {
        println!(
            "\nresults: {}\noriginal: {}\nweights: {}",
            report.results.display(),
            report.original.display(),
            report.weights.display()
        );
    }
    if reports.iter().any(|report| report.summary.quick) {
        println!(
            "\nQUICK: fewer epochs than the recipe asks for; not comparable with the authors' numbers."
        );
    }
    if reports.iter().any(|report| report.summary.is_synthetic()) {
        println!("\nSYNTHETIC DIGITS: not the data set; not comparable with the authors' numbers.");
    }
    if reports.iter().any(|report| report.summary.validation_images.is_some()) {
        println!("\nVALIDATION: scored on held-out training images, not on the test set.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;

    #[test]
    fn a_run_begins_from_a_published_network_that_is_not_pruned() {
        let published = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo").join(file);
        let recipe = Recipe::built_in("nin", Technique::UprightPruning, Some("short")).unwrap();
        let weights = original(&published("nin-original-short.safetensors"), None, &recipe);
        weights.unwrap().check(&zoo::nin()).unwrap();
        let pruned = published("nin-node-pruning-short.safetensors");
        assert!(original(&pruned, None, &recipe).is_err(), "fewer nodes");
        let sparse = published("nin-simd-pruning-short.safetensors");
        assert!(original(&sparse, None, &recipe).is_err(), "groups");
    }
}

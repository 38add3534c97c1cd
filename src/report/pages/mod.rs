//! The tables of the paper and of the authors' README, ours beside theirs, from the results tree alone: a section
//! for each topic, README's headline, and RESULTS.md, which leads to them.

mod accuracy;
mod breakeven;
mod headline;
pub(super) mod inference;
mod patterns;
mod precision;
mod runs;
mod size;
mod speedup;
mod techniques;
mod trials;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::authors::Authors;
use super::document::{Block, Document, Section, Svg};
use super::html;
use super::plots::stages_plot;
use super::records::Summary;
use super::run_folder::StoredRun;
use super::runs::{Group, by_recipe, technique_name};
use super::speedup::{SpeedupGroup, speedup_groups};
use super::tree::ResultsTree;
use crate::error::{Error, Result};
use crate::network::zoo;
use crate::train::recipe::Technique;

pub use speedup::speedup_table;

const BEGIN: &str = "<!-- results:begin -->";
const END: &str = "<!-- results:end -->";

/// The network whose accuracy at a given size README shows.
const SHOWN: &str = "convnet";

/// Everything that `tables` writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    document: Document,
    /// What stands between the markers of README.md.
    headline: String,
    plots: Vec<Svg>,
}

impl Tables {
    /// Builds every table and plot from what lies in the tree. `kept` says of published models, by name, which share
    /// of the weights they keep.
    ///
    /// # Errors
    /// A file in the tree that is not what its name says.
    pub fn build(tree: &ResultsTree, kept: &BTreeMap<String, f64>) -> Result<Self> {
        let authors = Authors::published()?;
        let experiments = Experiment::all(tree)?;
        let stored = tree.speedups()?;
        let (mut headline, mut plots) = headline::headline(&stored, kept)?;
        let groups = speedup_groups(&stored);
        let of_one_thread = headline::of_best(&groups, 1);
        let is_single =
            |group: &&&SpeedupGroup<'_>| group.first().is_some_and(|row| row.batch == 1);
        let timed = of_one_thread.iter().find(is_single).copied();
        let (size, of_size) = size::section(&experiments, timed)?;
        let shown = size::plot_name(SHOWN);
        if of_size.iter().any(|(name, _)| *name == shown) {
            headline +=
                &format!("\n![{SHOWN}: accuracy at a given size](results/plots/{shown}.svg)\n");
        }
        let (speedup, of_speedup) = speedup::section(&stored)?;
        let (breakeven, of_breakeven) = breakeven::section(&tree.sweeps()?)?;
        let (stages, of_stages) = stages(&experiments)?;
        let mut sections = vec![
            accuracy::node(&authors, &experiments),
            accuracy::simd(&authors, &experiments),
            techniques::section(&experiments),
            speedup,
            breakeven,
            inference::section(&experiments),
        ];
        sections.extend(size);
        sections.extend(patterns::section(&experiments));
        sections.extend(precision::section(&experiments)?);
        sections.extend(trials::section(&experiments)?);
        sections.extend(stages);
        sections.push(runs::section(&experiments));
        plots.extend(of_speedup.into_iter().chain(of_breakeven).chain(of_size).chain(of_stages));
        let document = Document { sections, plots: plots.clone() };
        Ok(Self { document, headline, plots })
    }

    /// All plots by name.
    pub fn plots(&self) -> &[Svg] {
        &self.plots
    }

    /// RESULTS.md, and each section as Markdown and CSV, by their paths from the project's root.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let folder = Path::new(Section::FOLDER);
        let mut files = vec![(PathBuf::from("RESULTS.md"), self.results())];
        for section in &self.document.sections {
            files.push((folder.join(format!("{}.md", section.name)), section.markdown()));
            if let Some(csv) = section.csv() {
                files.push((folder.join(format!("{}.csv", section.name)), csv));
            }
        }
        files
    }

    /// One self-contained page with all sections and plots.
    pub fn html(&self) -> String {
        html::page(&self.document)
    }

    fn results(&self) -> String {
        let mut text = format!(
            "# Results\n\nWritten by `cargo run --release --bin tables` from the files under `results/`; no number is \
             typed by hand.\n`tables --html report.html` writes all of it as one page with sortable tables.\n\n{}\n\
             ## By topic\n\n",
            self.headline
        );
        for Section { name, title, about, .. } in &self.document.sections {
            text += &format!("- [{title}]({}/{name}.md): {about}\n", Section::FOLDER);
        }
        text
    }

    /// README.md with our part of it replaced.
    ///
    /// # Errors
    /// A README without the two markers.
    pub fn into_readme(&self, readme: &str) -> Result<String> {
        let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(END)?;
            Some((before, after))
        });
        let Some((before, after)) = parts else {
            let expected = format!("the markers {BEGIN} and {END}");
            return Err(Error::malformed("README.md", expected, "not both of them"));
        };
        Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.headline))
    }
}

/// What lies in the tree of one technique on one network.
struct Experiment {
    network: String,
    technique: Technique,
    /// Scored on the test set.
    runs: Vec<StoredRun>,
    /// Scored on held-out training images.
    trials: Vec<StoredRun>,
}

impl Experiment {
    /// Each technique on each network of the zoo, whether or not it has run, and what has run on others.
    fn all(tree: &ResultsTree) -> Result<Vec<Self>> {
        let mut others = tree.networks()?;
        others.retain(|name| !zoo::NAMES.contains(&&**name));
        let networks = zoo::NAMES.into_iter().map(str::to_owned).chain(others);
        let each = networks
            .flat_map(|network| Technique::ALL.map(|technique| (network.clone(), technique)));
        let each = each.map(|(network, technique): (String, Technique)| {
            let on_test_set = |run: &StoredRun| run.summary.validation_images.is_none();
            let (runs, trials) = tree.runs(technique, &network)?.into_iter().partition(on_test_set);
            Ok(Self { network, technique, runs, trials })
        });
        let mut all = each.collect::<Result<Vec<Self>>>()?;
        all.retain(|Self { network, runs, trials, .. }| {
            zoo::NAMES.contains(&&**network) || !runs.is_empty() || !trials.is_empty()
        });
        Ok(all)
    }

    /// The networks, in the order of the tables.
    fn networks(all: &[Self]) -> Vec<&str> {
        let mut networks: Vec<&str> = all.iter().map(|experiment| &*experiment.network).collect();
        networks.dedup();
        networks
    }

    /// Those of one technique.
    fn of(all: &[Self], technique: Technique) -> impl Iterator<Item = &Self> {
        all.iter().filter(move |experiment| experiment.technique == technique)
    }
}

/// The section of the plots of accuracy over what is left, and these; none where no full run is stored.
fn stages(experiments: &[Experiment]) -> Result<(Option<Section>, Vec<Svg>)> {
    let (mut blocks, mut plots) = (Vec::new(), Vec::new());
    for group in experiments.iter().flat_map(|experiment| by_recipe(&experiment.runs)) {
        let Some((name, title, svg)) = plot(&group)? else { continue };
        blocks.push(Block::Plot { name: name.clone(), title });
        plots.push((name, svg));
    }
    let section = Section {
        name: "stages",
        title: "Accuracy, stage by stage",
        about: "Plots of accuracy over the share of weights that is left, every recipe.",
        blocks,
        csv: None,
    };
    Ok(((!plots.is_empty()).then_some(section), plots))
}

/// A plot of a recipe's full runs: its name, its title and itself.
fn plot(group: &Group<'_>) -> Result<Option<(String, String, String)>> {
    let first = group.first();
    if first.quick {
        return Ok(None);
    }
    let name = format!("{}-{}-{}", first.technique.experiment(), first.network, group.runs[0].hash);
    let title =
        format!("{} of {} on {}", technique_name(first.technique), first.network, first.dataset);
    let runs: Vec<&Summary> = group.summaries().collect();
    let svg = stages_plot(&title, &runs)?;
    Ok(Some((name, title, svg)))
}

#[cfg(test)]
mod tests;

//! What a campaign does: the jobs that a plan lists, and the part of them that one host takes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data::synthetic_name;
use crate::error::{Error, Result};
use crate::experiment::{self, Options, RecipeArgs};
use crate::files;
use crate::network::Network;
use crate::report::ResultsTree;
use crate::train::recipe::{Precision, Recipe, Technique};

/// What a plan's file holds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// In the order in which they begin.
    pub jobs: Vec<Jobs>,
}

/// Jobs that differ in network and seed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Such as `node_pruning`.
    pub experiment: String,
    /// Networks of the zoo, or files (.json) that describe others, from the plan's folder.
    pub networks: Vec<String>,
    /// A job for each.
    pub seeds: Vec<u64>,
    /// Another recipe that the program carries, such as `all`.
    #[serde(default)]
    pub variant: Option<String>,
    /// A recipe of the user's own, relative to the plan.
    #[serde(default)]
    pub recipe: Option<PathBuf>,
    /// An original network that is trained already, relative to the plan.
    #[serde(default)]
    pub original: Option<PathBuf>,
    /// The short version.
    #[serde(default)]
    pub quick: bool,
    /// Held-out training images to score on.
    #[serde(default)]
    pub validation: Option<usize>,
    /// Numbers in which the layers multiply.
    #[serde(default)]
    pub precision: Option<Precision>,
}

/// One run of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What is done.
    pub technique: Technique,
    /// On which network.
    pub network: String,
    /// From which seed.
    pub seed: u64,
    /// See [`Jobs::variant`].
    pub variant: Option<String>,
    /// See [`Jobs::recipe`].
    pub recipe: Option<PathBuf>,
    /// See [`Jobs::original`].
    pub original: Option<PathBuf>,
    /// See [`Jobs::quick`].
    pub quick: bool,
    /// See [`Jobs::validation`].
    pub validation: Option<usize>,
    /// See [`Jobs::precision`].
    pub precision: Option<Precision>,
}

/// Part `index` of `count` of a plan, counted from 1: `2/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 1, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some((index.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(format!("expected i/n with i from 1 to n, such as 2/4, got {text}")),
        }
    }
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// A file that cannot be read or is no plan.
    pub fn load(path: &Path) -> Result<Self> {
        toml::from_str(&files::read_text(path)?).map_err(|error| {
            let expected = "a plan (see experiments/plans)";
            Error::malformed(path.display().to_string(), expected, error.to_string())
        })
    }

    /// Its jobs, one by one, without repetitions. `folder` is the plan's own, for its recipes and descriptions of networks.
    ///
    /// # Errors
    /// An experiment that there is not.
    pub fn jobs(&self, folder: &Path) -> Result<Vec<Job>> {
        let mut all: Vec<Job> = Vec::new();
        for jobs in &self.jobs {
            let technique = Technique::ALL.into_iter().find(|t| t.experiment() == jobs.experiment);
            let technique = technique.ok_or_else(|| {
                let names = Technique::ALL.map(Technique::experiment).join(", ");
                Error::argument("a job's experiment", names, jobs.experiment.clone())
            })?;
            for &seed in &jobs.seeds {
                for network in &jobs.networks {
                    let in_folder = || folder.join(network).to_string_lossy().into_owned();
                    let is_file = Network::is_file_name(network);
                    let job = Job {
                        technique,
                        network: if is_file { in_folder() } else { network.clone() },
                        seed,
                        variant: jobs.variant.clone(),
                        recipe: jobs.recipe.as_ref().map(|path| folder.join(path)),
                        original: jobs.original.as_ref().map(|path| folder.join(path)),
                        quick: jobs.quick,
                        validation: jobs.validation,
                        precision: jobs.precision,
                    };
                    if !all.contains(&job) {
                        all.push(job);
                    }
                }
            }
        }
        Ok(all)
    }
}

impl Shard {
    /// The jobs of this part: every `count`-th one, so that each part has some of every kind.
    pub fn of(self, jobs: Vec<Job>) -> Vec<Job> {
        jobs.into_iter().skip(self.index - 1).step_by(self.count).collect()
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.network, self.technique.experiment())?;
        if let Some(variant) = &self.variant {
            write!(f, " {variant}")?;
        }
        if let Some(recipe) = &self.recipe {
            write!(f, " {}", recipe.file_stem().unwrap_or_default().to_string_lossy())?;
        }
        if let Some(original) = &self.original {
            write!(f, " from {}", original.file_stem().unwrap_or_default().to_string_lossy())?;
        }
        if self.quick {
            write!(f, " quick")?;
        }
        if let Some(precision) = self.precision.filter(|precision| !precision.is_f32()) {
            write!(f, " {}", precision.name())?;
        }
        write!(f, " seed {}", self.seed)
    }
}

impl Job {
    /// What the job's binary would take, on top of what all jobs of a campaign share.
    pub(super) fn arguments(&self, shared: &Options) -> Result<(RecipeArgs, Options)> {
        let args = RecipeArgs {
            network: Network::open(&self.network)?,
            recipe: self.recipe.clone(),
            variant: self.variant.clone(),
        };
        let options = Options {
            seed: Some(self.seed),
            original: self.original.clone(),
            quick: self.quick,
            validation: self.validation,
            precision: self.precision,
            ..shared.clone()
        };
        Ok((args, options))
    }

    /// The recipe that it runs.
    ///
    /// # Errors
    /// One that there is not, or that contradicts itself.
    pub fn recipe(&self, shared: &Options) -> Result<Recipe> {
        let (args, options) = self.arguments(shared)?;
        experiment::recipe(&args, self.technique, &options)
    }

    /// Whether its results lie in the tree already.
    ///
    /// # Errors
    /// As [`Job::recipe`].
    pub fn is_done(&self, shared: &Options) -> Result<bool> {
        let mut recipe = self.recipe(shared)?;
        if shared.synthetic {
            recipe.dataset = synthetic_name(&recipe.dataset).to_owned();
        }
        Ok(ResultsTree::at(&shared.results.results).run(&recipe).summary().exists())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::campaign::tests::{PLAN, jobs, shared};
    use crate::data::fetch::sha256;

    #[test]
    fn a_plan_may_name_a_network_that_a_file_beside_it_describes() {
        let plan = r#"jobs = [{ experiment = "simd_pruning", networks = ["network.json"], seeds = [1],
            recipe = "recipe.toml" }]"#;
        let plan: Plan = toml::from_str(plan).unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let [job] = &plan.jobs(&examples).unwrap()[..] else { panic!("one job") };
        let recipe = job.recipe(&shared(Path::new("results"))).unwrap();
        assert_eq!((&*recipe.network, recipe.description.is_some()), ("vgg-small", true));
    }

    #[test]
    fn a_plan_is_its_jobs_and_shards_share_them_out() {
        let jobs = jobs(PLAN);
        let names: Vec<String> = jobs.iter().map(Job::to_string).collect();
        assert_eq!(
            names,
            [
                "lenet-300-100 node_pruning seed 1",
                "lenet-5 node_pruning seed 1",
                "lenet-300-100 node_pruning seed 2",
                "lenet-5 node_pruning seed 2",
                "lenet-5 combined_pruning all seed 1",
            ]
        );
        let mut together = Vec::new();
        for index in 1..=3 {
            together.extend(Shard { index, count: 3 }.of(jobs.clone()));
        }
        assert_eq!(together.len(), jobs.len());
        assert!(jobs.iter().all(|job| together.contains(job)));
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        for wrong in ["0/4", "5/4", "2", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains(wrong), "{wrong}");
        }
        let plan = "[[jobs]]\nexperiment = \"pruning\"\nnetworks = []\nseeds = [1]";
        let error = toml::from_str::<Plan>(plan).unwrap().jobs(Path::new("")).unwrap_err();
        assert!(error.to_string().contains("node_pruning, simd_pruning"), "{error}");
    }

    #[test]
    fn a_job_begins_with_an_original_network_that_lies_beside_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        files::replace(&folder.path().join("mine.safetensors"), "weights").unwrap();
        let text = r#"
            [[jobs]]
            experiment = "simd_pruning"
            networks = ["nin"]
            seeds = [1]
            variant = "short"
            original = "mine.safetensors"
        "#;
        let jobs = toml::from_str::<Plan>(text).unwrap().jobs(folder.path()).unwrap();
        assert_eq!(jobs[0].to_string(), "nin simd_pruning short from mine seed 1");
        let recipe = jobs[0].recipe(&shared(folder.path())).unwrap();
        assert_eq!(recipe.original_weights, Some(sha256(b"weights")));
        assert_eq!(recipe.stages[0].epochs, 0);
        let other = Job { original: None, ..jobs[0].clone() };
        assert_ne!(other.recipe(&shared(folder.path())).unwrap().hash(), recipe.hash());
    }

    #[test]
    fn every_plan_that_lies_here_is_of_recipes_that_there_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/plans");
        let plans = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let is_plan = |path: &PathBuf| {
            let name = path.to_string_lossy();
            name.ends_with(".toml") && !name.ends_with(".recipe.toml")
        };
        let plans: Vec<_> = plans.filter(is_plan).collect();
        assert!(plans.len() >= 3, "{plans:?}");
        let results = tempfile::tempdir().unwrap();
        let shared = shared(results.path());
        for plan in plans {
            let jobs = Plan::load(&plan).unwrap().jobs(&folder).unwrap();
            assert!(!jobs.is_empty(), "{}", plan.display());
            for job in jobs {
                job.recipe(&shared).unwrap_or_else(|error| panic!("{}: {error}", plan.display()));
            }
        }
    }
}

//! Campaigns: many runs from one plan, as many at once as the machine bears.
//!
//! A plan lists jobs; a job is an experiment on a network with a seed. Each runs in a process of its
//! own, which writes into the results tree as the experiment's binary does: what is done there is
//! skipped, what was cut goes on from its last epoch.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::{env, thread};

use serde::{Deserialize, Serialize};

use crate::data::synthetic_name;
use crate::error::{Error, Result};
use crate::experiment::{self, Options, Subject};
use crate::files;
use crate::report::ResultsTree;
use crate::train::recipe::{Precision, Recipe, Stage, Technique};
use crate::train::{EpochMetrics, Observer};

/// Jobs that may share one GPU, unless the user says otherwise: their kernels are small.
const JOBS_PER_GPU: usize = 4;

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
    /// Networks of the zoo.
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

    /// Its jobs, one by one, without repetitions. `folder` is the plan's own, for its recipes.
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
                    let job = Job {
                        technique,
                        network: network.clone(),
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
    fn arguments(&self, shared: &Options) -> (Subject, Options) {
        let subject = Subject {
            network: self.network.clone(),
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
        (subject, options)
    }

    /// The recipe that it runs.
    ///
    /// # Errors
    /// One that there is not, or that contradicts itself.
    pub fn recipe(&self, shared: &Options) -> Result<Recipe> {
        let (subject, options) = self.arguments(shared);
        experiment::recipe(&subject, self.technique, &options)
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
        Ok(ResultsTree::at(&shared.results).run(&recipe).summary().exists())
    }

    /// Runs it in this process; tells stdout how it goes on, a line of JSON each time.
    ///
    /// # Errors
    /// As [`experiment::run`].
    pub fn run(&self, shared: &Options) -> Result<()> {
        let (_, options) = self.arguments(shared);
        let report =
            experiment::run_recipe(&self.recipe(shared)?, &options, &mut Lines::default())?;
        let summary = &report.summary;
        tell(&News::Done { accuracy: summary.accuracy_after, weights_kept: summary.weights_kept });
        Ok(())
    }
}

/// What a job's process tells the campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// An epoch is done.
    Epoch {
        /// The stage's name.
        stage: String,
        /// Epochs of it that are done, this one among them.
        done: usize,
        /// All its epochs.
        epochs: usize,
        /// In percent.
        accuracy: f64,
    },
    /// The job is done.
    Done {
        /// In percent.
        accuracy: f64,
        /// Weights that are left.
        weights_kept: usize,
    },
}

fn tell(news: &News) {
    // Nothing in it that JSON could not hold but a NaN, which becomes null.
    println!("{}", serde_json::to_string(news).unwrap_or_default());
}

/// Tells every epoch.
#[derive(Debug, Default)]
struct Lines {
    epochs: usize,
    done: usize,
}

impl Observer for Lines {
    fn stage(&mut self, stage: &Stage, epochs_done: usize, _epochs_to_come: usize) {
        (self.epochs, self.done) = (stage.epochs, epochs_done);
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.done += 1;
        let (stage, accuracy) = (metrics.stage.clone(), metrics.accuracy());
        tell(&News::Epoch { stage, done: self.done, epochs: self.epochs, accuracy });
    }
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Its results were there before.
    Skipped,
    /// Its process has begun.
    Started,
    /// It goes on, or is done.
    News(News),
    /// It has failed, with the last line that it wrote and the file that has them all.
    Failed(String, PathBuf),
}

/// How a campaign ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs that ran to their end.
    pub done: usize,
    /// Jobs whose results were there before.
    pub skipped: usize,
    /// Jobs that failed.
    pub failed: usize,
}

/// How many jobs the machine bears at once, each on `threads` threads of `device`: as many as fill the
/// cores, but no more than four for each GPU.
pub fn jobs_at_once(device: &str, threads: usize, gpus: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let fit = (cores / threads.max(1)).max(1);
    if device.starts_with("cuda") { fit.min(JOBS_PER_GPU * gpus.max(1)) } else { fit }
}

/// Runs jobs, `at_once` at a time, in processes that `command` makes for a job and its slot; each
/// process's stderr goes to a file in `logs`. A job that fails keeps no other from running. `watch` is
/// told every change, by the job's place.
///
/// # Errors
/// A recipe that there is not; a folder of logs that cannot be written; a process that cannot start.
pub fn run(
    jobs: &[Job],
    shared: &Options,
    at_once: usize,
    logs: &Path,
    command: &dyn Fn(&Job, usize) -> Result<Command>,
    watch: &mut dyn FnMut(usize, &Status),
) -> Result<Tally> {
    // All recipes are looked at before the first job begins.
    let done = jobs.iter().map(|job| job.is_done(shared)).collect::<Result<Vec<bool>>>()?;
    fs::create_dir_all(logs).map_err(Error::io("create the folder", logs))?;
    let mut tally = Tally::default();
    for place in (0..jobs.len()).filter(|&place| done[place]) {
        tally.skipped += 1;
        watch(place, &Status::Skipped);
    }
    let mut waiting: VecDeque<usize> = (0..jobs.len()).filter(|&place| !done[place]).collect();
    let mut free: Vec<usize> = (0..at_once.max(1)).rev().collect();
    let (sender, changes): (Sender<Change>, Receiver<Change>) = mpsc::channel();
    let mut working = 0;
    while working > 0 || !waiting.is_empty() {
        while let (Some(&slot), Some(&place)) = (free.last(), waiting.front()) {
            let log = logs.join(format!("{}.log", jobs[place].to_string().replace(' ', "-")));
            start(place, slot, command(&jobs[place], slot)?, log, sender.clone())?;
            watch(place, &Status::Started);
            free.pop();
            waiting.pop_front();
            working += 1;
        }
        // Every process that runs has a sender, so this ends.
        let Ok(Change { place, slot, status }) = changes.recv() else { break };
        let ended = matches!(&status, Status::Failed(..) | Status::News(News::Done { .. }));
        if ended {
            working -= 1;
            free.push(slot);
            let failed = matches!(&status, Status::Failed(..));
            *(if failed { &mut tally.failed } else { &mut tally.done }) += 1;
        }
        watch(place, &status);
    }
    Ok(tally)
}

struct Change {
    place: usize,
    slot: usize,
    status: Status,
}

/// Starts a process and a thread that follows it to its end.
fn start(
    place: usize,
    slot: usize,
    mut command: Command,
    log: PathBuf,
    sender: Sender<Change>,
) -> Result<()> {
    let file = File::create(&log).map_err(Error::io("create", &log))?;
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    let child = command.spawn().map_err(Error::io("start", &program))?;
    thread::spawn(move || {
        let status = follow(child, &log, |news| {
            let _ = sender.send(Change { place, slot, status: Status::News(news) });
        });
        // Nobody listens any more where the campaign itself has ended.
        let _ = sender.send(Change { place, slot, status });
    });
    Ok(())
}

/// Passes on what a process tells, but for its end, which is returned once the process is gone.
fn follow(mut child: Child, log: &Path, tell: impl Fn(News)) -> Status {
    let mut end = None;
    for line in
        child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).flatten()
    {
        match serde_json::from_str::<News>(&line) {
            Ok(news @ News::Done { .. }) => end = Some(news),
            Ok(news) => tell(news),
            Err(_) => {} // a line of a library
        }
    }
    match (child.wait(), end) {
        (Ok(status), Some(done)) if status.success() => Status::News(done),
        (ended, _) => {
            let text = files::read_text(log).unwrap_or_default();
            let last = text.lines().rev().find(|line| !line.trim().is_empty());
            let reason = last.map_or_else(|| format!("{ended:?}"), str::to_owned);
            Status::Failed(reason, log.to_owned())
        }
    }
}

/// The command that runs one job in a process of this very program; see [`Job::run`].
///
/// # Errors
/// A program that cannot be found again; a path that JSON cannot hold.
pub fn this_program(job: &Job, arguments: &[String]) -> Result<Command> {
    let program = env::current_exe().map_err(Error::io("find", "this program"))?;
    let text = serde_json::to_string(job)
        .map_err(|error| Error::argument("start a job", "a path in UTF-8", error.to_string()))?;
    let mut command = Command::new(program);
    command.arg("--job").arg(text).args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn shared(results: &Path) -> Options {
        let results = results.display().to_string();
        Cli::parse_from(["campaign", "--results", &results]).options
    }

    fn jobs(text: &str) -> Vec<Job> {
        toml::from_str::<Plan>(text).unwrap().jobs(Path::new("plans")).unwrap()
    }

    const PLAN: &str = r#"
        [[jobs]]
        experiment = "node_pruning"
        networks = ["lenet-300-100", "lenet-5"]
        seeds = [1, 2]

        [[jobs]]
        experiment = "combined_pruning"
        networks = ["lenet-5"]
        variant = "all"
        seeds = [1, 1]
    "#;

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
        assert_eq!(recipe.original_weights, Some(crate::data::fetch::sha256(b"weights")));
        assert_eq!(recipe.stages[0].epochs, 0);
        let other = Job { original: None, ..jobs[0].clone() };
        assert_ne!(other.recipe(&shared(folder.path())).unwrap().hash(), recipe.hash());
    }

    #[test]
    fn every_plan_that_lies_here_is_of_recipes_that_the_program_carries() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/plans");
        let plans = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let plans: Vec<_> =
            plans.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
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

    #[test]
    fn jobs_run_side_by_side_done_ones_are_skipped_and_one_failure_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = jobs(PLAN);
        let shared = shared(&folder.path().join("results"));
        // The second job is done already.
        let recipe = jobs[1].recipe(&shared).unwrap();
        let summary = ResultsTree::at(&shared.results).run(&recipe).summary();
        files::replace(&summary, "{}").unwrap();
        // The third one fails; the others wait until two run at once.
        let meeting = folder.path().join("meeting");
        fs::create_dir(&meeting).unwrap();
        let command = |job: &Job, slot: usize| {
            let mut shell = Command::new("sh");
            let script = if job.seed == 2 && job.network == "lenet-300-100" {
                "echo all is lost >&2; exit 3".to_owned()
            } else {
                format!(
                    "touch {0}/{slot}; while [ $(ls {0} | wc -l) -lt 2 ]; do sleep 0.01; done; \
                     echo not JSON; echo '{{\"done\":{{\"accuracy\":99.0,\"weights_kept\":5}}}}'",
                    meeting.display()
                )
            };
            shell.args(["-c", &script]);
            Ok(shell)
        };
        let mut seen = Vec::new();
        let logs = folder.path().join("logs");
        let tally = run(&jobs, &shared, 2, &logs, &command, &mut |place, status| {
            seen.push((place, status.clone()));
        });
        assert_eq!(tally.unwrap(), Tally { done: 3, skipped: 1, failed: 1 });
        assert!(seen.contains(&(1, Status::Skipped)));
        let failure = seen.iter().find_map(|(place, status)| match status {
            Status::Failed(reason, log) => Some((*place, reason.clone(), log.clone())),
            _ => None,
        });
        let (place, reason, log) = failure.unwrap();
        assert_eq!((place, reason.as_str()), (2, "all is lost"));
        assert!(files::read_text(&log).unwrap().contains("all is lost"));
        assert!(!seen.iter().any(|(place, status)| *place == 1 && *status == Status::Started));
    }

    #[test]
    fn a_plan_with_a_recipe_that_there_is_not_runs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut jobs = jobs(PLAN);
        jobs[4].variant = Some("none".into());
        let command = |_: &Job, _: usize| -> Result<Command> { panic!("no job may begin") };
        let shared = shared(folder.path());
        let error = run(&jobs, &shared, 1, folder.path(), &command, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("--variant none"), "{error}");
    }

    #[test]
    fn what_a_job_tells_is_read_as_it_comes() {
        let epoch = News::Epoch { stage: "node-0".into(), done: 2, epochs: 5, accuracy: 98.5 };
        let text = serde_json::to_string(&epoch).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("echo '{text}'; exit 0")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        let log = tempfile::NamedTempFile::new().unwrap();
        let status = follow(child, log.path(), |news| told.borrow_mut().push(news));
        assert_eq!(told.into_inner(), [epoch]);
        // It ended well, but never said that it was done.
        assert!(matches!(status, Status::Failed(..)), "{status:?}");
    }

    #[test]
    fn a_machine_bears_as_many_jobs_as_it_has_room_for() {
        let cores = thread::available_parallelism().unwrap().get();
        assert_eq!(jobs_at_once("cpu", 1, 0), cores);
        assert_eq!(jobs_at_once("cpu", 2 * cores, 0), 1);
        assert!(jobs_at_once("cuda", 1, 1) <= JOBS_PER_GPU);
    }
}

//! Campaigns: many runs from one plan, as many at once as the machine bears.
//!
//! A plan lists jobs; a job is an experiment on a network with a seed. Each runs in a process of its
//! own, which writes into the results tree as the experiment's binary does: what is done there is
//! skipped, what was cut goes on from its last epoch.

mod plan;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::{env, thread};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::experiment::{self, Options};
use crate::files;
use crate::train::recipe::Stage;
use crate::train::{EpochMetrics, Observer};

pub use plan::{Job, Jobs, Plan, Shard};

/// Jobs that may share one GPU, unless the user says otherwise: their kernels are small.
const JOBS_PER_GPU: usize = 4;

impl Job {
    /// Runs it in this process; tells stdout how it goes on, a line of JSON each time.
    ///
    /// # Errors
    /// As [`experiment::run`].
    pub fn run(&self, shared: &Options) -> Result<()> {
        let (_, options) = self.arguments(shared)?;
        let report =
            experiment::run_recipe(&self.recipe(shared)?, &options, &mut EventPrinter::default())?;
        let summary = &report.summary;
        tell(&JobEvent::Done {
            accuracy: summary.accuracy_after,
            weights_kept: summary.weights_kept,
        });
        Ok(())
    }
}

/// What a job's process tells the campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobEvent {
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

fn tell(event: &JobEvent) {
    // Nothing in it that JSON could not hold but a NaN, which becomes null.
    println!("{}", serde_json::to_string(event).unwrap_or_default());
}

/// Tells every epoch.
#[derive(Debug, Default)]
struct EventPrinter {
    epochs: usize,
    done: usize,
}

impl Observer for EventPrinter {
    fn stage(&mut self, stage: &Stage, epochs_done: usize, _epochs_to_come: usize) {
        (self.epochs, self.done) = (stage.epochs, epochs_done);
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.done += 1;
        let (stage, accuracy) = (metrics.stage.clone(), metrics.accuracy());
        tell(&JobEvent::Epoch { stage, done: self.done, epochs: self.epochs, accuracy });
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
    JobEvent(JobEvent),
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
        let ended = matches!(&status, Status::Failed(..) | Status::JobEvent(JobEvent::Done { .. }));
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
        let status = follow(child, &log, |event| {
            let _ = sender.send(Change { place, slot, status: Status::JobEvent(event) });
        });
        // Nobody listens any more where the campaign itself has ended.
        let _ = sender.send(Change { place, slot, status });
    });
    Ok(())
}

/// Passes on what a process tells, but for its end, which is returned once the process is gone.
fn follow(mut child: Child, log: &Path, tell: impl Fn(JobEvent)) -> Status {
    let mut end = None;
    for line in
        child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).flatten()
    {
        match serde_json::from_str::<JobEvent>(&line) {
            Ok(event @ JobEvent::Done { .. }) => end = Some(event),
            Ok(event) => tell(event),
            Err(_) => {} // a line of a library
        }
    }
    match (child.wait(), end) {
        (Ok(status), Some(done)) if status.success() => Status::JobEvent(done),
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

    use crate::report::ResultsTree;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    pub(super) fn shared(results: &Path) -> Options {
        let results = results.display().to_string();
        Cli::parse_from(["campaign", "--results", &results]).options
    }

    pub(super) fn jobs(text: &str) -> Vec<Job> {
        toml::from_str::<Plan>(text).unwrap().jobs(Path::new("plans")).unwrap()
    }

    pub(super) const PLAN: &str = r#"
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
    fn jobs_run_side_by_side_done_ones_are_skipped_and_one_failure_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = jobs(PLAN);
        let shared = shared(&folder.path().join("results"));
        // The second job is done already.
        let recipe = jobs[1].recipe(&shared).unwrap();
        let summary = ResultsTree::at(&shared.results.results).run(&recipe).summary();
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
        let epoch = JobEvent::Epoch { stage: "node-0".into(), done: 2, epochs: 5, accuracy: 98.5 };
        let text = serde_json::to_string(&epoch).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("echo '{text}'; exit 0")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        let log = tempfile::NamedTempFile::new().unwrap();
        let status = follow(child, log.path(), |event| told.borrow_mut().push(event));
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

//! A plan of many runs: skips what is done, goes on with what was cut, a line for each.

use std::path::Path;
use std::process::ExitCode;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use scalpel::campaign::{self, Job, JobEvent, Plan, Status};
use scalpel::cli::{self, Campaign};
use scalpel::error::Error;

/// What makes libtorch multiply in TF32 in dense layers too, as cuDNN's convolutions do by themselves.
const TF32: &str = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE";

fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Campaign) -> anyhow::Result<ExitCode> {
    if let Some(text) = &cli.job {
        serde_json::from_str::<Job>(text)?.run(&cli.options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = &cli.options;
    let plan = cli.plan.as_deref().unwrap_or(Path::new("plan.toml"));
    for (given, name) in [
        (options.seed.is_some(), "--seed"),
        (options.original.is_some(), "--original"),
        (options.quick, "--quick"),
        (options.validation.is_some(), "--validation"),
        (options.precision.is_some(), "--precision"),
        (options.run.json.json, "--json"),
    ] {
        if given {
            return Err(Error::argument("campaign", format!("{name} in the plan"), name).into());
        }
    }
    let folder = plan.parent().unwrap_or(Path::new(""));
    let jobs = cli.shard.of(Plan::load(plan)?.jobs(folder)?);
    let threads = options.run.threads.unwrap_or(1);
    let at_once = cli
        .parallel
        .unwrap_or_else(|| campaign::jobs_at_once(&options.run.device, threads.into(), cli.gpus));
    println!("{} jobs, {at_once} at once, {threads} threads each", jobs.len());

    let command = |job: &Job, slot: usize| {
        let device = match options.run.device.as_str() {
            "cuda" => format!("cuda:{}", slot % cli.gpus.max(1)),
            device => device.to_owned(),
        };
        let path = |path: &Path| path.display().to_string();
        let mut arguments = vec!["--device".to_owned(), device];
        arguments.extend(["--threads".to_owned(), threads.to_string()]);
        arguments.extend(["--results".to_owned(), path(&options.results.results)]);
        arguments.extend(["--checkpoints".to_owned(), path(&options.checkpoints.checkpoints)]);
        arguments.extend(options.synthetic.then(|| "--synthetic".to_owned()));
        let mut command = campaign::this_program(job, &arguments)?;
        if options.run.device.starts_with("cuda") && std::env::var_os(TF32).is_none() {
            command.env(TF32, "1");
        }
        Ok(command)
    };
    let mut lines = StatusLines::new(&jobs);
    let logs = options.checkpoints.checkpoints.join("logs");
    let tally = campaign::run(&jobs, options, at_once, &logs, &command, &mut |place, status| {
        lines.show(place, status);
    })?;
    println!("{} done, {} done before, {} failed", tally.done, tally.skipped, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for each job: redrawn on a terminal, printed anew at each stage elsewhere.
struct StatusLines {
    names: Vec<String>,
    bars: Vec<ProgressBar>,
    stages: Vec<String>,
}

impl StatusLines {
    fn new(jobs: &[Job]) -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix}: {msg}");
        let bar = |job: &Job| {
            let bar = all.add(ProgressBar::new_spinner());
            if let Ok(style) = &style {
                bar.set_style(style.clone());
            }
            bar.set_prefix(job.to_string());
            bar.set_message("waits");
            bar
        };
        let names = jobs.iter().map(Job::to_string).collect();
        Self {
            names,
            bars: jobs.iter().map(bar).collect(),
            stages: vec![String::new(); jobs.len()],
        }
    }

    fn show(&mut self, place: usize, status: &Status) {
        let mut changed = true;
        let message = match status {
            Status::Skipped => "done before".into(),
            Status::Started => "started".into(),
            Status::JobEvent(JobEvent::Epoch { stage, done, epochs, accuracy }) => {
                changed = self.stages[place] != *stage;
                self.stages[place].clone_from(stage);
                format!("{stage}, epoch {done} of {epochs}, {accuracy:.2}%")
            }
            Status::JobEvent(JobEvent::Done { accuracy, weights_kept }) => {
                format!("done, {accuracy:.2}%, {weights_kept} weights left")
            }
            Status::Failed(reason, log) => format!("FAILED, see {}: {reason}", log.display()),
        };
        let bar = &self.bars[place];
        if bar.is_hidden() && changed {
            println!("{}: {message}", self.names[place]);
        }
        match status {
            Status::Started | Status::JobEvent(JobEvent::Epoch { .. }) => bar.set_message(message),
            _ => bar.finish_with_message(message),
        }
    }
}

//! The machine and the program behind a result.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::device::cpu;

/// What a result's `environment.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Day of the run, in UTC.
    pub date: String,
    /// The processor's name.
    pub cpu: String,
    /// The instruction sets that our kernels know of and this processor has.
    pub isa: Vec<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads that trained. Other counts round otherwise, and end elsewhere within the spread of seeds.
    #[serde(default)]
    pub threads: Option<usize>,
    /// `cpu`, `cuda` or `cuda:1`.
    pub device: String,
    /// Name and driver of the GPU: the NVIDIA one, where there is one, or the one that ran.
    pub gpu: Option<String>,
    /// Whether a CPU stood in for the GPU: its times are no GPU's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub software_gpu: bool,
    /// What the device reaches at best, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
    /// Operating system and architecture.
    pub system: String,
    /// Version of libtorch; absent in a build without it.
    pub libtorch: Option<String>,
    /// Version of this crate.
    pub scalpel: String,
    /// Commit of the working tree, with `+` where it has changes; absent outside of one.
    pub commit: Option<String>,
}

/// What a device reaches at best, measured beside the results.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// GB/s of a large copy, read and written.
    pub copy_gb_per_s: f64,
    /// GFLOP/s of a large square f32 product by the library to beat.
    pub dense_gflops: f64,
}

impl std::fmt::Display for Ceilings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { copy_gb_per_s, dense_gflops } = self;
        write!(f, "a copy at {copy_gb_per_s:.0} GB/s, a dense product at {dense_gflops:.0} GFLOP/s")
    }
}

impl Environment {
    /// Reads off this machine.
    pub fn read(device: &str) -> Self {
        Self {
            date: today(),
            cpu: cpu_name(),
            isa: cpu::instruction_sets().into_iter().map(str::to_owned).collect(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: None,
            software_gpu: false,
            ceilings: None,
            device: device.into(),
            gpu: first_line(
                "nvidia-smi",
                &["--query-gpu=name,driver_version", "--format=csv,noheader"],
            ),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            libtorch: libtorch_version(),
            scalpel: env!("CARGO_PKG_VERSION").into(),
            commit: commit(),
        }
    }

    /// The hardware in a few words, for a table's row.
    pub fn hardware(&self) -> String {
        match (&self.gpu, self.device.as_str()) {
            (Some(gpu), device) if device != "cpu" && self.software_gpu => {
                format!("{gpu}: A CPU STANDS IN FOR THE GPU, these are no GPU's times")
            }
            (Some(gpu), device) if device != "cpu" => gpu.clone(),
            _ => format!("{}, {} cores", self.cpu, self.cores),
        }
    }
}

fn libtorch_version() -> Option<String> {
    // The binding accepts this version alone.
    cfg!(feature = "torch").then(|| "2.11.0".into())
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

fn commit() -> Option<String> {
    // A bundle runs far from its checkout, and its script says where it is from.
    if let Ok(told) = std::env::var("SCALPEL_COMMIT") {
        return Some(told);
    }
    let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"])?;
    // Results are written while a run goes on; they do not make the program another one.
    let changed = first_line(
        "git",
        &["status", "--porcelain", "--", ".", ":(exclude)results", ":(exclude)RESULTS.md"],
    );
    Some(if changed.is_some() { format!("{commit}+") } else { commit })
}

fn cpu_name() -> String {
    let linux = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let other = || first_line("sysctl", &["-n", "machdep.cpu.brand_string"]);
    linux.or_else(other).unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH))
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date_of((seconds / 86_400) as i64)
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar. The year is taken to begin
/// in March, so that the leap day is its last.
fn date_of(day: i64) -> String {
    let day = day + 719_468; // days from 0000-03-01 to 1970-01-01
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + 400 * era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (day, date) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (17_341, "2017-06-24"),
            (20_513, "2026-03-01"),
        ] {
            assert_eq!(date_of(day), date);
        }
    }

    #[test]
    fn a_machine_has_a_processor_and_a_date() {
        let environment = Environment::read("cpu");
        assert!(environment.cores >= 1 && !environment.cpu.is_empty());
        assert!(environment.date.as_str() >= "2026-01-01", "{}", environment.date);
        assert!(environment.hardware().contains(&environment.cpu));
    }
}

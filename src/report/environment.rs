//! The machine and the program behind a result.

use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

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
            date: OffsetDateTime::now_utc().date().to_string(),
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

    /// Notes which GPU ran. Of an NVIDIA GPU through CUDA, the driver's own tool has told more already.
    pub fn ran_on(&mut self, name: String, software: bool) {
        self.software_gpu = software;
        if software || !self.device.starts_with("cuda") || self.gpu.is_none() {
            self.gpu = Some(name);
        }
    }

    /// The hardware in a few words, for a table's row.
    pub fn hardware(&self) -> String {
        match (&self.gpu, self.device.as_str()) {
            (Some(gpu), device) if device != "cpu" && self.software_gpu => {
                format!("{gpu}: A CPU STANDS IN FOR THE GPU, these are no GPU's times")
            }
            (Some(gpu), device) if device != "cpu" => gpu.clone(),
            _ => format!(
                "{}, {} core{}",
                self.cpu,
                self.cores,
                if self.cores == 1 { "" } else { "s" }
            ),
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

/// The commit that this program was built from, with `-dirty` where its sources differed; none where git did not say.
fn commit() -> Option<String> {
    let stamped = env!("SCALPEL_COMMIT");
    (!stamped.is_empty()).then(|| stamped.to_owned())
}

fn cpu_name() -> String {
    let linux = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| name_in(&text));
    let other = || first_line("sysctl", &["-n", "machdep.cpu.brand_string"]);
    linux.or_else(other).unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH))
}

/// The first processor's name in `/proc/cpuinfo`; with its family and model where the name has no number, as in
/// virtual machines, which call processors of several generations the same.
fn name_in(cpuinfo: &str) -> Option<String> {
    let field = |key: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    let name = field("model name")?;
    Some(match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) if !name.contains(|c: char| c.is_ascii_digit()) => {
            format!("{name} (family {family}, model {model})")
        }
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_whose_name_has_no_number_are_told_apart() {
        let of = |name: &str| {
            format!(
                "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: {name}\n\nmodel\t: 9\n"
            )
        };
        assert_eq!(name_in(&of("AMD EPYC")).unwrap(), "AMD EPYC (family 25, model 17)");
        assert_eq!(name_in(&of("AMD EPYC 9654")).unwrap(), "AMD EPYC 9654");
        assert_eq!(name_in("model name : Other\n").unwrap(), "Other");
        assert_eq!(name_in("Features : fp asimd\n"), None);
    }

    #[test]
    fn a_machine_has_a_processor_and_a_date() {
        let environment = Environment::read("cpu");
        assert!(environment.cores >= 1 && !environment.cpu.is_empty());
        assert!(environment.date.as_str() >= "2026-01-01", "{}", environment.date);
        let of = |cores| Environment { cpu: "A processor".into(), cores, ..environment.clone() };
        assert_eq!(
            [of(1).hardware(), of(2).hardware()],
            ["A processor, 1 core", "A processor, 2 cores"]
        );
    }
}

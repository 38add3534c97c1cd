//! Which class of the paper's a device belongs to, what the paper prescribes for it, and the numbers that
//! it goes by (section 3.1 of the paper: hardware by its parallelism).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cpu;
use super::gpu::Gpu;

/// Hardware by how much it does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HardwareClass {
    /// One core with short vectors: a microcontroller, or one thread of a processor.
    Low,
    /// Several cores with vectors: all threads of a processor.
    Moderate,
    /// A GPU.
    High,
}

impl HardwareClass {
    /// The class of a device by its name, run on so many threads.
    pub fn of(device: &str, threads: usize) -> Self {
        match device {
            "cpu" if threads <= 1 => Self::Low,
            "cpu" => Self::Moderate,
            _ => Self::High,
        }
    }

    /// What the paper prescribes.
    pub fn prescription(self) -> &'static str {
        match self {
            Self::Low => "SIMD-aware weight pruning, in groups of the SIMD width",
            Self::Moderate => "node pruning of convolutions and SIMD-aware pruning of dense layers",
            Self::High => "node pruning",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
        }
    }
}

/// A cache of the first core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u32,
    /// Its size.
    pub bytes: usize,
}

/// A device's class, and what it was told from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hardware {
    /// A processor.
    Cpu {
        /// Threads that are used.
        threads: usize,
        /// Cores that there are.
        cores: usize,
        /// Floats of the widest vector that our kernels use here.
        lanes: usize,
        /// Data caches, the nearest first; none where the system does not tell.
        caches: Vec<Cache>,
    },
    /// A GPU.
    Gpu {
        /// Its name.
        name: String,
        /// Multiprocessors, where the driver tells; else a guess.
        multiprocessors: u32,
        /// Bytes of its last cache; 0 where the driver does not tell.
        cache_bytes: usize,
        /// Whether a CPU stands in for it.
        software: bool,
    },
}

impl Hardware {
    /// This processor, of which so many threads are used.
    pub fn cpu(threads: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = match (cpu::Avx512::new(), cpu::Avx2::new()) {
            (Some(_), _) => 16,
            (None, Some(_)) => 8,
            // SSE and NEON.
            (None, None) => 4,
        };
        Self::Cpu { threads, cores, lanes, caches: caches() }
    }

    /// A GPU.
    pub fn gpu(gpu: &dyn Gpu) -> Self {
        let limits = gpu.limits();
        Self::Gpu {
            name: gpu.name(),
            multiprocessors: limits.multiprocessors,
            cache_bytes: limits.cache_bytes,
            software: limits.software,
        }
    }

    /// Its class.
    pub fn class(&self) -> HardwareClass {
        match self {
            Self::Cpu { threads, .. } => HardwareClass::of("cpu", *threads),
            Self::Gpu { .. } => HardwareClass::High,
        }
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        write!(f, "{} parallelism (", class.name())?;
        match self {
            Self::Cpu { threads, cores, lanes, caches } => {
                write!(f, "{threads} of {cores} cores, vectors of {lanes} floats")?;
                for Cache { level, bytes } in caches {
                    write!(f, ", L{level} of {} KiB", bytes >> 10)?;
                }
            }
            Self::Gpu { name, multiprocessors, cache_bytes, software } => {
                write!(f, "{name}, {multiprocessors} multiprocessors")?;
                if *cache_bytes > 0 {
                    write!(f, ", a cache of {} KiB", cache_bytes >> 10)?;
                }
                if *software {
                    write!(f, "; A CPU STANDS IN FOR IT: its times are no GPU's")?;
                }
            }
        }
        write!(f, "): the paper prescribes {}", class.prescription())
    }
}

/// The data caches of the first core, as Linux tells them.
fn caches() -> Vec<Cache> {
    let mut caches = Vec::new();
    for index in 0..8 {
        let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let part = |part: &str| {
            let text = std::fs::read_to_string(format!("{folder}/{part}")).ok()?;
            Some(text.trim().to_owned())
        };
        let Some(kind) = part("type") else { break };
        let level = part("level").and_then(|text| text.parse().ok());
        let bytes = part("size").and_then(|text| bytes_of(&text));
        if let (Some(level), Some(bytes)) = (level, bytes)
            && kind != "Instruction"
        {
            caches.push(Cache { level, bytes });
        }
    }
    caches.sort_by_key(|cache| cache.level);
    caches
}

/// The bytes of a size such as `48K` or `32M`.
fn bytes_of(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: usize = digits.parse().ok()?;
    match &text[digits.len()..] {
        "" => Some(number),
        "K" => number.checked_mul(1 << 10),
        "M" => number.checked_mul(1 << 20),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_belong_to_the_papers_classes() {
        assert_eq!(HardwareClass::of("cpu", 1), HardwareClass::Low);
        assert_eq!(HardwareClass::of("cpu", 2), HardwareClass::Moderate);
        assert_eq!(HardwareClass::of("cuda:1", 1), HardwareClass::High);
        let one = Hardware::cpu(1);
        assert!(one.to_string().starts_with("low parallelism (1 of"), "{one}");
        assert!(one.to_string().contains("SIMD-aware"), "{one}");
        let Hardware::Cpu { lanes, cores, .. } = Hardware::cpu(2) else { panic!("a CPU") };
        assert!(lanes.is_power_of_two() && cores >= 1);
    }

    #[test]
    fn sizes_are_read_with_their_units_or_not_at_all() {
        assert_eq!(bytes_of("48K"), Some(48 << 10));
        assert_eq!(bytes_of("32M"), Some(32 << 20));
        assert_eq!(bytes_of("512"), Some(512));
        assert_eq!((bytes_of(""), bytes_of("4G"), bytes_of("K")), (None, None, None));
    }
}

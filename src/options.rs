//! Options that mean the same in every binary and bench.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command, Parser};
use serde_json::json;

use crate::error::Error;
use crate::network::{Network, zoo};
use crate::report::Table;

/// The networks of the zoo, as a positional argument takes them.
pub(crate) fn network_names() -> PossibleValuesParser {
    PossibleValuesParser::new(zoo::NAMES)
}

/// A network of the zoo by its name, or one that a file describes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkOrFile;

impl TypedValueParser for NetworkOrFile {
    type Value = Network;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Network, clap::Error> {
        let network = StringValueParser::new().try_map(|name| Network::open(&name));
        network.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(zoo::NAMES.into_iter().map(PossibleValue::new)))
    }
}

/// What computes, on how many threads, and how results are printed.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// What computes: cpu; cuda or cuda:1, an NVIDIA GPU; wgpu, any GPU (SCALPEL_WGPU_ADAPTER chooses)
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of the processor; all cores, where absent
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// How results are printed.
    #[command(flatten)]
    pub json: JsonArg,
}

impl RunArgs {
    /// As many threads as were asked for, else as many as there are cores.
    pub fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }
}

/// The results tree.
#[derive(Args, Clone, Debug)]
pub struct ResultsArg {
    /// The results tree
    #[arg(long, value_name = "FOLDER", default_value = "results")]
    pub results: PathBuf,
}

/// The checkpoints.
#[derive(Args, Clone, Debug)]
pub struct CheckpointsArg {
    /// The folder of checkpoints: a run that was cut goes on from there
    #[arg(long, value_name = "FOLDER", default_value = "checkpoints")]
    pub checkpoints: PathBuf,
}

/// How results are printed.
#[derive(Args, Clone, Copy, Debug)]
pub struct JsonArg {
    /// Print JSON to stdout
    #[arg(long)]
    pub json: bool,
}

impl JsonArg {
    /// Prints a table under its title: as Markdown, or as one line `{"title": ..., "rows": [{column: value}, ...]}`.
    pub fn table(self, title: &str, table: &Table) {
        match self.json {
            true => println!("{}", json!({ "title": title, "rows": table.json() })),
            false => println!("\n{title}\n\n{}", table.markdown()),
        }
    }

    /// Prints what is no table: as it is, or as one line `{"note": ...}`.
    pub fn note(self, text: &str) {
        match self.json {
            true => println!("{}", json!({ "note": text })),
            false => println!("{text}"),
        }
    }
}

/// The published models.
#[derive(Args, Clone, Debug)]
pub struct ZooDirArg {
    /// The folder of published models
    #[arg(long, value_name = "FOLDER", default_value = "zoo")]
    pub zoo_dir: PathBuf,
}

/// What every bench takes.
#[derive(Clone, Debug, Parser)]
pub struct BenchArgs {
    /// What to measure, as the bench's first comment says; all, where absent
    pub words: Vec<String>,
    /// What computes, and how results are printed.
    #[command(flatten)]
    pub run: RunArgs,
    /// What cargo gives to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl BenchArgs {
    /// The arguments of this bench; ends it where they are none. Those that measure on a CPU alone say so of other
    /// devices.
    ///
    /// # Errors
    /// Another device than the CPU.
    pub fn on_cpu() -> crate::error::Result<Self> {
        let given = Self::parse();
        if given.run.device == "cpu" {
            return Ok(given);
        }
        Err(Error::argument("--device", "cpu: this bench measures nothing else", given.run.device))
    }

    /// The first word, where there is one.
    pub fn first(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }
}

//! Where a run stands, on disk: one file per epoch of the stage at work, one per finished stage.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::outcome::{EpochMetrics, stage_folder};
use crate::error::{Error, Result};
use crate::files;
use crate::network::Weights;

const STATE_KEY: &str = "scalpel.checkpoint";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The run that it belongs to: network, stage, hash and seed.
    pub run: String,
    /// Finished epochs.
    pub epochs_done: usize,
    /// Correct test images at the start of the stage.
    pub correct_at_start: usize,
    /// Correct test images of the weights that the stage would keep by now.
    pub correct_kept: usize,
    /// At the start: correct by the five highest scores, where there are many classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5_at_start: Option<usize>,
    /// Likewise, of the weights that the stage would keep by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5_kept: Option<usize>,
    /// A row per finished epoch of this stage.
    pub metrics: Vec<EpochMetrics>,
    /// Seconds that the finished epochs took, their scoring included; `None` in a stage that was begun by a
    /// version that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl State {
    /// That of a run of which no epoch is done.
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            epochs_done: 0,
            correct_at_start: 0,
            correct_kept: 0,
            top5_at_start: None,
            top5_kept: None,
            metrics: Vec::new(),
            seconds: Some(0.0),
        }
    }
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it says of itself.
    pub state: State,
    /// The weights of the last epoch, masks among them.
    pub weights: Weights,
    /// The velocities of the optimiser.
    pub velocities: Weights,
    /// The weights that the stage would keep by now.
    pub kept: Weights,
}

/// The folder of one stage of one run.
#[derive(Debug)]
pub struct StageFolder {
    folder: PathBuf,
    run: String,
    _lock: File,
}

impl StageFolder {
    /// Opens `<root>/<hash>/seed-<seed>`; waits while another process works on the same stage.
    ///
    /// # Errors
    /// A folder that cannot be made or written to.
    pub fn open(root: &Path, network: &str, stage: &str, hash: &str, seed: u64) -> Result<Self> {
        let folder = stage_folder(root, hash, seed);
        fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        if lock.try_lock().is_err() {
            eprintln!("another process works on stage {stage}; waiting for it");
            lock.lock().map_err(Error::io("lock", &path))?;
        }
        let run = format!("{network}, stage {stage}, hash {hash}, seed {seed}");
        Ok(Self { folder, run, _lock: lock })
    }

    /// The run that this folder is for.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The stage's result, once it is finished.
    pub fn result(&self) -> PathBuf {
        self.folder.join("result.safetensors")
    }

    /// Where the stage at work stands.
    pub fn progress(&self) -> PathBuf {
        self.folder.join("progress.safetensors")
    }

    /// Reads a checkpoint; `None` where there is none.
    ///
    /// # Errors
    /// A file that is no checkpoint, or one of another run.
    pub fn read(&self, path: &Path) -> Result<Option<Checkpoint>> {
        if !path.exists() {
            return Ok(None);
        }
        let name = path.display().to_string();
        let (arrays, metadata) = Weights::from_bytes(&files::read(path)?, &name)?;
        let state =
            metadata.get(STATE_KEY).and_then(|text| serde_json::from_str::<State>(text).ok());
        let state = state.ok_or_else(|| Error::malformed(&name, "a checkpoint", "another file"))?;
        if state.run != self.run {
            let (path, expected) = (path.to_owned(), self.run.clone());
            return Err(Error::ForeignCheckpoint { path, expected, found: state.run });
        }
        let part = |prefix: &str| -> Weights {
            let own = arrays.iter().filter_map(|(name, array)| {
                Some((name.strip_prefix(prefix)?.to_owned(), array.clone()))
            });
            own.collect()
        };
        Ok(Some(Checkpoint {
            state,
            weights: part("weights/"),
            velocities: part("velocities/"),
            kept: part("kept/"),
        }))
    }

    /// Writes a checkpoint, whole or not at all.
    ///
    /// # Errors
    /// What the file system refuses; a checkpoint of another run in its place, which stays.
    pub fn write(&self, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
        let mut arrays = Weights::default();
        for (prefix, part) in [
            ("weights/", &checkpoint.weights),
            ("velocities/", &checkpoint.velocities),
            ("kept/", &checkpoint.kept),
        ] {
            for (name, array) in part.iter() {
                arrays.insert(format!("{prefix}{name}"), array.clone());
            }
        }
        let text = serde_json::to_string(&checkpoint.state).map_err(|error| {
            Error::argument("write a checkpoint", "finite numbers", error.to_string())
        })?;
        files::replace(path, arrays.to_bytes(Some((STATE_KEY, text)))?)
    }

    /// Removes the progress of a stage that is finished.
    pub fn forget_progress(&self) {
        let _ = fs::remove_file(self.progress()); // its result says the same and more
    }
}

//! One run's folder in the results tree: the files in it, written and read.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::json::{read_json, read_json_where_it_is, write_json};
use super::metrics::metrics_csv;
use super::records::{Latency, StageDuration, Summary};
use crate::error::Result;
use crate::files;
use crate::train::Outcome;
use crate::train::recipe::Recipe;

/// One run's folder in it.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub(super) folder: PathBuf,
}

/// A run that lies in the tree.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// Where it lies.
    pub folder: RunFolder,
    /// Hash of its recipe.
    pub hash: String,
    /// What it came to.
    pub summary: Summary,
    /// Where and when.
    pub environment: Environment,
    /// How fast, where that was measured.
    pub latency: Option<Latency>,
    /// How long training took, stage by stage, where that was counted.
    pub durations: Option<Vec<StageDuration>>,
}

impl StoredRun {
    /// Where it lies, from the project's root.
    pub(super) fn link(&self) -> String {
        let Summary { technique, network, seed, .. } = &self.summary;
        format!("results/{}/{network}/{}/seed-{seed}", technique.experiment(), self.hash)
    }
}

impl RunFolder {
    /// The recipe that ran.
    pub fn recipe(&self) -> PathBuf {
        self.folder.join("recipe.toml")
    }

    /// A row per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.folder.join("metrics.csv")
    }

    /// What it came to.
    pub fn summary(&self) -> PathBuf {
        self.folder.join("summary.json")
    }

    /// Where and when.
    pub fn environment(&self) -> PathBuf {
        self.folder.join("environment.json")
    }

    /// Measured inference times.
    pub fn latency(&self) -> PathBuf {
        self.folder.join("latency.json")
    }

    /// How long each stage's training took.
    pub fn durations(&self) -> PathBuf {
        self.folder.join("durations.json")
    }

    /// What lies in it, once it has a summary.
    ///
    /// # Errors
    /// A file that is missing or not what its name says.
    pub fn read(&self) -> Result<StoredRun> {
        let hash = self.folder.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(StoredRun {
            folder: self.clone(),
            hash: hash.to_string_lossy().into_owned(),
            summary: read_json(&self.summary())?,
            environment: read_json(&self.environment())?,
            latency: read_json_where_it_is(&self.latency())?,
            durations: read_json_where_it_is(&self.durations())?,
        })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a run's files, the summary last: a folder with a summary is complete. Where nothing was
    /// left to train, the environment of the training stays.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(
        &self,
        recipe: &Recipe,
        outcome: &Outcome,
        summary: &Summary,
        environment: &Environment,
        latency: Option<&Latency>,
    ) -> Result<()> {
        files::replace(&self.recipe(), recipe.to_toml()?)?;
        let rows = outcome.stages.iter().flat_map(|stage| &stage.metrics);
        files::replace(&self.metrics(), metrics_csv(rows, &summary.node_layers))?;
        if outcome.trained || !self.environment().exists() {
            write_json(&self.environment(), environment)?;
        }
        let durations = outcome
            .stages
            .iter()
            .map(|stage| Some(StageDuration { name: stage.name.clone(), seconds: stage.seconds? }));
        if let Some(durations) = durations.collect::<Option<Vec<_>>>() {
            write_json(&self.durations(), &durations)?;
        }
        if let Some(latency) = latency {
            write_json(&self.latency(), latency)?;
        }
        write_json(&self.summary(), summary)
    }
}

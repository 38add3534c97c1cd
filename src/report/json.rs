//! Results as files of JSON.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::files;

/// Writes a value as indented JSON, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::argument(format!("write {}", path.display()), "finite numbers", error.to_string())
    })?;
    files::replace(path, text + "\n")
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&files::read_text(path)?).map_err(|error| {
        let expected = "the JSON that a run of this version writes";
        Error::malformed(path.display().to_string(), expected, error.to_string())
    })
}

pub(super) fn read_json_where_it_is<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

//! In what two recipes differ, in their own words.

use std::collections::BTreeMap;

use toml::Value;

use super::Recipe;
use crate::error::{Error, Result};

/// What a run is, beside what it does: no setting of the training.
const OF_THE_RUN: [&str; 7] =
    ["network", "description", "technique", "seed", "quick", "validation_images", "precision"];

impl Recipe {
    /// The settings of this recipe that are others than in `base`, in the order of their names: such as
    /// `original.learning_rate = 0.05`, by stage; `without momentum`, where only `base` has one; the
    /// stages that only one of the two has. Seed, precision and held-out images are not among them.
    ///
    /// # Errors
    /// Numbers that TOML cannot hold.
    pub fn differences(&self, base: &Self) -> Result<Vec<String>> {
        let (own, other) = (settings(self)?, settings(base)?);
        let stage_of = |setting: &str, of: &Self| {
            of.stages.iter().any(|stage| setting.split('.').next() == Some(&stage.name))
        };
        // What only one has goes with its stage, which is named below.
        let stage_in_one = |setting: &str| stage_of(setting, self) != stage_of(setting, base);
        let mut differences = Vec::new();
        // An empty table beside one with settings is told by those.
        let fuller = |setting: &str, settings: &BTreeMap<String, String>| {
            settings
                .keys()
                .any(|key| key.strip_prefix(setting).is_some_and(|rest| rest.starts_with('.')))
        };
        for (setting, value) in own.iter().filter(|(setting, _)| !stage_in_one(setting)) {
            if other.get(setting) != Some(value) && !fuller(setting, &other) {
                differences.push(format!("{setting} = {value}"));
            }
        }
        for setting in other.keys().filter(|setting| !stage_in_one(setting)) {
            if !own.contains_key(setting) && !fuller(setting, &own) {
                differences.push(format!("without {setting}"));
            }
        }
        let names = |of: &Self, not_of: &Self| -> Vec<String> {
            let names = of.stages.iter().map(|stage| stage.name.clone());
            names.filter(|name| !not_of.stages.iter().any(|stage| stage.name == *name)).collect()
        };
        for (word, stages) in [("with", names(self, base)), ("without", names(base, self))] {
            if !stages.is_empty() {
                differences.push(format!("{word} stages {}", stages.join(", ")));
            }
        }
        Ok(differences)
    }
}

/// The settings by their path, a stage's below its name; empty tables are settings too.
fn settings(recipe: &Recipe) -> Result<BTreeMap<String, String>> {
    let value = Value::try_from(recipe.full()).map_err(|error| {
        Error::argument("compare recipes", "numbers that TOML can hold", error.to_string())
    })?;
    let mut settings = BTreeMap::new();
    if let Value::Table(table) = value {
        for (key, value) in table.iter().filter(|(key, _)| !OF_THE_RUN.contains(&key.as_str())) {
            match value {
                Value::Array(stages) if key == "stages" => {
                    for (stage, value) in recipe.stages.iter().zip(stages) {
                        flatten(&stage.name, value, &mut settings);
                    }
                }
                value => flatten(key, value, &mut settings),
            }
        }
    }
    Ok(settings)
}

fn flatten(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    match value {
        // A stage is named by the path already.
        Value::Table(table) if !table.is_empty() => {
            for (key, value) in table.iter().filter(|(key, _)| *key != "name") {
                flatten(&format!("{path}.{key}"), value, settings);
            }
        }
        value => {
            settings.insert(path.to_owned(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::{Precision, Technique};

    #[test]
    fn differences_name_the_setting_the_stage_and_the_value() {
        let base = Recipe::built_in("convnet", Technique::NodePruning, None).unwrap();
        let same = Recipe { seed: 9, precision: Precision::Bf16, ..base.full() };
        assert!(same.differences(&base).unwrap().is_empty());

        let mut other = base.clone();
        other.momentum = 0.5;
        other.stages[0].learning_rate = 0.05;
        other.weight_decay_of = Default::default();
        other.stages[1].prune = other.stages[2].prune.clone();
        other.stages[5].name = "again".into();
        assert_eq!(
            other.differences(&base).unwrap(),
            [
                "momentum = 0.5",
                "node-0.prune.node.penalty = 0.04",
                "original.learning_rate = 0.05",
                "without weight_decay_of.ip1.weight",
                "with stages again",
                "without stages retrain",
            ]
        );
    }
}

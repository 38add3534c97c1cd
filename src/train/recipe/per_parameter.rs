//! Numbers for single parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A number each for some parameters: by name (`cccp6.weight`), or for all of a kind (`*.bias`). A
/// parameter's own name goes before its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerParameter(BTreeMap<String, f64>);

impl PerParameter {
    /// The number for a parameter, where there is one.
    pub fn get(&self, name: &str) -> Option<f64> {
        let of_its_kind = || Some(self.0.iter().find(|(pattern, _)| matches(pattern, name))?.1);
        self.0.get(name).or_else(of_its_kind).copied()
    }

    /// Says or changes a parameter's number.
    pub fn insert(&mut self, name: impl Into<String>, number: f64) {
        self.0.insert(name.into(), number);
    }

    /// Each number that many times.
    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|(name, number)| (name.clone(), factor * number)).collect())
    }

    /// Whether no parameter has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names and kinds with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, &number)| (name.as_str(), number))
    }
}

/// Whether a parameter is what a name or a kind says.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(kind) => name.rsplit_once('.').is_some_and(|(_, own)| own == kind),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_before_a_kind() {
        let mut numbers = PerParameter::default();
        numbers.insert("*.bias", 2.0);
        numbers.insert("cccp6.bias", 0.1);
        let names = ["conv1.bias", "cccp6.bias", "conv1.weight", "bias"];
        assert_eq!(names.map(|name| numbers.get(name)), [Some(2.0), Some(0.1), None, None]);
        assert!(matches("*.bias", "conv1.bias") && !matches("*.bias", "conv1.weight"));
        assert!(matches("conv1.bias", "conv1.bias") && !matches("conv1.bias", "conv11.bias"));
    }
}

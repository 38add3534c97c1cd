//! From the arrays of somebody's file to weights under the authors' names: wrappers' prefixes go, masks of
//! `torch.nn.utils.prune` are applied, and whatever is done, or left out, is said.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use super::Imported;
use crate::error::{Error, Result};
use crate::network::Weights;

/// What `torch.nn.DataParallel` and `torch.compile` put before every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// What an array's elements were in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// 32 bits: as they are kept.
    F32,
    /// 64 bits, rounded to 32.
    F64,
    /// 16 bits of IEEE.
    F16,
    /// 16 bits, the upper half of 32.
    Bf16,
    /// Integers or truth values.
    Integer,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::Integer => 8,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// What is done to it; nothing where it is kept.
    fn change(self) -> Option<&'static str> {
        match self {
            Self::F64 => Some("rounded from 64 to 32 bits"),
            Self::F16 => Some("widened from half precision"),
            Self::Bf16 => Some("widened from bfloat16"),
            Self::F32 | Self::Integer => None,
        }
    }
}

/// The arrays of a file, under its names.
#[derive(Debug, Default)]
pub struct Arrays {
    floats: Vec<(String, ArrayD<f32>, Element)>,
    integers: Vec<String>,
    others: Vec<String>,
}

impl Arrays {
    /// Adds an array of floats.
    pub fn floats(&mut self, name: String, array: ArrayD<f32>, element: Element) {
        self.floats.push((name, array, element));
    }

    /// Notes an array of integers, which no layer computes with.
    pub fn integers(&mut self, name: String) {
        self.integers.push(name);
    }

    /// Notes what is no array.
    pub fn others(&mut self, name: String) {
        self.others.push(name);
    }

    /// Whether there is an array of floats.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty()
    }

    /// Weights under the authors' names, and what was done for it; `file` is for messages.
    ///
    /// # Errors
    /// Two arrays of one name; a mask of another shape than its array; no array of floats.
    pub fn imported(self, file: &str) -> Result<Imported> {
        if self.is_empty() {
            let found = match &self.integers[..] {
                [] => "none".to_owned(),
                integers => format!("only integers, {}", integers.join(", ")),
            };
            return Err(Error::malformed(file, "arrays of floats", found));
        }
        let mut notes = Vec::new();
        let mut changed: BTreeMap<Element, Vec<String>> = BTreeMap::new();
        let mut named: BTreeMap<String, (String, ArrayD<f32>)> = BTreeMap::new();
        for (given, array, element) in self.floats {
            let name = without_wrappers(&given);
            changed.entry(element).or_default().push(name.to_owned());
            if let Some((other, _)) = named.get(name) {
                let expected = format!("one array for {name}");
                return Err(Error::malformed(file, expected, format!("{other} and {given}")));
            }
            named.insert(name.to_owned(), (given, array));
        }
        for (element, mut names) in changed {
            names.sort();
            notes.extend(element.change().map(|change| format!("{change}: {}", names.join(", "))));
        }
        notes.extend(apply_masks(file, &mut named)?);
        for (what, mut names) in [("integers", self.integers), ("no tensors", self.others)] {
            if !names.is_empty() {
                names.sort();
                notes.push(format!("passed over, {what}: {}", names.join(", ")));
            }
        }
        let weights: Weights = named.into_iter().map(|(name, (_, array))| (name, array)).collect();
        Ok(Imported { weights, network: None, sparse: Vec::new(), group_width: None, notes })
    }
}

/// A name without the prefixes of wrappers, which may lie in each other.
pub fn without_wrappers(name: &str) -> &str {
    let mut rest = name;
    while let Some(shorter) = WRAPPERS.iter().find_map(|wrapper| rest.strip_prefix(wrapper)) {
        rest = shorter;
    }
    rest
}

/// Multiplies what `torch.nn.utils.prune` left apart: `ip1.weight_orig` by `ip1.weight_mask` is `ip1.weight`.
fn apply_masks(
    file: &str,
    named: &mut BTreeMap<String, (String, ArrayD<f32>)>,
) -> Result<Option<String>> {
    let all: Vec<String> =
        named.keys().filter_map(|name| name.strip_suffix("_orig")).map(str::to_owned).collect();
    let mut applied = Vec::new();
    for name in all {
        let (original, mask) = (format!("{name}_orig"), format!("{name}_mask"));
        let shape = |name: &str| named.get(name).map(|(_, array)| array.shape().to_vec());
        let (Some(of_original), Some(of_mask)) = (shape(&original), shape(&mask)) else { continue };
        let what = |part: &str| format!("{file}, array {part}");
        if of_original != of_mask {
            let expected = format!("shape {of_original:?}, as {original} has");
            return Err(Error::malformed(what(&mask), expected, format!("{of_mask:?}")));
        }
        if named.contains_key(&name) {
            let expected = format!("either it or {original} and {mask}");
            return Err(Error::malformed(what(&name), expected, "all three"));
        }
        if let (Some((given, array)), Some((_, mask))) =
            (named.remove(&original), named.remove(&mask))
        {
            named.insert(name.clone(), (given, array * mask));
            applied.push(name);
        }
    }
    Ok((!applied.is_empty()).then(|| {
        format!("masks of torch.nn.utils.prune applied (_orig times _mask): {}", applied.join(", "))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    fn arrays(names: &[&str]) -> Arrays {
        let mut arrays = Arrays::default();
        for name in names {
            arrays.floats((*name).to_owned(), ArrayD::ones(IxDyn(&[2])), Element::F32);
        }
        arrays
    }

    #[test]
    fn prefixes_of_wrappers_go_however_they_lie() {
        let names = ["module._orig_mod.module.ip1.weight", "_orig_mod.ip1.bias", "my.module.ip2"];
        let imported = arrays(&names).imported("file").unwrap();
        let found: Vec<&str> = imported.weights.iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["ip1.bias", "ip1.weight", "my.module.ip2"]);
    }

    #[test]
    fn a_mask_that_fits_no_array_is_named_and_one_alone_stays_an_array() {
        let mut wrong = arrays(&["ip1.weight_orig"]);
        wrong.floats("ip1.weight_mask".into(), ArrayD::ones(IxDyn(&[3])), Element::F32);
        let error = wrong.imported("file").unwrap_err().to_string();
        assert!(error.contains("ip1.weight_mask") && error.contains("[2]"), "{error}");
        let error = arrays(&["a", "a_orig", "a_mask"]).imported("file").unwrap_err().to_string();
        assert!(error.contains("all three"), "{error}");
        let alone = arrays(&["ip1.weight_orig"]).imported("file").unwrap();
        assert!(alone.weights.find("ip1.weight_orig").is_some());
    }
}

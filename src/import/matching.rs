//! From what a file holds to what a network has parameters for.

use std::path::Path;

use ndarray::ArrayD;

use super::{Imported, read};
use crate::error::{Error, Result};
use crate::network::{Network, Parameter, ParameterRole, Weights};

/// The weights of a file, fitted to a network.
#[derive(Clone, Debug)]
pub struct NetworkWeights {
    /// The network that the file describes, compacted perhaps; where it describes none, the one that was asked for.
    pub network: Network,
    /// Of that network, with or without masks.
    pub weights: Weights,
    /// Weights in a group, where the file stores groups.
    pub group_width: Option<usize>,
}

impl NetworkWeights {
    /// Reads a file of a network's weights, or of what pruning left of it; see [`read`] and [`matching`].
    ///
    /// # Errors
    /// As these; a file that describes a network of another name.
    pub fn read(path: &Path, key: Option<&str>, network: &Network) -> Result<Self> {
        let mut imported = read(path, key)?;
        let described = imported.network.take();
        if let Some(other) = described.as_ref().filter(|other| other.name != network.name) {
            let file = path.display().to_string();
            return Err(Error::malformed(file, network.name.clone(), other.name.clone()));
        }
        let network = described.unwrap_or_else(|| network.clone());
        let mut weights = matching(&imported, &network)?;
        if !network.is_of_zoo() {
            add_biases(&mut weights, &network)?;
        }
        Ok(Self { network, weights, group_width: imported.group_width })
    }
}

/// Says what was done to a file's arrays on the way in, a line each, on stderr.
pub fn print_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}

/// The weights of a file that a network has a parameter or a mask for; what else there is, is listed on stderr.
///
/// # Errors
/// A network that contradicts itself; a file of none of its parameters.
pub fn matching(imported: &Imported, network: &Network) -> Result<Weights> {
    print_notes(&imported.notes);
    let mut unused = imported.unused(network)?;
    // Counters, which no forward pass reads, belong to a network.
    unused.retain(|name| !name.ends_with(".num_batches_tracked"));
    let mut weights = imported.weights.clone();
    if unused.len() == weights.iter().count() {
        let expected = format!("parameters of {}, such as {}", network.name, first(network)?);
        return Err(Error::malformed("the file of weights", expected, unused.join(", ")));
    }
    if !unused.is_empty() {
        eprintln!(
            "note: not used, since {} has no such layer: {}",
            network.name,
            unused.join(", ")
        );
        let unused: Vec<String> = unused.into_iter().map(str::to_owned).collect();
        unused.iter().for_each(|name| drop(weights.remove(name)));
    }
    Ok(weights)
}

/// Biases that the weights lack, as 0, listed on stderr: a convolution before a batch normalisation often has none. All
/// layers of the zoo's networks have one: there, a bias that is not in the file has been lost.
fn add_biases(weights: &mut Weights, network: &Network) -> Result<()> {
    let missing =
        |own: &Parameter| own.role == ParameterRole::Bias && weights.get(&own.name).is_err();
    let missing: Vec<Parameter> = network.parameters()?.into_iter().filter(missing).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|own| &*own.name).collect();
        eprintln!("note: not in the file, and taken as 0: {}", names.join(", "));
    }
    for own in missing {
        weights.insert(own.name, ArrayD::zeros(own.shape));
    }
    Ok(())
}

fn first(network: &Network) -> Result<String> {
    let all = network.parameters()?;
    Ok(all.into_iter().next().map_or_else(String::new, |parameter| parameter.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_has_no_layer_for_is_left_out_and_a_file_of_nothing_else_is_refused() {
        let network = crate::network::zoo::by_name("lenet-300-100").unwrap();
        let mut weights = Weights::random(&network, 1).unwrap();
        weights.insert("head.weight", ndarray::ArrayD::ones(ndarray::IxDyn(&[2, 2])));
        let imported = Imported {
            weights,
            network: None,
            sparse: Vec::new(),
            group_width: None,
            notes: Vec::new(),
        };
        assert_eq!(imported.unused(&network).unwrap(), ["head.weight"]);
        let found = matching(&imported, &network).unwrap();
        found.check(&network).unwrap();
        let other = crate::network::zoo::by_name("nin").unwrap();
        let error = matching(&imported, &other).unwrap_err().to_string();
        assert!(error.contains("parameters of nin") && error.contains("head.weight"), "{error}");
    }
}

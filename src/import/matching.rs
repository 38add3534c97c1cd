//! From what a file holds to what a network has parameters for.

use super::Imported;
use crate::error::{Error, Result};
use crate::network::{Network, Weights};

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
        let imported = Imported { weights, network: None, sparse: Vec::new(), notes: Vec::new() };
        assert_eq!(imported.unused(&network).unwrap(), ["head.weight"]);
        let found = matching(&imported, &network).unwrap();
        found.check(&network).unwrap();
        let other = crate::network::zoo::by_name("nin").unwrap();
        let error = matching(&imported, &other).unwrap_err().to_string();
        assert!(error.contains("parameters of nin") && error.contains("head.weight"), "{error}");
    }
}

//! How the binaries end: an error of the user is one line that says what to do, whatever `RUST_BACKTRACE` says.
//! Backtraces are for faults of the program, which are panics.

use std::process::{ExitCode, Termination};

use crate::error::{Error, Result};
use crate::import::Imported;
use crate::network::{Network, Weights};

/// The exit code of what a binary came to. An error goes to stderr, in one line.
pub fn exit(result: anyhow::Result<impl Termination>) -> ExitCode {
    match result {
        Ok(done) => done.report(),
        Err(error) => {
            eprintln!("error: {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// A text in one line; what a compiler or a parser says in several keeps its lines.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    match &lines[..] {
        [] => String::new(),
        [only] => (*only).to_owned(),
        // A log, which would be unreadable in one.
        lines if lines.len() > 4 => lines.join("\n"),
        lines => lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
    }
}

/// Says what was done to a file's arrays on the way in, a line each, on stderr.
pub fn tell(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}

/// The weights of a file that a network has a parameter or a mask for; what else there is, is listed on stderr.
///
/// # Errors
/// A network that contradicts itself; a file of none of its parameters.
pub fn used(imported: &Imported, network: &Network) -> Result<Weights> {
    tell(&imported.notes);
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
        let imported = Imported { weights, network: None, notes: Vec::new() };
        assert_eq!(imported.unused(&network).unwrap(), ["head.weight"]);
        let found = used(&imported, &network).unwrap();
        found.check(&network).unwrap();
        let other = crate::network::zoo::by_name("nin").unwrap();
        let error = used(&imported, &other).unwrap_err().to_string();
        assert!(error.contains("parameters of nin") && error.contains("head.weight"), "{error}");
    }

    #[test]
    fn few_lines_become_one_and_a_log_keeps_its_own() {
        assert_eq!(one_line("a\n  b\n"), "a b");
        let log = "a\nb\nc\nd\ne";
        assert_eq!(one_line(log), log);
        assert_eq!(one_line("plain"), "plain");
    }
}

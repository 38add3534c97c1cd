//! A network by its name in the zoo, or by a file that describes it.

use std::path::Path;

use super::{Network, Op, zoo};
use crate::error::{Error, Result};
use crate::files;

/// The largest number of nodes or pixels in a description, far from where products of three of them overflow.
const LARGEST: usize = 1 << 16;

/// Of one layer: 16 GiB.
const MOST_WEIGHTS: usize = 1 << 32;

/// How the names of files that describe a network end.
const ENDING: &str = "json";

impl Network {
    /// The network of the zoo that has this name, or the one that a file of JSON describes: `name`, `input` and
    /// `layers`, as the fields of [`Network`] are.
    ///
    /// # Errors
    /// Neither; a file that cannot be read or describes no network; one that contradicts itself or has the name of a
    /// network of the zoo.
    pub fn open(name_or_file: &str) -> Result<Self> {
        if !Self::is_file_name(name_or_file) {
            return zoo::by_name(name_or_file).map_err(|_| {
                let file = format!("a file that describes another (.{ENDING})");
                let known = zoo::NAMES.into_iter().chain([&*file]);
                Error::unknown("network", known, name_or_file)
            });
        }
        Self::parse(&files::read(Path::new(name_or_file))?, name_or_file)
    }

    /// Reads a description of a network from JSON; `name` is for messages.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn parse(json: &[u8], name: &str) -> Result<Self> {
        let network: Self = serde_json::from_slice(json).map_err(|error| {
            Error::malformed(name, "a network's name, input and layers", error.to_string())
        })?;
        network.check_description()?;
        Ok(network)
    }

    /// Whether [`Network::open`] takes it for the name of a file.
    pub(crate) fn is_file_name(name_or_file: &str) -> bool {
        Path::new(name_or_file).extension().is_some_and(|ending| ending == ENDING)
    }

    /// Refuses a description that contradicts itself, or whose name is a zoo's or none for a folder of results.
    pub(crate) fn check_description(&self) -> Result<()> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let is_plain = self.name.chars().all(plain) && !matches!(&*self.name, "" | "." | "..");
        if !is_plain || self.is_of_zoo() {
            let expected = "letters, digits, dots and dashes, and not a name of the zoo";
            return Err(Error::malformed("the network's name", expected, self.name.clone()));
        }
        self.check_sizes()?;
        // Says where it contradicts itself.
        self.mask_sites().map(drop)
    }

    /// Refuses numbers of which no processor could hold the products, before anything multiplies them.
    fn check_sizes(&self) -> Result<()> {
        let check = |layer: &str, number: usize| {
            let error = || Error::Layer {
                network: self.name.clone(),
                layer: layer.to_owned(),
                expected: format!("sizes of at most {LARGEST}"),
                found: number.to_string(),
            };
            if number <= LARGEST { Ok(()) } else { Err(error()) }
        };
        for number in self.input {
            check("the input", number)?;
        }
        for layer in &self.layers {
            let numbers = match &layer.op {
                Op::Conv(conv) => vec![conv.outputs, conv.kernel, conv.stride, conv.padding],
                Op::MaxPool(pool) | Op::AveragePool(pool) => {
                    vec![pool.kernel, pool.stride, pool.padding]
                }
                Op::Linear(linear) => vec![linear.outputs],
                Op::LocalResponseNorm(norm) => vec![norm.size],
                _ => Vec::new(),
            };
            for number in numbers {
                check(&layer.name, number)?;
            }
        }
        for parameter in self.parameters()? {
            let mut sizes = parameter.shape.iter();
            let floats = sizes.try_fold(1_usize, |product, &size| product.checked_mul(size));
            if floats.is_none_or(|floats| floats > MOST_WEIGHTS) {
                let expected = format!("at most {MOST_WEIGHTS} weights");
                return Err(self.wrong(
                    parameter.layer,
                    expected,
                    format!("{:?}", parameter.shape),
                ));
            }
        }
        Ok(())
    }

    /// Whether it is one of the zoo's, or what pruning left of such a one.
    pub fn is_of_zoo(&self) -> bool {
        zoo::NAMES.contains(&&*self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Conv, Groups};

    fn parse(json: &str) -> Result<Network> {
        Network::parse(json.as_bytes(), "own.json")
    }

    #[test]
    fn a_description_is_what_a_network_serialises_to_but_for_what_is_usual() {
        assert_eq!(Network::open("lenet-5").unwrap(), zoo::lenet_5());
        for name in zoo::NAMES {
            let renamed = Network { name: "own".into(), ..zoo::by_name(name).unwrap() };
            assert_eq!(parse(&serde_json::to_string(&renamed).unwrap()).unwrap(), renamed);
        }
        let short = r#"{ "name": "own", "input": [3, 32, 32], "layers": [
            { "name": "features.0", "op": { "conv": { "outputs": 8, "kernel": 3 } } },
            { "name": "features.1", "op": { "batch-norm": {} } }
        ] }"#;
        let network = parse(short).unwrap();
        let conv = Conv { outputs: 8, kernel: 3, stride: 1, padding: 0, groups: Groups::Even(1) };
        assert_eq!(network.layers[0].op, Op::Conv(conv));
        let Op::BatchNorm(norm) = &network.layers[1].op else { panic!("{network:?}") };
        assert_eq!((norm.epsilon, norm.momentum), (1e-5, 0.1), "as PyTorch's");
    }

    #[test]
    fn what_describes_no_network_is_refused_with_what_to_do() {
        let layer = r#"{ "name": "conv1", "op": { "conv": { "outputs": 8, "kernel": 3 } } }"#;
        for (json, message) in [
            ("{}", "missing field `name`"),
            (
                r#"{ "name": "own", "input": [1, 8, 8], "layers": [{ "name": "a", "op": "lstm" }] }"#,
                "lstm",
            ),
            (
                &format!(r#"{{ "name": "own", "input": [1, 2, 2], "layers": [{layer}] }}"#),
                "at least 3 pixels",
            ),
            (
                &format!(
                    r#"{{ "name": "own", "input": [1, 8, 8], "layers": [{layer}, {layer}] }}"#
                ),
                "conv1",
            ),
            (
                &format!(r#"{{ "name": "nin", "input": [1, 8, 8], "layers": [{layer}] }}"#),
                "of the zoo",
            ),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let huge = r#"{ "name": "own", "input": [1, 60000, 60000], "layers": [
            { "name": "ip1", "op": { "linear": { "outputs": 60000 } } }] }"#;
        assert!(
            parse(huge).unwrap_err().to_string().contains("weights, found [60000, 3600000000]")
        );
        let error = parse(&huge.replace("60000]", "70000]")).unwrap_err().to_string();
        assert!(error.contains("at most 65536, found 70000"), "{error}");
        let error = Network::open("lenet-6").unwrap_err().to_string();
        assert!(error.contains("lenet-5, convnet") && error.contains(".json"), "{error}");
        let error = Network::open("none.json").unwrap_err().to_string();
        assert!(error.contains("cannot read none.json"), "{error}");
    }
}

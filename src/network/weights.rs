//! The weights of a network, by the authors' parameter names, and their `safetensors` files.

use std::collections::{BTreeMap, HashMap};

use bytemuck::Pod;
use ndarray::{ArrayD, ArrayView2, Axis, IxDyn};
use rand::RngExt;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::spec::{Network, ParameterRole};
use crate::error::{Error, Result};
use crate::seed;

/// Which nodes of each mask layer live: the mask's layer name to one flag per node. A mask that is
/// absent blocks nothing.
pub type NodeMasks = BTreeMap<String, Vec<bool>>;

/// Named arrays of f32. Node masks lie among them as the authors keep them: `mask_ip1.alpha` and
/// `mask_ip1.beta`, each `[1, nodes]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    arrays: BTreeMap<String, ArrayD<f32>>,
}

impl Weights {
    /// Random weights, batch normalisation's statistics included, of which a layer's results are about as
    /// large as its inputs; the same for the same seed.
    ///
    /// # Errors
    /// Where the network's description contradicts itself.
    pub fn random(network: &Network, seed: u64) -> Result<Self> {
        let mut rng = seed::stream(seed, "weights", &[]);
        let mut weights = Self::default();
        for parameter in network.parameters()? {
            let array =
                ArrayD::from_shape_simple_fn(IxDyn(&parameter.shape), || match parameter.role {
                    ParameterRole::RunningVariance | ParameterRole::Scale => {
                        rng.random_range(0.5..2.0)
                    }
                    ParameterRole::Weight => {
                        let inputs: usize = parameter.shape[1..].iter().product();
                        rng.random_range(-1.0..1.0) * (3.0 / inputs.max(1) as f32).sqrt()
                    }
                    _ => rng.random_range(-0.5..0.5),
                });
            weights.insert(parameter.name, array);
        }
        Ok(weights)
    }

    /// The array of that name.
    ///
    /// # Errors
    /// None has that name.
    pub fn get(&self, name: &str) -> Result<&ArrayD<f32>> {
        self.arrays.get(name).ok_or_else(|| {
            Error::malformed("weights", format!("an array {name}"), self.names_found())
        })
    }

    /// The array of that name, where there is one.
    pub fn find(&self, name: &str) -> Option<&ArrayD<f32>> {
        self.arrays.get(name)
    }

    /// Adds an array, or replaces the one of that name. It is kept in standard (row-major) order.
    pub fn insert(&mut self, name: impl Into<String>, array: ArrayD<f32>) {
        let standard = array.is_standard_layout();
        let array = if standard { array } else { array.as_standard_layout().into_owned() };
        self.arrays.insert(name.into(), array);
    }

    /// Takes the array of that name out.
    pub fn remove(&mut self, name: &str) -> Option<ArrayD<f32>> {
        self.arrays.remove(name)
    }

    /// All arrays, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayD<f32>)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// All arrays, in order of name, to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut ArrayD<f32>)> {
        self.arrays.iter_mut().map(|(name, array)| (name.as_str(), array))
    }

    /// Checks that these are the weights of `network`: every parameter is there with its shape and
    /// finite values, and nothing else but masks and counters that no forward pass reads.
    ///
    /// # Errors
    /// Names the first array that is missing, has another shape, is not finite or belongs nowhere.
    pub fn check(&self, network: &Network) -> Result<()> {
        let mut expected: HashMap<String, Vec<usize>> =
            network.parameters()?.into_iter().map(|p| (p.name, p.shape)).collect();
        for name in expected.keys() {
            self.get(name)?;
        }
        for site in network.mask_sites()? {
            for part in ["alpha", "beta"] {
                expected.insert(format!("{}.{part}", site.name), vec![1, site.nodes]);
            }
        }
        for (name, array) in self.iter() {
            let what = || format!("weights of {}, array {name}", network.name);
            let Some(shape) = expected.get(name) else {
                if is_counter(name) {
                    continue;
                }
                return Err(Error::malformed(what(), "a parameter of the network", "another name"));
            };
            Error::check_shape(&what(), "an array", shape, array.shape())?;
            if let Some(value) = array.iter().find(|value| !value.is_finite()) {
                return Err(Error::malformed(what(), "finite numbers", value.to_string()));
            }
        }
        Ok(())
    }

    /// Which nodes live, by the `alpha` arrays that are there.
    ///
    /// # Errors
    /// An `alpha` that is not `[1, nodes]`, or holds something other than 0 and 1.
    pub fn node_masks(&self, network: &Network) -> Result<NodeMasks> {
        let mut masks = NodeMasks::new();
        for site in network.mask_sites()? {
            let name = format!("{}.alpha", site.name);
            let Some(alpha) = self.find(&name) else { continue };
            let what = format!("weights of {}, array {name}", network.name);
            if alpha.len() != site.nodes {
                let expected = format!("{} nodes", site.nodes);
                return Err(Error::malformed(what, expected, alpha.len().to_string()));
            }
            if let Some(value) = alpha.iter().find(|&&value| value != 0.0 && value != 1.0) {
                return Err(Error::malformed(what, "0 or 1", value.to_string()));
            }
            masks.insert(site.name, alpha.iter().map(|&value| value == 1.0).collect());
        }
        Ok(masks)
    }

    /// The trained weights (role [`ParameterRole::Weight`]) of `network` that are not 0, and all.
    ///
    /// # Errors
    /// One is missing.
    pub fn count_kept(&self, network: &Network) -> Result<(usize, usize)> {
        let (mut kept, mut total) = (0, 0);
        for parameter in network.parameters()? {
            if parameter.role == ParameterRole::Weight {
                let array = self.get(&parameter.name)?;
                kept += array.iter().filter(|&&value| value != 0.0).count();
                total += array.len();
            }
        }
        Ok((kept, total))
    }

    /// The arrays and the metadata of a `safetensors` file; `name` is for messages.
    ///
    /// # Errors
    /// Bytes that are no `safetensors`, or hold other than f32.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<(Self, HashMap<String, String>)> {
        let (file, metadata) = open(bytes, name)?;
        let mut weights = Self::default();
        for (key, view) in file.iter().filter(|(key, _)| !is_counter(key)) {
            weights.insert(key, dense(&format!("{name}, array {key}"), &view)?);
        }
        Ok((weights, metadata))
    }

    /// The `safetensors` file of these arrays; equal arrays and metadata give equal bytes.
    ///
    /// # Errors
    /// Arrays that the format cannot hold.
    pub fn to_bytes(&self, metadata: Option<(&str, String)>) -> Result<Vec<u8>> {
        let contiguous: Vec<(&str, Vec<usize>, Vec<f32>)> = self
            .iter()
            .map(|(name, array)| (name, array.shape().to_vec(), array.iter().copied().collect()))
            .collect();
        let mut views = Vec::with_capacity(contiguous.len());
        for (name, shape, values) in &contiguous {
            let bytes = bytemuck::cast_slice(values);
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(refused)?;
            views.push((*name, view));
        }
        serialize(views, metadata)
    }

    fn names_found(&self) -> String {
        if self.arrays.is_empty() {
            return "no array at all".into();
        }
        let names: Vec<&str> = self.arrays.keys().map(String::as_str).collect();
        format!("only {}", names.join(", "))
    }
}

impl FromIterator<(String, ArrayD<f32>)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, ArrayD<f32>)>>(arrays: I) -> Self {
        let mut weights = Self::default();
        for (name, array) in arrays {
            weights.insert(name, array);
        }
        weights
    }
}

/// A `safetensors` file whose bytes depend on nothing but its content. At most one entry of
/// metadata, since the library writes several in an order that differs from run to run.
pub(crate) fn serialize(
    views: Vec<(&str, TensorView<'_>)>,
    metadata: Option<(&str, String)>,
) -> Result<Vec<u8>> {
    let metadata = metadata.map(|(key, text)| HashMap::from([(key.to_owned(), text)]));
    safetensors::serialize(views, metadata).map_err(refused)
}

/// The arrays of a `safetensors` file and its metadata; `name` is for messages.
pub(crate) fn open<'a>(
    bytes: &'a [u8],
    name: &str,
) -> Result<(SafeTensors<'a>, HashMap<String, String>)> {
    let malformed = |found: String| Error::malformed(name, "a safetensors file", found);
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
    Ok((file, header.metadata().clone().unwrap_or_default()))
}

/// An array of the file; `what` is for messages.
pub(crate) fn dense(what: &str, view: &TensorView<'_>) -> Result<ArrayD<f32>> {
    let values = elements(what, view, Dtype::F32)?;
    ArrayD::from_shape_vec(IxDyn(view.shape()), values)
        .map_err(|error| Error::malformed(what, "as many values as its shape", error.to_string()))
}

/// The elements of an array that must be of type `dtype`.
pub(crate) fn elements<T: Pod>(what: &str, view: &TensorView<'_>, dtype: Dtype) -> Result<Vec<T>> {
    if view.dtype() != dtype {
        return Err(Error::malformed(what, format!("{dtype:?}"), format!("{:?}", view.dtype())));
    }
    Ok(bytemuck::pod_collect_to_vec(view.data()))
}

/// Whether an array counts batches, as PyTorch's batch normalisation does; no forward pass reads it.
pub(crate) fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// A weight array `[outputs, ...]` as a matrix with a row per output, its other axes flattened.
///
/// # Errors
/// An array of fewer than two axes, or one that is not in standard order in memory.
pub fn as_matrix<'a>(name: &str, weights: &'a ArrayD<f32>) -> Result<ArrayView2<'a, f32>> {
    let operation = || format!("view {name} as a matrix");
    if weights.ndim() < 2 {
        let found = format!("shape {:?}", weights.shape());
        return Err(Error::argument(operation(), "weights of two or more axes", found));
    }
    let inputs: usize = weights.shape()[1..].iter().product();
    weights.view().into_shape_with_order((weights.len_of(Axis(0)), inputs)).map_err(
        |error: ndarray::ShapeError| {
            Error::argument(operation(), "weights in standard order", error.to_string())
        },
    )
}

fn refused(error: safetensors::SafeTensorError) -> Error {
    Error::argument("write a safetensors file", "arrays that it can hold", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;

    fn weights() -> Weights {
        let parameters = zoo::lenet_300_100().parameters().unwrap();
        parameters.into_iter().map(|p| (p.name, ArrayD::ones(IxDyn(&p.shape)))).collect()
    }

    #[test]
    fn arrays_are_kept_in_standard_order_however_they_came() {
        let mut weights = weights();
        let turned = ArrayD::from_shape_fn(IxDyn(&[784, 300]), |at| (at[0] * 300 + at[1]) as f32);
        weights.insert("ip1.weight", turned.reversed_axes());
        let matrix = as_matrix("ip1.weight", weights.get("ip1.weight").unwrap()).unwrap();
        assert_eq!((matrix.dim(), matrix[[1, 2]]), ((300, 784), 601.0));
    }

    #[test]
    fn what_a_network_does_not_fit_is_named() {
        let network = zoo::lenet_300_100();
        weights().check(&network).unwrap();
        let spoilt = |spoil: &dyn Fn(&mut Weights)| {
            let mut weights = weights();
            spoil(&mut weights);
            weights.check(&network).unwrap_err()
        };
        let shape = spoilt(&|w| w.insert("ip3.weight", ArrayD::zeros(IxDyn(&[100, 10]))));
        let Error::Shape { operation, expected, found, .. } = &shape else { panic!("{shape}") };
        assert_eq!((&expected[..], &found[..]), (&[10, 100][..], &[100, 10][..]));
        assert!(operation.contains("ip3.weight"), "{shape}");
        let spoilt = |spoil: &dyn Fn(&mut Weights)| spoilt(spoil).to_string();
        let missing = spoilt(&|w| drop(w.remove("ip2.bias")));
        assert!(missing.contains("an array ip2.bias"), "{missing}");
        let unknown = spoilt(&|w| w.insert("ip4.weight", ArrayD::zeros(IxDyn(&[1, 1]))));
        assert!(unknown.contains("ip4.weight"), "{unknown}");
        let broken = spoilt(&|w| w.insert("ip1.bias", ArrayD::from_elem(IxDyn(&[300]), f32::NAN)));
        assert!(broken.contains("finite numbers, found NaN"), "{broken}");
    }

    #[test]
    fn files_come_back_and_damaged_ones_are_errors() {
        let bytes = weights().to_bytes(Some(("key", "value".into()))).unwrap();
        let (read, metadata) = Weights::from_bytes(&bytes, "file").unwrap();
        assert_eq!(read, weights());
        assert_eq!(metadata["key"], "value");
        for cut in [0, 4, 8, 100, bytes.len() - 1] {
            assert!(Weights::from_bytes(&bytes[..cut], "file").is_err(), "cut at {cut}");
        }
        for flip in (0..bytes.len().min(900)).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[flip] ^= 0x55;
            let _ = Weights::from_bytes(&damaged, "file"); // an error or other weights, no panic
        }
    }
}

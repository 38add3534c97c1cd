//! `safetensors`: one file, in any type of floats, or several with an index.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;

use super::Imported;
use super::names::{Arrays, Element};
use crate::error::{Error, Result};
use crate::files;
use crate::network::weights::open;
use crate::sparse::{Model, StoredArray};

/// The arrays of one file. One that this program wrote may be sparse and describe its network.
pub fn read(bytes: &[u8], name: &str) -> Result<Imported> {
    let (file, metadata) = open(bytes, name)?;
    if metadata.contains_key(Model::DESCRIPTION_KEY) {
        let model = Model::from_bytes(bytes, name)?;
        let mut arrays = Arrays::default();
        for (array, values) in model.to_weights()?.iter() {
            arrays.floats(array.to_owned(), values.clone(), Element::F32);
        }
        let network = model.network().cloned();
        let sparse = model.iter().filter(|(_, stored)| !matches!(stored, StoredArray::Dense(_)));
        let sparse = sparse.map(|(array, _)| array.to_owned()).collect();
        let group_width = model.group_width();
        return Ok(Imported { network, sparse, group_width, ..arrays.imported(name)? });
    }
    let mut arrays = Arrays::default();
    for (array, view) in file.iter() {
        add(&mut arrays, name, array, &view)?;
    }
    arrays.imported(name)
}

/// An index of shards: which file has which array.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The arrays that an index lists, from the files that it names, which lie in `folder`.
pub fn sharded(bytes: &[u8], name: &str, folder: Option<&Path>) -> Result<Imported> {
    let index: Index = serde_json::from_slice(bytes).map_err(|error| {
        Error::malformed(name, "an index of safetensors with a weight_map", error.to_string())
    })?;
    let mut of_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (array, shard) in &index.weight_map {
        of_shard.entry(shard).or_default().push(array);
    }
    let mut arrays = Arrays::default();
    for (shard, wanted) in of_shard {
        let mut parts = Path::new(shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        let (Some(folder), true) = (folder, plain) else {
            return Err(Error::malformed(name, "shards that lie beside the index", shard));
        };
        let path = folder.join(shard);
        let (bytes, shard) = (files::read(&path)?, path.display().to_string());
        let (file, _) = open(&bytes, &shard)?;
        for array in wanted {
            let view = file.tensor(array).map_err(|_| {
                Error::malformed(&shard, format!("an array {array}, as {name} says"), "none")
            })?;
            add(&mut arrays, &shard, array, &view)?;
        }
        for (other, _) in file.iter().filter(|(other, _)| !index.weight_map.contains_key(*other)) {
            arrays.others(format!("{other} (in {shard}, not in the index)"));
        }
    }
    arrays.imported(name)
}

/// Adds an array as floats of 32 bits; integers are noted.
fn add(arrays: &mut Arrays, file: &str, array: &str, view: &TensorView<'_>) -> Result<()> {
    let data = view.data();
    let (element, values): (Element, Vec<f32>) = match view.dtype() {
        Dtype::F32 => (Element::F32, bytemuck::pod_collect_to_vec(data)),
        Dtype::F64 => {
            let wide: Vec<f64> = bytemuck::pod_collect_to_vec(data);
            (Element::F64, wide.into_iter().map(|value| value as f32).collect())
        }
        Dtype::F16 => {
            let bits: Vec<u16> = bytemuck::pod_collect_to_vec(data);
            (Element::F16, bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect())
        }
        Dtype::BF16 => {
            let bits: Vec<u16> = bytemuck::pod_collect_to_vec(data);
            (Element::Bf16, bits.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect())
        }
        Dtype::BOOL
        | Dtype::U8
        | Dtype::I8
        | Dtype::U16
        | Dtype::I16
        | Dtype::U32
        | Dtype::I32
        | Dtype::U64
        | Dtype::I64 => {
            arrays.integers(array.to_owned());
            return Ok(());
        }
        other => {
            let what = format!("{file}, array {array}");
            return Err(Error::malformed(
                what,
                "floats of 16, 32 or 64 bits",
                format!("{other:?}"),
            ));
        }
    };
    let shaped = ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|error| {
        let what = format!("{file}, array {array}");
        Error::malformed(what, "as many values as its shape", error.to_string())
    })?;
    arrays.floats(array.to_owned(), shaped, element);
    Ok(())
}

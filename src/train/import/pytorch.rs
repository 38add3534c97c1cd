//! State dicts as `torch.save` writes them: since PyTorch 1.6 a zip archive of a pickle and a file per
//! storage, before that (the authors' checkpoints) five pickles and the storages in a row.

use std::collections::{HashMap, HashSet};
use std::io::{Cursor, Read};
use std::rc::Rc;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::pickle::{self, Kind, Value};
use crate::error::{Error, Result};
use crate::network::Weights;

/// What the old format begins with, behind the pickle's protocol: a long of ten bytes.
const LEGACY_MAGIC: [u8; 12] =
    [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// No element of a storage is larger.
const LARGEST_ELEMENT: usize = 8;

/// Whether a file begins as PyTorch's do.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.get(2..14) == Some(&LEGACY_MAGIC)
}

/// The arrays of a state dict, or of the one under `state_dict` in a checkpoint; `name` is for
/// messages. Arrays of integers (counters) are left out.
pub fn read(bytes: &[u8], name: &str) -> Result<Weights> {
    let refused = |found: String| {
        Error::malformed(name, "a state dict saved by torch.save, or a safetensors file", found)
    };
    let archive = if bytes.starts_with(b"PK") { zipped(bytes) } else { legacy(bytes) };
    let (value, storages) = archive.map_err(refused)?;
    let entry = |wanted: &str| {
        let mut entries = value.entries()?;
        entries.find(|(key, _)| key.text() == Some(wanted)).map(|(_, value)| value)
    };
    let state = entry("state_dict").unwrap_or(&value);
    let entries = state.entries().ok_or_else(|| refused("no dictionary".into()))?;
    let mut weights = Weights::default();
    for (key, value) in entries {
        let Some(key) = key.text() else { continue };
        let array = tensor(value, &storages).map_err(|reason| {
            Error::malformed(format!("{name}, array {key}"), "a tensor of floats", reason)
        })?;
        if let Some(array) = array {
            weights.insert(key, array);
        }
    }
    if weights.iter().next().is_none() {
        return Err(refused("a dictionary without tensors".into()));
    }
    Ok(weights)
}

type Storages = HashMap<String, Vec<u8>>;

fn zipped(bytes: &[u8]) -> Result<(Rc<Value>, Storages), String> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| error.to_string())?;
        // Below one folder, whose name is the archive's.
        let entry_name = entry.name().map_err(|error| error.to_string())?.into_owned();
        let Some((_, path)) = entry_name.split_once('/') else { continue };
        let mut content = Vec::new();
        // Stored, not compressed: no entry can be larger than the file.
        entry
            .take(bytes.len() as u64)
            .read_to_end(&mut content)
            .map_err(|error| error.to_string())?;
        files.insert(path.to_owned(), content);
    }
    let pickle = files.remove("data.pkl").ok_or("a zip archive without data.pkl")?;
    let (value, _) = pickle::read(&pickle)?;
    let storage = |(path, content): (String, Vec<u8>)| {
        Some((path.strip_prefix("data/")?.to_owned(), content))
    };
    Ok((value, files.into_iter().filter_map(storage).collect()))
}

fn legacy(bytes: &[u8]) -> Result<(Rc<Value>, Storages), String> {
    let mut rest = bytes;
    for _ in 0..3 {
        rest = pickle::read(rest)?.1; // the magic number, the version, the writer's sizes of types
    }
    let (value, rest) = pickle::read(rest)?;
    let (keys, mut rest) = pickle::read(rest)?;
    let sizes = element_sizes(&value);
    let mut storages = Storages::new();
    for key in keys.parts(&Kind::List).ok_or("no list of storages")? {
        let key = key.text().ok_or("a storage without a name")?;
        let (count, behind) = rest.split_at_checked(8).ok_or("an end amid the storages")?;
        let count = u64::from_le_bytes(count.try_into().map_err(|_| "an end amid the storages")?);
        let size = sizes.get(key).copied().ok_or("a storage that no tensor uses")?;
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let split = length.and_then(|length| behind.split_at_checked(length));
        let (content, behind) = split.ok_or("an end amid a storage")?;
        storages.insert(key.to_owned(), content.to_vec());
        rest = behind;
    }
    Ok((value, storages))
}

/// The element size of every storage that a value refers to. Values may be shared, so each is looked
/// at once.
fn element_sizes(value: &Rc<Value>) -> HashMap<String, usize> {
    let (mut sizes, mut seen, mut open) = (HashMap::new(), HashSet::new(), vec![value]);
    while let Some(value) = open.pop() {
        if !seen.insert(Rc::as_ptr(value)) {
            continue;
        }
        if let Some(storage) = Storage::of(value) {
            sizes.insert(storage.key.to_owned(), storage.element_size());
        } else if let Value::Node(node) = value.as_ref() {
            open.extend(&node.items);
        }
    }
    sizes
}

/// A reference to a storage: ('storage', type, key, place, count, ...).
struct Storage<'a> {
    element: &'a str,
    key: &'a str,
}

impl<'a> Storage<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        let [reference] = value.parts(&Kind::Persistent)? else { return None };
        let parts = reference.parts(&Kind::Tuple)?;
        let Value::Global(element) = parts.get(1)?.as_ref() else { return None };
        Some(Self { element, key: parts.get(2)?.text()? })
    }

    fn element_size(&self) -> usize {
        match self.element {
            "torch.FloatStorage" | "torch.IntStorage" => 4,
            "torch.HalfStorage" | "torch.BFloat16Storage" | "torch.ShortStorage" => 2,
            "torch.ByteStorage" | "torch.CharStorage" | "torch.BoolStorage" => 1,
            _ => LARGEST_ELEMENT,
        }
    }

    /// Its elements as f32; `None` where they are no floats.
    fn floats(&self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self.element {
            "torch.FloatStorage" => bytemuck::pod_collect_to_vec(whole(bytes, 4)),
            "torch.DoubleStorage" => {
                let wide: Vec<f64> = bytemuck::pod_collect_to_vec(whole(bytes, 8));
                wide.into_iter().map(|value| value as f32).collect()
            }
            "torch.HalfStorage" => {
                let bits: Vec<u16> = bytemuck::pod_collect_to_vec(whole(bytes, 2));
                bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect()
            }
            "torch.BFloat16Storage" => {
                let bits: Vec<u16> = bytemuck::pod_collect_to_vec(whole(bytes, 2));
                bits.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect()
            }
            _ => return None,
        })
    }
}

/// The bytes of whole elements.
fn whole(bytes: &[u8], size: usize) -> &[u8] {
    &bytes[..bytes.len() / size * size]
}

/// A tensor, or a parameter around one; `None` for other values and for integers.
fn tensor(value: &Value, storages: &Storages) -> Result<Option<ArrayD<f32>>, String> {
    let Value::Node(node) = value else { return Ok(None) };
    let Kind::Call(function) = &node.kind else { return Ok(None) };
    match (function.as_str(), node.items.as_slice()) {
        ("torch._utils._rebuild_parameter", [data, ..]) => tensor(data, storages),
        (
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
            [storage, offset, size, stride, ..],
        ) => {
            let storage = Storage::of(storage).ok_or("a tensor without a storage")?;
            let bytes = storages.get(storage.key).ok_or("a storage that is not in the file")?;
            let Some(elements) = storage.floats(bytes) else { return Ok(None) };
            strided(&elements, offset, size, stride).map(Some)
        }
        _ => Ok(None),
    }
}

/// The elements of a storage that a tensor shows, in standard order.
fn strided(
    elements: &[f32],
    offset: &Value,
    size: &Value,
    stride: &Value,
) -> Result<ArrayD<f32>, String> {
    let lengths = |value: &Value| -> Option<Vec<usize>> {
        value.parts(&Kind::Tuple)?.iter().map(|part| part.index()).collect()
    };
    let parts = (offset.index(), lengths(size), lengths(stride));
    let (Some(offset), Some(size), Some(stride)) = parts else {
        return Err("an offset, sizes or strides that are no counts".into());
    };
    let count = size.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
    if size.len() != stride.len() || count.is_none_or(|count| count > elements.len()) {
        return Err(format!("shape {size:?} over a storage of {}", elements.len()));
    }
    // Visits every place once, the last axis fastest.
    let mut values = Vec::with_capacity(count.unwrap_or(0));
    let mut place = vec![0; size.len()];
    for _ in 0..count.unwrap_or(0) {
        let steps =
            place.iter().zip(&stride).map(|(&at, &step): (&usize, &usize)| at.checked_mul(step));
        let index = steps.into_iter().try_fold(offset, |sum: usize, step| sum.checked_add(step?));
        let element = index.and_then(|index| elements.get(index));
        values.push(
            *element.ok_or_else(|| format!("an element beyond a storage of {}", elements.len()))?,
        );
        for axis in (0..size.len()).rev() {
            place[axis] += 1;
            if place[axis] < size[axis] {
                break;
            }
            place[axis] = 0;
        }
    }
    ArrayD::from_shape_vec(IxDyn(&size), values).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by PyTorch 2.11: see `tests/data/state_dicts.py`.
    const FILES: [(&str, &[u8]); 5] = [
        ("state_dict.pth", include_bytes!("../../../tests/data/state_dict.pth")),
        ("checkpoint.pth.tar", include_bytes!("../../../tests/data/checkpoint.pth.tar")),
        ("legacy.pth.tar", include_bytes!("../../../tests/data/legacy.pth.tar")),
        ("parameters.pth", include_bytes!("../../../tests/data/parameters.pth")),
        ("transposed_f64.pth", include_bytes!("../../../tests/data/transposed_f64.pth")),
    ];

    #[test]
    fn every_way_of_saving_gives_the_same_weights() {
        for (name, bytes) in FILES {
            assert!(is_one(bytes), "{name}");
            let weights = read(bytes, name).unwrap();
            let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["ip1.bias", "ip1.weight", "mask_ip1.alpha"], "{name}");
            let weight = weights.get("ip1.weight").unwrap();
            assert_eq!(weight.shape(), [2, 3], "{name}");
            let values: Vec<f32> = weight.iter().copied().collect();
            assert_eq!(values, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25], "{name}");
            assert_eq!(weights.get("mask_ip1.alpha").unwrap().shape(), [1, 2], "{name}");
        }
    }

    #[test]
    fn a_checkpoint_without_tensors_is_refused() {
        let error =
            read(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "file").unwrap_err();
        assert!(error.to_string().contains("a state dict saved by torch.save"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn damaged_files_are_errors_or_arrays(
            which in 0..5_usize, place in any::<prop::sample::Index>(), value in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (name, bytes) = FILES[which];
            let mut damaged = bytes.to_vec();
            damaged[place.index(bytes.len())] = value;
            let _ = read(&damaged, name);
            prop_assert!(read(&bytes[..cut.index(bytes.len())], name).is_err());
        }
    }
}

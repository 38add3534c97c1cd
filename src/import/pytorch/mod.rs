//! What `torch.save` writes: since PyTorch 1.6 a zip archive of a pickle and a file per storage, before that (the
//! authors' checkpoints) five pickles and the storages in a row.

mod strided;

use std::collections::HashMap;
use std::io::{Cursor, Read};

use ndarray::{ArrayD, IxDyn};

use self::strided::{Elements, read_strided};
use super::names::{Arrays, Element};
use super::pickle::{self, Kind, Node, Pickle, Value};
use crate::error::{Error, Result};

/// What the old format begins with, after the pickle's protocol: a long of ten bytes.
const LEGACY_MAGIC: [u8; 12] =
    [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// No element of a storage is larger.
const LARGEST_ELEMENT: usize = 8;

/// How many times the bytes of its file the arrays of a file may take: those of bf16 twice, those that tensors share
/// or repeat (`expand`) more.
const LARGEST_GROWTH: usize = 64;

/// Dictionaries and modules may lie in each other this deep.
const DEEPEST: usize = 64;

/// Whether a file begins as PyTorch's do.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.get(2..14) == Some(&LEGACY_MAGIC)
}

/// The arrays of a file: of the dictionary of tensors that it is, of the only one in it, or of the one under `key`;
/// `name` is for messages.
pub fn read(bytes: &[u8], name: &str, key: Option<&str>) -> Result<Arrays> {
    let refused = |found: String| {
        Error::malformed(name, "a state dict saved by torch.save, or a safetensors file", found)
    };
    let archive = if bytes.starts_with(b"PK") { zipped(bytes) } else { legacy(bytes) };
    let (pickle, storages) = archive.map_err(refused)?;
    let file = File { pickle: &pickle, storages: &storages };
    let state = file.chosen(key, name)?;
    let mut entries = Vec::new();
    file.collect(state, "", 0, &mut entries).map_err(refused)?;
    let mut arrays = Arrays::default();
    let mut room = bytes.len().saturating_mul(LARGEST_GROWTH).saturating_add(1 << 20);
    for (key, value) in entries {
        let tensor = file.tensor(value, &mut room).map_err(|reason| {
            Error::malformed(format!("{name}, array {key}"), "a tensor of floats", reason)
        })?;
        match tensor {
            Tensor::Floats(array, element) => arrays.floats(key, array, element),
            Tensor::Integers => arrays.integers(key),
            Tensor::None => arrays.others(key),
        }
    }
    Ok(arrays)
}

type Storages = HashMap<String, Vec<u8>>;

fn zipped(bytes: &[u8]) -> Result<(Pickle, Storages), String> {
    // PyTorch's archives begin where the file does. To find out where, the library would look for what the end of an
    // archive looks like, and has been seen to refuse whole ones.
    let config = zip::read::Config { archive_offset: zip::read::ArchiveOffset::Known(0) };
    let mut archive = zip::ZipArchive::with_config(config, Cursor::new(bytes))
        .map_err(|error| error.to_string())?;
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    // PyTorch stores entries as they are: all of them together are no larger than the file.
    let mut room = bytes.len() as u64;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| error.to_string())?;
        // Below one folder, whose name is the archive's.
        let entry_name = entry.name().map_err(|error| error.to_string())?.into_owned();
        let Some((_, path)) = entry_name.split_once('/') else { continue };
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(format!(
                "{path} compressed ({}): repack it with `zip -0`",
                entry.compression()
            ));
        }
        let mut content = Vec::new();
        let read =
            entry.take(room + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        room = room.checked_sub(read as u64).ok_or("entries that are larger than the archive")?;
        files.insert(path.to_owned(), content);
    }
    let pickle = files.remove("data.pkl").ok_or("a zip archive without data.pkl")?;
    let (value, _) = pickle::read(&pickle)?;
    let storage = |(path, content): (String, Vec<u8>)| {
        Some((path.strip_prefix("data/")?.to_owned(), content))
    };
    Ok((value, files.into_iter().filter_map(storage).collect()))
}

fn legacy(bytes: &[u8]) -> Result<(Pickle, Storages), String> {
    let mut rest = bytes;
    for _ in 0..3 {
        rest = pickle::read(rest)?.1; // the magic number, the version, the writer's sizes of types
    }
    let (value, rest) = pickle::read(rest)?;
    let (keys, mut rest) = pickle::read(rest)?;
    let sizes = element_sizes(&value);
    let mut storages = Storages::new();
    for key in keys.parts(keys.root(), &Kind::List).ok_or("no list of storages")? {
        let key = key.text().ok_or("a storage without a name")?;
        let (count, remaining) = rest.split_at_checked(8).ok_or("an end amid the storages")?;
        let count = u64::from_le_bytes(count.try_into().map_err(|_| "an end amid the storages")?);
        let size = sizes.get(key).copied().ok_or("a storage that no tensor uses")?;
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let split = length.and_then(|length| remaining.split_at_checked(length));
        let (content, remaining) = split.ok_or("an end amid a storage")?;
        storages.insert(key.to_owned(), content.to_vec());
        rest = remaining;
    }
    Ok((value, storages))
}

/// The element size of every storage that a pickle refers to.
fn element_sizes(pickle: &Pickle) -> HashMap<String, usize> {
    let storages = pickle.nodes().iter().filter_map(|node| Storage::of_node(pickle, node));
    storages.map(|storage| (storage.key.to_owned(), storage.element_size())).collect()
}

/// A reference to a storage: ('storage', type, key, place, count, ...).
struct Storage<'a> {
    element: &'a str,
    key: &'a str,
}

impl<'a> Storage<'a> {
    fn of(pickle: &'a Pickle, value: &Value) -> Option<Self> {
        Self::of_node(pickle, pickle.node(value)?)
    }

    fn of_node(pickle: &'a Pickle, node: &'a Node) -> Option<Self> {
        let (Kind::Persistent, [reference]) = (&node.kind, &node.items[..]) else { return None };
        let parts = pickle.parts(reference, &Kind::Tuple)?;
        let Value::Global(element) = parts.get(1)? else { return None };
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

    fn element(&self) -> Result<Element, String> {
        Ok(match self.element {
            "torch.FloatStorage" => Element::F32,
            "torch.DoubleStorage" => Element::F64,
            "torch.HalfStorage" => Element::F16,
            "torch.BFloat16Storage" => Element::Bf16,
            "torch.LongStorage" | "torch.IntStorage" | "torch.ShortStorage"
            | "torch.CharStorage" | "torch.ByteStorage" | "torch.BoolStorage" => Element::Integer,
            other => return Err(format!("elements of {other}")),
        })
    }
}

/// What an entry of a dictionary is.
enum Tensor {
    Floats(ArrayD<f32>, Element),
    Integers,
    None,
}

/// A file that has been unpacked.
struct File<'a> {
    pickle: &'a Pickle,
    storages: &'a Storages,
}

impl<'a> File<'a> {
    /// The dictionary of tensors to read, or the module.
    fn chosen(&self, key: Option<&str>, name: &str) -> Result<&'a Value> {
        let pickle = self.pickle;
        let refused = |expected: &str, found: String| Err(Error::malformed(name, expected, found));
        let all = self.states();
        let names: Vec<&str> = all.iter().map(|(path, _)| path.as_str()).collect();
        if let Some(key) = key {
            if let Some((_, state)) = all.iter().find(|(path, _)| path == key) {
                return Ok(state);
            }
            let found = if names.is_empty() { "none".into() } else { names.join(", ") };
            return refused(&format!("a dictionary of tensors under the key {key}"), found);
        }
        if self.is_state(pickle.root()) {
            return Ok(pickle.root());
        }
        match &all[..] {
            [(_, state)] => Ok(state),
            [] => {
                let found = match pickle.node(pickle.root()) {
                    Some(Node { kind: Kind::Call(class), .. }) => {
                        format!("an object of {class}: save its state_dict()")
                    }
                    Some(Node { kind: Kind::Dict, .. }) => "a dictionary without tensors".into(),
                    _ => "no dictionary".into(),
                };
                refused("a state dict saved by torch.save, or a safetensors file", found)
            }
            _ => {
                let expected = "one dictionary of tensors: choose with --key";
                refused(expected, format!("several, under {}", names.join(" and ")))
            }
        }
    }

    /// The dictionaries of tensors, and modules, that lie in the file's dictionary, by their keys; of those that lie
    /// deeper, keys joined by dots. What lies in one of them is part of it.
    fn states(&self) -> Vec<(String, &'a Value)> {
        let (mut found, mut open) = (Vec::new(), vec![(String::new(), self.pickle.root(), 0)]);
        while let Some((path, value, depth)) = open.pop() {
            let entries = self.pickle.entries(value).into_iter().flatten();
            for (key, value) in entries {
                let Some(key) = key.text() else { continue };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                if self.is_state(value) {
                    found.push((path, value));
                } else if depth < 3 {
                    open.push((path, value, depth + 1));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Whether a value is a dictionary that holds a tensor under a text, or a module.
    fn is_state(&self, value: &Value) -> bool {
        let is_tensor =
            |(key, value): (&Value, &Value)| key.text().is_some() && self.rebuilt(value).is_some();
        self.pickle.entries(value).is_some_and(|mut entries| entries.any(is_tensor))
            || self.module(value).is_some()
    }

    /// The attributes of a module of PyTorch that was saved whole.
    fn module(&self, value: &Value) -> Option<&'a Value> {
        let node = self.pickle.node(value)?;
        let state = node.state.as_ref().filter(|_| matches!(node.kind, Kind::Call(_)))?;
        self.pickle.entry(state, "_parameters").and(Some(state))
    }

    /// The entries of a state dict, or what a module's would be.
    fn collect(
        &self,
        state: &'a Value,
        prefix: &str,
        depth: usize,
        entries: &mut Vec<(String, &'a Value)>,
    ) -> Result<(), String> {
        if depth > DEEPEST {
            return Err("modules in each other without end".into());
        }
        let Some(attributes) = self.module(state) else {
            for (key, value) in self.pickle.entries(state).into_iter().flatten() {
                if let Some(key) = key.text() {
                    entries.push((format!("{prefix}{key}"), value));
                }
            }
            return Ok(());
        };
        for part in ["_parameters", "_buffers"] {
            let own = self.pickle.entry(attributes, part);
            for (key, value) in own.and_then(|own| self.pickle.entries(own)).into_iter().flatten() {
                // A parameter that a layer does without is None.
                if let Some(key) = key.text().filter(|_| self.rebuilt(value).is_some()) {
                    entries.push((format!("{prefix}{key}"), value));
                }
            }
        }
        let inner = self.pickle.entry(attributes, "_modules");
        for (key, value) in inner.and_then(|all| self.pickle.entries(all)).into_iter().flatten() {
            if let Some(key) = key.text().filter(|_| self.module(value).is_some()) {
                // As many modules as were written, however often they refer to each other.
                if entries.len() > self.pickle.nodes().len() {
                    return Err("modules in each other without end".into());
                }
                self.collect(value, &format!("{prefix}{key}."), depth + 1, entries)?;
            }
        }
        Ok(())
    }

    /// The function and arguments by which PyTorch makes a tensor again.
    fn rebuilt(&self, value: &Value) -> Option<(&'a str, &'a [Value])> {
        let node = self.pickle.node(value)?;
        let Kind::Call(function) = &node.kind else { return None };
        let rebuilds = ["torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.nn.parameter."];
        rebuilds.iter().any(|start| function.starts_with(start)).then_some((function, &node.items))
    }

    /// A tensor, or a parameter around one. `room` bytes are left for arrays.
    fn tensor(&self, value: &Value, room: &mut usize) -> Result<Tensor, String> {
        let mut value = value;
        for _ in 0..4 {
            let Some((function, arguments)) = self.rebuilt(value) else { return Ok(Tensor::None) };
            let name = function.rsplit('.').next().unwrap_or(function);
            match (name, arguments) {
                ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => {
                    value = data
                }
                ("_rebuild_tensor_v2" | "_rebuild_tensor", [storage, offset, size, stride, ..]) => {
                    return self.strided(storage, [offset, size, stride], room);
                }
                _ => return Err(format!("one that {function} makes")),
            }
        }
        Err("a parameter around parameters".into())
    }

    /// The elements of a storage that a tensor shows, in standard order.
    fn strided(
        &self,
        storage: &Value,
        [offset, size, stride]: [&Value; 3],
        room: &mut usize,
    ) -> Result<Tensor, String> {
        let storage = Storage::of(self.pickle, storage).ok_or("a tensor without a storage")?;
        let element = storage.element()?;
        if element == Element::Integer {
            return Ok(Tensor::Integers);
        }
        let bytes = self.storages.get(storage.key).ok_or("a storage that is not in the file")?;
        let lengths = |value: &Value| -> Option<Vec<usize>> {
            self.pickle.parts(value, &Kind::Tuple)?.iter().map(Value::index).collect()
        };
        let parts = (offset.index(), lengths(size), lengths(stride));
        let (Some(offset), Some(size), Some(stride)) = parts else {
            return Err("an offset, sizes or strides that are no counts".into());
        };
        let count = size.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
        let needed = count.and_then(|count| count.checked_mul(4));
        let (Some(count), Some(needed)) = (count, needed.filter(|_| size.len() == stride.len()))
        else {
            return Err(format!("shape {size:?} with strides {stride:?}"));
        };
        *room = room.checked_sub(needed).ok_or_else(|| {
            format!("shape {size:?}, far more than the file holds: save its .contiguous()")
        })?;
        let values = read_strided(&Elements { bytes, element }, offset, &size, &stride, count)?;
        let array =
            ArrayD::from_shape_vec(IxDyn(&size), values).map_err(|error| error.to_string())?;
        Ok(Tensor::Floats(array, element))
    }
}

#[cfg(test)]
mod tests;

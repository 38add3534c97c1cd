//! Models whose arrays are stored dense or sparse, each as it is smallest, in one `safetensors` file.
//!
//! A sparse array `ip1.weight` is stored as `ip1.weight/values`, `/indices`, `/row_ptr` (of upright groups
//! `/strip_ptr`) and, in groups of either kind, `/tail`. The file's metadata says its shape and format.

mod parts;

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use self::parts::{ArrayPart, Reader, parts_of};
use super::{Bytes, Csr, GroupSparse, UprightSparse};
use crate::error::{Error, Result};
use crate::files;
use crate::network::weights::{dense, is_counter, open, serialize};
use crate::network::{Network, Weights, as_matrix};

/// How to store the weights of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// All of them.
    Dense,
    /// Aligned groups of this width.
    Groups(usize),
    /// Upright groups of this height.
    Upright(usize),
    /// Compressed sparse rows.
    Csr,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dense => f.write_str("dense"),
            Self::Groups(width) => write!(f, "groups of {width}"),
            Self::Upright(height) => write!(f, "upright groups of {height}"),
            Self::Csr => f.write_str("csr"),
        }
    }
}

/// An array as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredArray {
    /// All of it.
    Dense(ArrayD<f32>),
    /// In groups, with the shape of the array that it is.
    Groups(GroupSparse, Vec<usize>),
    /// In upright groups, with the shape of the array that it is.
    Upright(UprightSparse, Vec<usize>),
    /// In sparse rows, with the shape of the array that it is.
    Csr(Csr, Vec<usize>),
}

impl StoredArray {
    /// Its size in a file.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Dense(array) => Bytes { values: 4 * array.len(), indices: 0 },
            Self::Groups(groups, _) => groups.bytes(),
            Self::Upright(upright, _) => upright.bytes(),
            Self::Csr(csr, _) => csr.bytes(),
        }
    }

    /// The shape of the array that it is.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(array) => array.shape(),
            Self::Groups(_, shape) | Self::Upright(_, shape) | Self::Csr(_, shape) => shape,
        }
    }

    /// The format of a sparse array.
    fn sparse_format(&self) -> Option<SparseFormat> {
        match self {
            Self::Dense(_) => None,
            Self::Groups(groups, _) => Some(SparseFormat::Groups { width: groups.width() }),
            Self::Upright(upright, _) => Some(SparseFormat::Upright { height: upright.height() }),
            Self::Csr(..) => Some(SparseFormat::Csr),
        }
    }

    fn to_dense(&self) -> Result<ArrayD<f32>> {
        let (matrix, shape) = match self {
            Self::Dense(array) => return Ok(array.clone()),
            Self::Groups(groups, shape) => (groups.to_dense(), shape),
            Self::Upright(upright, shape) => (upright.to_dense(), shape),
            Self::Csr(csr, shape) => (csr.to_dense(), shape),
        };
        matrix.into_shape_with_order(IxDyn(shape)).map_err(|error| {
            Error::malformed("a sparse array", format!("shape {shape:?}"), error.to_string())
        })
    }
}

/// The arrays of a network as they are stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    arrays: BTreeMap<String, StoredArray>,
    network: Option<Network>,
}

/// What a file says of its arrays.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Description {
    #[serde(default)]
    network: Option<Network>,
    #[serde(default)]
    sparse: BTreeMap<String, SparseArray>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SparseArray {
    shape: Vec<usize>,
    format: SparseFormat,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SparseFormat {
    Groups { width: usize },
    Upright { height: usize },
    Csr,
}

impl Model {
    /// Key of a file's metadata under which a description of its arrays lies, as JSON.
    pub const DESCRIPTION_KEY: &str = "scalpel";

    /// Stores every array of two or more axes in `format`, masks and vectors dense. `network` is
    /// described in the file where it is not one of the zoo.
    ///
    /// # Errors
    /// Arrays too large for the format.
    pub fn new(weights: &Weights, network: Option<&Network>, format: Format) -> Result<Self> {
        let mut arrays = BTreeMap::new();
        for (name, array) in weights.iter() {
            let is_mask = name.ends_with(".alpha") || name.ends_with(".beta");
            let sparse = format != Format::Dense && array.ndim() >= 2 && !is_mask;
            let shape = array.shape().to_vec();
            let stored = match format {
                Format::Groups(width) if sparse => StoredArray::Groups(
                    GroupSparse::from_dense(as_matrix(name, array)?, width)?,
                    shape,
                ),
                Format::Upright(height) if sparse => StoredArray::Upright(
                    UprightSparse::from_dense(as_matrix(name, array)?, height)?,
                    shape,
                ),
                Format::Csr if sparse => {
                    StoredArray::Csr(Csr::from_dense(as_matrix(name, array)?)?, shape)
                }
                _ => StoredArray::Dense(array.clone()),
            };
            arrays.insert(name.to_owned(), stored);
        }
        Ok(Self { arrays, network: network.cloned() })
    }

    /// Its arrays, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredArray)> {
        self.arrays.iter().map(|(name, stored)| (name.as_str(), stored))
    }

    /// The network that the file describes, if it does.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Weights in a group: of the first array, in order of name, that is stored in groups.
    pub fn group_width(&self) -> Option<usize> {
        self.iter().find_map(|(_, stored)| match stored {
            StoredArray::Groups(groups, _) => Some(groups.width()),
            StoredArray::Upright(upright, _) => Some(upright.height()),
            StoredArray::Dense(_) | StoredArray::Csr(..) => None,
        })
    }

    /// The size of the arrays that a network needs to run: all but its masks.
    pub fn bytes(&self) -> Bytes {
        let needed =
            self.iter().filter(|(name, _)| !name.ends_with(".alpha") && !name.ends_with(".beta"));
        needed.map(|(_, stored)| stored.bytes()).sum()
    }

    /// All arrays, dense.
    ///
    /// # Errors
    /// A sparse array that does not fill its shape.
    pub fn to_weights(&self) -> Result<Weights> {
        self.iter().map(|(name, stored)| Ok((name.to_owned(), stored.to_dense()?))).collect()
    }

    /// Reads a file of dense or sparse arrays.
    ///
    /// # Errors
    /// A file that cannot be read, is no `safetensors`, or whose arrays contradict each other.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&files::read(path)?, &path.display().to_string())
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::replace(path, self.to_bytes()?)
    }

    /// As [`Model::load`], from bytes; `name` is for messages.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let (file, metadata) = open(bytes, name)?;
        let description: Description = match metadata.get(Self::DESCRIPTION_KEY) {
            None => Description::default(),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                let what = format!("{name}, metadata {}", Self::DESCRIPTION_KEY);
                Error::malformed(what, "a description of its arrays", error.to_string())
            })?,
        };
        let mut model = Self { network: description.network, ..Self::default() };
        for (array, sparse) in &description.sparse {
            let reader = Reader { file: &file, what: format!("{name}, array {array}"), array };
            model.arrays.insert(array.clone(), reader.sparse(sparse)?);
        }
        for (array, view) in file.iter() {
            let owner = array.rsplit_once('/').map(|(owner, _)| owner);
            let is_part = owner.is_some_and(|owner| description.sparse.contains_key(owner));
            if !is_part && !is_counter(array) {
                let dense = dense(&format!("{name}, array {array}"), &view)?;
                model.arrays.insert(array.to_owned(), StoredArray::Dense(dense));
            }
        }
        Ok(model)
    }

    /// The bytes of its file; equal models give equal bytes.
    ///
    /// # Errors
    /// Arrays that the format cannot hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut description =
            Description { network: self.network.clone(), ..Description::default() };
        let mut parts: Vec<ArrayPart> = Vec::new();
        for (name, stored) in self.iter() {
            if let Some(format) = stored.sparse_format() {
                let shape = stored.shape().to_vec();
                description.sparse.insert(name.into(), SparseArray { shape, format });
            }
            parts.extend(parts_of(name, stored));
        }
        let mut views = Vec::with_capacity(parts.len());
        for part in &parts {
            let view = TensorView::new(part.dtype, part.shape.clone(), &part.bytes);
            let view = view.map_err(|error| {
                Error::argument(
                    format!("store {}", part.name),
                    "a storable array",
                    error.to_string(),
                )
            })?;
            views.push((part.name.as_str(), view));
        }
        let is_plain = description.network.is_none() && description.sparse.is_empty();
        if is_plain {
            return serialize(views, None);
        }
        let text = serde_json::to_string(&description).map_err(|error| {
            Error::argument("describe a file's arrays", "finite numbers", error.to_string())
        })?;
        serialize(views, Some((Self::DESCRIPTION_KEY, text)))
    }
}

#[cfg(test)]
mod tests;

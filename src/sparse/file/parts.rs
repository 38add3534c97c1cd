//! The arrays of a file that one array of a model is stored as, to be written and read.

use bytemuck::Pod;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{SparseArray, SparseFormat, StoredArray};
use crate::error::{Error, Result};
use crate::network::weights::elements;
use crate::sparse::group::GroupParts;
use crate::sparse::upright::UprightParts;
use crate::sparse::{Csr, GroupSparse, UprightSparse};

/// The arrays that an array of the model is stored as.
pub(super) fn parts_of(name: &str, stored: &StoredArray) -> Vec<ArrayPart> {
    let floats = |part, values: &[f32]| ArrayPart::vector(name, part, Dtype::F32, values);
    let pointers = |part, values: &[u32]| ArrayPart::vector(name, part, Dtype::U32, values);
    match stored {
        StoredArray::Dense(array) => {
            let values: Vec<f32> = array.iter().copied().collect();
            vec![ArrayPart::new(name.to_owned(), array.shape().to_vec(), Dtype::F32, &values)]
        }
        StoredArray::Groups(groups, _) => vec![
            floats("values", groups.values()),
            ArrayPart::indices(name, groups.groups(), groups.index_bytes()),
            pointers("row_ptr", groups.row_ptr()),
            floats("tail", groups.tail()),
        ],
        StoredArray::Upright(upright, _) => vec![
            floats("values", upright.values()),
            ArrayPart::indices(name, upright.indices(), upright.index_bytes()),
            pointers("strip_ptr", upright.strip_ptr()),
            floats("tail", upright.tail()),
        ],
        StoredArray::Csr(csr, _) => vec![
            floats("values", csr.values()),
            ArrayPart::indices(name, csr.columns(), csr.index_bytes()),
            pointers("row_ptr", csr.row_ptr()),
        ],
    }
}

/// One array of the file, ready to be written.
pub(super) struct ArrayPart {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: Vec<u8>,
}

impl ArrayPart {
    fn new<T: Pod>(name: String, shape: Vec<usize>, dtype: Dtype, values: &[T]) -> Self {
        Self { name, shape, dtype, bytes: bytemuck::cast_slice(values).to_vec() }
    }

    fn vector<T: Pod>(array: &str, part: &str, dtype: Dtype, values: &[T]) -> Self {
        Self::new(format!("{array}/{part}"), vec![values.len()], dtype, values)
    }

    fn indices(array: &str, indices: &[u32], bytes: usize) -> Self {
        if bytes == 2 {
            // `bytes_for` has seen that every index fits.
            let short: Vec<u16> = indices.iter().map(|&index| index as u16).collect();
            return Self::vector(array, "indices", Dtype::U16, &short);
        }
        Self::vector(array, "indices", Dtype::U32, indices)
    }
}

/// Reads the parts of one sparse array.
pub(super) struct Reader<'a> {
    pub file: &'a SafeTensors<'a>,
    pub what: String,
    pub array: &'a str,
}

impl Reader<'_> {
    pub fn sparse(&self, description: &SparseArray) -> Result<StoredArray> {
        let shape = &description.shape;
        let columns = shape.iter().skip(1).try_fold(1_usize, |product, &n| product.checked_mul(n));
        let (Some(&rows), Some(columns), true) = (shape.first(), columns, shape.len() >= 2) else {
            let expected = "a shape of two or more axes";
            return Err(Error::malformed(&self.what, expected, format!("{shape:?}")));
        };
        // The dense array must be one that memory can hold, or `to_dense` could not make it.
        if rows.checked_mul(columns).is_none_or(|count| count > 1 << 32) {
            return Err(Error::malformed(&self.what, "at most 2^32 weights", format!("{shape:?}")));
        }
        let (indices, values) = (self.indices()?, self.part("values", Dtype::F32)?);
        match description.format {
            SparseFormat::Groups { width } => {
                let row_ptr = self.part("row_ptr", Dtype::U32)?;
                let tail = self.part("tail", Dtype::F32)?;
                let parts = GroupParts { row_ptr, groups: indices, values, tail };
                let groups = GroupSparse::from_parts(&self.what, [rows, columns], width, parts)?;
                Ok(StoredArray::Groups(groups, shape.clone()))
            }
            SparseFormat::Upright { height } => {
                let strip_ptr = self.part("strip_ptr", Dtype::U32)?;
                let tail = self.part("tail", Dtype::F32)?;
                let parts = UprightParts { strip_ptr, indices, values, tail };
                let upright =
                    UprightSparse::from_parts(&self.what, [rows, columns], height, parts)?;
                Ok(StoredArray::Upright(upright, shape.clone()))
            }
            SparseFormat::Csr => {
                let row_ptr = self.part("row_ptr", Dtype::U32)?;
                let csr = Csr::from_parts(&self.what, [rows, columns], row_ptr, indices, values)?;
                Ok(StoredArray::Csr(csr, shape.clone()))
            }
        }
    }

    fn view(&self, part: &str) -> Result<TensorView<'_>> {
        let name = format!("{}/{part}", self.array);
        self.file
            .tensor(&name)
            .map_err(|_| Error::malformed(&self.what, format!("a part {name}"), "none"))
    }

    fn part<T: Pod>(&self, part: &str, dtype: Dtype) -> Result<Vec<T>> {
        elements(&format!("{}/{part}", self.what), &self.view(part)?, dtype)
    }

    fn indices(&self) -> Result<Vec<u32>> {
        if self.view("indices")?.dtype() == Dtype::U16 {
            let short: Vec<u16> = self.part("indices", Dtype::U16)?;
            return Ok(short.into_iter().map(u32::from).collect());
        }
        self.part("indices", Dtype::U32)
    }
}

//! Tensors out of storages, by their strides.

use half::{bf16, f16};

use crate::import::names::Element;

/// The bytes of a storage as floats.
pub(super) struct Elements<'a> {
    pub bytes: &'a [u8],
    pub element: Element,
}

impl Elements<'_> {
    fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes()
    }

    fn get(&self, index: usize) -> Option<f32> {
        let size = self.element.bytes();
        let bytes = self.bytes.get(index.checked_mul(size)?..)?.get(..size)?;
        Some(match self.element {
            Element::F32 => f32::from_le_bytes(bytes.try_into().ok()?),
            Element::F64 => f64::from_le_bytes(bytes.try_into().ok()?) as f32,
            Element::F16 => f16::from_le_bytes(bytes.try_into().ok()?).to_f32(),
            Element::Bf16 => bf16::from_le_bytes(bytes.try_into().ok()?).to_f32(),
            Element::Integer => return None,
        })
    }
}

/// Visits every place of a shape once, the last axis fastest.
pub(super) fn read_strided(
    elements: &Elements<'_>,
    offset: usize,
    size: &[usize],
    stride: &[usize],
    count: usize,
) -> Result<Vec<f32>, String> {
    let mut values = Vec::with_capacity(count);
    let mut place = vec![0; size.len()];
    for _ in 0..count {
        let steps =
            place.iter().zip(stride).map(|(&at, &step): (&usize, &usize)| at.checked_mul(step));
        let index = steps.into_iter().try_fold(offset, |sum: usize, step| sum.checked_add(step?));
        let element = index.and_then(|index| elements.get(index));
        values.push(
            element.ok_or_else(|| format!("an element beyond a storage of {}", elements.len()))?,
        );
        for axis in (0..size.len()).rev() {
            place[axis] += 1;
            if place[axis] < size[axis] {
                break;
            }
            place[axis] = 0;
        }
    }
    Ok(values)
}

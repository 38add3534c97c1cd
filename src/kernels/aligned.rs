//! Floats from the start of a cache line on.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// Floats of a cache line, and of the longest vectors.
pub(super) const LINE: usize = 16;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats of which the first one starts a cache line, so that no vector of them that lies at a multiple of its
/// length is in two lines. (A `Vec<f32>` mostly begins 16 bytes after the start of one: every vector of 16
/// floats is in two, every second one of 8.)
#[derive(Clone, Debug, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

impl Aligned {
    pub const fn new() -> Self {
        Self { lines: Vec::new(), length: 0 }
    }

    /// So many zeros.
    pub fn zeros(length: usize) -> Self {
        Self { lines: vec![Zeroable::zeroed(); length.div_ceil(LINE)], length }
    }

    /// Sets the length. What the floats are is left open.
    pub fn set_length(&mut self, length: usize) {
        self.lines.resize(length.div_ceil(LINE), Zeroable::zeroed());
        self.length = length;
    }
}

impl From<Vec<f32>> for Aligned {
    fn from(values: Vec<f32>) -> Self {
        let mut aligned = Self::zeros(values.len());
        aligned.copy_from_slice(&values);
        aligned
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_start_a_line_and_have_the_length_that_is_asked_for() {
        let values: Vec<f32> = (0..37).map(|value| value as f32).collect();
        let mut aligned = Aligned::from(values.clone());
        assert_eq!(aligned[..], values);
        for length in [0, 1, 16, 17, 5000] {
            aligned.set_length(length);
            assert_eq!((aligned.len(), aligned.as_ptr().addr() % 64), (length, 0));
        }
    }
}

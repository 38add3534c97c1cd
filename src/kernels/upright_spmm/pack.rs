//! A layer's weights strip by strip, in blocks of K.
//!
//! Rows that are stored dense are packed as a strip of fewer rows that stores every column. Of a K so large that a tile's
//! rows of X would leave the second-level cache before the next strip reads them again, each block is done for
//! all strips before the next one: the weights of a block follow each other, strip by strip.

use std::ops::Range;

use super::UprightLayer;
use crate::device::cpu;
use crate::kernels::aligned::Aligned;

/// Groups between the one that is computed and the one whose row of X is fetched: no processor foresees which
/// it is.
pub(super) const AHEAD: usize = 8;

/// Rows of Y that have the same groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strip {
    pub first_row: usize,
    pub rows: usize,
}

/// The groups of a strip within a block of K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    /// The first of them.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Where their weights start, as many for each as the strip has rows.
    pub weights: usize,
}

/// A layer in strips.
#[derive(Debug)]
pub(super) struct Strips {
    pub strips: Vec<Strip>,
    /// Of each block of K and then each strip.
    groups: Vec<Groups>,
    /// The row of X of each group, and [`AHEAD`] zeros, so that the groups ahead of the last may be asked for, too.
    columns: Vec<u32>,
    values: Aligned,
    /// Rows of X.
    pub inner: usize,
}

impl Strips {
    /// A layer's strips, in blocks of K of which a tile of `width` columns of X is at most half of what a core's
    /// second-level cache holds.
    pub fn new(layer: &UprightLayer<'_>, width: usize) -> Self {
        let most = (cpu::caches().l2 / 2 / (4 * width)).max(64);
        let inner = layer.weights.shape()[1];
        // Of equal size, and none where a block would be little more than one.
        let blocks = if inner <= most + most / 4 { 1 } else { inner.div_ceil(most) };
        Self::in_blocks(layer, blocks)
    }

    /// A layer's strips, in so many blocks of K.
    fn in_blocks(layer: &UprightLayer<'_>, blocks: usize) -> Self {
        let weights = layer.weights;
        let [rows, inner] = weights.shape();
        let strip_of = |own: Range<usize>| Strip { first_row: own.start, rows: own.len() };
        let stored = (0..weights.strips()).map(|strip| strip_of(weights.strip_rows(strip)));
        let dense = (weights.tail_rows() > 0).then(|| strip_of(rows - weights.tail_rows()..rows));
        let strips: Vec<Strip> = stored.chain(dense).collect();
        let (mut groups, mut columns, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for block in 0..blocks {
            let own = inner * block / blocks..inner * (block + 1) / blocks;
            for strip in 0..strips.len() {
                let (first, weights_start) = (columns.len(), values.len());
                if strip == weights.strips() {
                    for column in own.clone() {
                        columns.push(column as u32);
                        values.extend(weights.tail().chunks_exact(inner).map(|row| row[column]));
                    }
                } else {
                    let stored = weights.strip(strip);
                    for (column, group) in stored.filter(|(column, _)| own.contains(column)) {
                        columns.push(column as u32);
                        values.extend(group);
                    }
                }
                let count = columns.len() - first;
                groups.push(Groups { first, count, weights: weights_start });
            }
        }
        columns.resize(columns.len() + AHEAD, 0);
        Self { strips, groups, columns, values: values.into(), inner }
    }

    /// Blocks of K; none of a layer without rows.
    pub fn blocks(&self) -> usize {
        self.groups.len() / self.strips.len().max(1)
    }

    /// The rows of X of a block of K.
    pub fn block_rows(&self, block: usize) -> Range<usize> {
        let first = |block: usize| self.inner * block / self.blocks();
        first(block)..first(block + 1)
    }

    /// The groups of some strips within a block of K.
    pub fn groups(&self, block: usize, strips: Range<usize>) -> &[Groups] {
        let first = block * self.strips.len();
        &self.groups[first + strips.start..first + strips.end]
    }

    /// The row of X of each group, and of [`AHEAD`] others.
    pub fn columns(&self) -> *const u32 {
        self.columns.as_ptr()
    }

    /// All weights.
    pub fn weights(&self) -> *const f32 {
        self.values.as_ptr()
    }

    /// Stored weights, those of the partial strip included.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Stored groups.
    pub fn count(&self) -> usize {
        self.columns.len() - AHEAD
    }

    /// The strips in `count` ranges of about equal work.
    pub fn ranges(&self, count: usize) -> Vec<Range<usize>> {
        let mut work = vec![0; self.strips.len() + 1];
        for (strip, own) in self.strips.iter().enumerate() {
            let groups: usize =
                (0..self.blocks()).map(|block| self.groups(block, strip..strip + 1)[0].count).sum();
            // A strip without groups has its biases to write.
            work[strip + 1] = work[strip] + (groups + 1) * own.rows;
        }
        let all = work[self.strips.len()];
        let cut = |index: usize| work.partition_point(|&done| done < all * index / count.max(1));
        let mut cuts: Vec<usize> = (0..=count).map(cut).collect();
        cuts[count] = self.strips.len();
        cuts.windows(2).map(|cut| cut[0]..cut[1]).filter(|range| !range.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::UprightSparse;
    use ndarray::Array2;

    #[test]
    fn blocks_of_k_hold_each_group_once() {
        let dense = Array2::from_shape_fn((27, 50), |(row, column)| {
            if (row / 8 + column) % 3 == 0 { (row * 50 + column + 1) as f32 } else { 0.0 }
        });
        let weights = UprightSparse::from_dense(dense.view(), 8).unwrap();
        let layer = UprightLayer { weights: &weights, bias: None, relu: false };
        for blocks in [1, 2, 7] {
            let strips = Strips::in_blocks(&layer, blocks);
            assert_eq!((strips.blocks(), strips.nnz()), (blocks, weights.nnz()));
            let mut found = Array2::<f32>::zeros((27, 50));
            for block in 0..blocks {
                for (index, strip) in strips.strips.iter().enumerate() {
                    let Groups { first, count, weights } =
                        strips.groups(block, index..index + 1)[0];
                    let columns = &strips.columns[first..first + count];
                    assert!(columns.is_sorted());
                    let values = strips.values[weights..].chunks(strip.rows);
                    for (&column, values) in columns.iter().zip(values) {
                        for (row, &value) in (strip.first_row..).zip(values) {
                            found[[row, column as usize]] += value;
                        }
                    }
                }
            }
            assert_eq!(found, dense);
        }
    }

    #[test]
    fn ranges_share_the_work_and_hold_every_strip() {
        // One strip of all columns, then nine of one.
        let dense =
            Array2::from_shape_fn((80, 90), |(row, column)| f32::from(row < 8 || column == 0));
        let weights = UprightSparse::from_dense(dense.view(), 8).unwrap();
        let layer = UprightLayer { weights: &weights, bias: None, relu: false };
        let strips = Strips::in_blocks(&layer, 1);
        assert_eq!(strips.ranges(2), [0..1, 1..10]);
        for count in 1..20 {
            let ranges = strips.ranges(count);
            assert!(ranges.len() <= count);
            assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), 10, "{ranges:?}");
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
        let none = UprightSparse::from_dense(Array2::zeros((0, 90)).view(), 8).unwrap();
        let layer = UprightLayer { weights: &none, bias: None, relu: false };
        assert!(Strips::in_blocks(&layer, 1).ranges(3).is_empty());
    }
}

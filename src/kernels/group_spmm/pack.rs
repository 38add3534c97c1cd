//! A layer's weights in the order of its group columns, block of rows by block of rows.
//!
//! A block is what one tile of Y has rows. Where a product has too few columns for all threads, each takes
//! *slices* of a block's rows instead: for each of them the block lists its group columns once more, with the
//! entries that are the slice's. The weights themselves lie there once.

use std::ops::Range;

use super::GroupLayer;

/// Bytes of a K block's weights.
const K_BLOCK_BYTES: usize = 256 << 10;

/// The least entries that a group column has in a slice, on the mean: each slice reads its rows of X anew.
const ENTRIES_PER_SLICE: usize = 4;

/// The least rows of a slice.
const ROWS_PER_SLICE: usize = 16;

/// Rows that own one group of K. Small, since of a slice each has few entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupColumn {
    /// Its first row of X.
    first: u32,
    /// Its first entry's weights.
    weights: u32,
    /// Its entries, from the first to after the last.
    entries: [u32; 2],
    width: u8,
    rank: u8,
}

impl GroupColumn {
    /// Its first row of X.
    #[inline(always)]
    pub fn first(&self) -> usize {
        self.first as usize
    }

    /// How many rows of X it has, 1 to its rank.
    #[inline(always)]
    pub fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// Weights per entry, 0 after `width`: 1, 2, 4 or 8.
    #[inline(always)]
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    #[inline(always)]
    fn entries(&self) -> Range<usize> {
        self.entries[0] as usize..self.entries[1] as usize
    }
}

/// Group columns whose weights stay in cache together.
#[derive(Debug, Default)]
pub(super) struct KBlock {
    /// In order of K.
    columns: Vec<GroupColumn>,
    /// The same with the entries of each slice alone; none where there is one slice.
    by_slice: Vec<Vec<GroupColumn>>,
    /// The row within the block of each entry.
    rows: Vec<u32>,
    /// As many weights per entry as its column's rank.
    weights: Vec<f32>,
}

impl KBlock {
    /// The group columns of a slice, or of the whole block.
    pub fn part(&self, row_slice: Option<usize>) -> KBlockView<'_> {
        let columns = row_slice.map_or(&self.columns, |row_slice| &self.by_slice[row_slice]);
        KBlockView { columns, rows: &self.rows, weights: &self.weights }
    }

    /// Lists the columns once more for each of some slices.
    fn divide(&mut self, row_slices: &[Range<usize>]) {
        let slice_columns = |row_slice: &Range<usize>| {
            let part = |column: &GroupColumn| {
                let rows = &self.rows[column.entries()];
                let place = |row: usize| rows.partition_point(|&own| (own as usize) < row) as u32;
                let [from, to] = [place(row_slice.start), place(row_slice.end)];
                let entries = [from, to].map(|place| column.entries[0] + place);
                let weights = column.weights + from * u32::from(column.rank);
                (from < to).then_some(GroupColumn { entries, weights, ..*column })
            };
            self.columns.iter().filter_map(part).collect()
        };
        self.by_slice = row_slices.iter().map(slice_columns).collect();
    }
}

/// What a tile takes of a K block.
pub(super) struct KBlockView<'a> {
    /// In order of K.
    pub columns: &'a [GroupColumn],
    rows: &'a [u32],
    weights: &'a [f32],
}

impl KBlockView<'_> {
    /// The entries of a column of rank `E`: their rows within the block, and their weights.
    #[inline(always)]
    pub fn entries<const E: usize>(&self, column: &GroupColumn) -> (&[u32], &[[f32; E]]) {
        let rows = &self.rows[column.entries()];
        let weights = &self.weights[column.weights as usize..][..rows.len() * E];
        (rows, weights.as_chunks().0)
    }
}

/// Rows of which a tile of Y holds all.
#[derive(Debug)]
pub(super) struct RowBlock {
    pub first_row: usize,
    pub rows: usize,
    pub k_blocks: Vec<KBlock>,
    /// Its rows, counted from its first, in the parts that threads may take alone: one or more.
    pub row_slices: Vec<Range<usize>>,
}

impl RowBlock {
    /// The blocks of a layer, of at most `rows` rows, for updates of rank `rank`; in enough slices for
    /// `threads` threads, unless those would be too low to be worth it.
    pub fn all(layer: &GroupLayer<'_>, rank: usize, rows: usize, threads: usize) -> Vec<Self> {
        let row_ptr = layer.weights.row_ptr();
        let height = row_ptr.len() - 1;
        let blocks = split(row_ptr, height.div_ceil(rows), rows);
        let row_slices = threads.div_ceil(blocks.len().max(1));
        blocks.into_iter().map(|range| Self::new(layer, range, rank, row_slices)).collect()
    }

    fn new(layer: &GroupLayer<'_>, range: Range<usize>, rank: usize, row_slices: usize) -> Self {
        let k_blocks = k_blocks(layer, range.start, range.len(), rank);
        let mut block =
            Self { first_row: range.start, rows: range.len(), k_blocks, row_slices: Vec::new() };
        let [columns, entries] = block.counts();
        let worth = entries / (columns * ENTRIES_PER_SLICE).max(1);
        let row_slices = row_slices.min(worth).min(range.len() / ROWS_PER_SLICE).max(1);
        let row_ptr = &layer.weights.row_ptr()[range.start..=range.end];
        block.row_slices = split(row_ptr, row_slices, range.len());
        if row_slices > 1 {
            block.k_blocks.iter_mut().for_each(|k_block| k_block.divide(&block.row_slices));
        }
        block
    }

    /// How many group columns and entries it has.
    pub fn counts(&self) -> [usize; 2] {
        let k_blocks = self.k_blocks.iter();
        k_blocks.fold([0, 0], |[columns, entries], k_block| {
            [columns + k_block.columns.len(), entries + k_block.rows.len()]
        })
    }
}

/// Some columns of the rows of a block, or of one of its slices.
#[derive(Clone)]
pub(super) struct WorkItem<'a> {
    pub block: &'a RowBlock,
    pub row_slice: Option<usize>,
    pub columns: Range<usize>,
}

impl WorkItem<'_> {
    /// Its rows, counted from the block's first.
    pub fn rows(&self) -> Range<usize> {
        self.row_slice
            .map_or(0..self.block.rows, |row_slice| self.block.row_slices[row_slice].clone())
    }
}

/// Rows cut into `count` ranges of at most `most` rows, with as equal shares of the stored groups as that
/// allows.
fn split(row_ptr: &[u32], count: usize, most: usize) -> Vec<Range<usize>> {
    let rows = row_ptr.len() - 1;
    let stored = u64::from(row_ptr[rows] - row_ptr[0]);
    let mut ranges = Vec::with_capacity(count);
    let mut first = 0;
    for index in 1..=count {
        let share = row_ptr[0] + (stored * index as u64 / count as u64) as u32;
        let end = row_ptr.partition_point(|&place| place < share);
        // Neither more rows than a range may have, nor so few that the rest would not fit.
        let least = rows.saturating_sub((count - index) * most).max(first + 1);
        let end = end.max(least).min(first + most).min(rows - (count - index));
        ranges.push(first..end);
        first = end;
    }
    ranges
}

/// The group columns of some rows, cut into K blocks.
fn k_blocks(layer: &GroupLayer<'_>, first_row: usize, rows: usize, rank: usize) -> Vec<KBlock> {
    let weights = layer.weights;
    let ([_, columns], width) = (weights.shape(), weights.width());
    // The entries of each group, by row.
    let mut owners: Vec<Vec<(u32, usize)>> = vec![Vec::new(); columns / width];
    for row in 0..rows {
        let range = &weights.row_ptr()[first_row + row..];
        for place in range[0] as usize..range[1] as usize {
            owners[weights.groups()[place] as usize].push((row as u32, place));
        }
    }
    let mut k_blocks = vec![KBlock::default()];
    let mut push =
        |first: usize, width: usize, entries: &mut dyn Iterator<Item = (u32, &[f32])>| {
            if k_blocks.last().is_some_and(|k_block| 4 * k_block.weights.len() >= K_BLOCK_BYTES) {
                k_blocks.push(KBlock::default());
            }
            let Some(k_block) = k_blocks.last_mut() else { return };
            let rank = width.next_power_of_two();
            let (from, weights_from) = (k_block.rows.len() as u32, k_block.weights.len() as u32);
            for (row, weights) in entries {
                k_block.rows.push(row);
                k_block.weights.extend(weights);
                k_block.weights.extend(std::iter::repeat_n(0.0, rank - weights.len()));
            }
            let to = k_block.rows.len() as u32;
            if to > from {
                k_block.columns.push(GroupColumn {
                    first: first as u32,
                    weights: weights_from,
                    entries: [from, to],
                    width: width as u8,
                    rank: rank as u8,
                });
            }
        };
    for (group, owners) in owners.iter().enumerate() {
        for chunk in (0..width).step_by(rank) {
            let wide = rank.min(width - chunk);
            let part = |&(row, place): &(u32, usize)| {
                (row, &weights.values()[place * width + chunk..place * width + chunk + wide])
            };
            push(group * width + chunk, wide, &mut owners.iter().map(part));
        }
    }
    let tail = columns % width;
    for chunk in (0..tail).step_by(rank) {
        let wide = rank.min(tail - chunk);
        let part = |row: usize| {
            let start = (first_row + row) * tail + chunk;
            (row as u32, &weights.tail()[start..start + wide])
        };
        push(columns - tail + chunk, wide, &mut (0..rows).map(part));
    }
    k_blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::GroupSparse;
    use ndarray::Array2;

    #[test]
    fn ranges_share_the_work_and_none_is_too_high() {
        // 90 rows of one group, then 10 of 99: equal rows would be 50 and 50.
        let mut row_ptr: Vec<u32> = (0..=90).collect();
        row_ptr.extend((1..=10).map(|row| 90 + 99 * row));
        let ranges = split(&row_ptr, 2, 96);
        assert_eq!(ranges.len(), 2);
        let work = |range: &Range<usize>| row_ptr[range.end] - row_ptr[range.start];
        assert!(work(&ranges[0]).abs_diff(work(&ranges[1])) <= 99, "{ranges:?}");
        let shifted: Vec<u32> = row_ptr.iter().map(|place| place + 7).collect();
        assert_eq!(split(&shifted, 2, 96), ranges, "of a part of a layer");
        for (rows, most) in [(0, 4), (1, 4), (4, 4), (5, 4), (9, 4), (12, 4)] {
            for row_ptr in [vec![0; rows + 1], (0..=rows as u32).map(|row| row * row).collect()] {
                let ranges = split(&row_ptr, rows.div_ceil(most), most);
                assert_eq!(ranges.len(), rows.div_ceil(most));
                assert!(ranges.iter().all(|range| (1..=most).contains(&range.len())), "{ranges:?}");
                assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), rows);
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }
    }

    #[test]
    fn bands_hold_each_entry_once() {
        // Of every third row the odd groups alone, of every fifth none.
        let stored = |row: usize, column: usize| match (row % 5, row % 3) {
            (0, _) => false,
            (_, 0) => column / 4 % 2 == 1,
            _ => true,
        };
        let weights = Array2::from_shape_fn((200, 22), |(row, column)| {
            if stored(row, column) { (row * 22 + column + 1) as f32 } else { 0.0 }
        });
        let weights = GroupSparse::from_dense(weights.view(), 4).unwrap();
        let layer = GroupLayer { weights: &weights, bias: None, relu: false };
        for (threads, row_slices) in [(1, 1), (2, 1), (4, 2), (12, 6), (500, 6)] {
            let blocks = RowBlock::all(&layer, 4, 110, threads);
            assert_eq!(blocks.len(), 2);
            for block in &blocks {
                assert_eq!(block.row_slices.len(), row_slices, "{threads} threads");
                let entries = |row_slice: Option<usize>| {
                    let mut all = Vec::new();
                    for k_block in &block.k_blocks {
                        let part = k_block.part(row_slice);
                        for column in part.columns {
                            for (index, place) in column.entries().enumerate() {
                                let weights = column.weights as usize + index * column.rank();
                                let weights = &part.weights[weights..][..column.rank()];
                                all.push((column.first(), part.rows[place], weights.to_vec()));
                            }
                        }
                    }
                    all
                };
                let mut by_slice = Vec::new();
                for (index, row_slice) in block.row_slices.iter().enumerate() {
                    let own = if row_slices > 1 { entries(Some(index)) } else { entries(None) };
                    assert!(own.iter().all(|(_, row, _)| row_slice.contains(&(*row as usize))));
                    by_slice.extend(own);
                }
                by_slice.sort_by_key(|&(first, row, _)| (first, row));
                assert_eq!(by_slice, entries(None));
            }
        }
        let high = RowBlock::all(&layer, 4, 512, 100);
        assert_eq!(high[0].row_slices.len(), 200 / ROWS_PER_SLICE);
    }
}

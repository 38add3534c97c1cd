//! How a product is cut into parts for threads: by columns, or by rows where columns are few.

use std::ops::Range;

use super::columns::{ColumnsKernel, TileFunction};
use super::pack::WorkItem;
use crate::kernels::parallel::{parallel_for, task_count, threads};
use crate::kernels::tile::Operand;
use crate::kernels::tile::output::SharedOutput;

/// What a group column takes beside its entries, by [`ColumnsKernel::estimate`]: to read its rows of X, and to
/// begin with entries that lie elsewhere (measured: a core that computes 384x2304 and 1000x4096 slice by slice,
/// densities .08 and .3, takes 35 to 100 for each column more).
const UNITS_OF_A_COLUMN: usize = 50;

/// Useful operations that a thread does in a microsecond.
const PER_MICROSECOND: usize = 110_000;

/// What parts a product is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Partition {
    /// Columns of a part.
    width: usize,
    /// Whether a part has the rows of one slice only.
    row_slices: bool,
}

impl ColumnsKernel {
    /// The partition where `parts` are wanted of all blocks together. Tiles are whole, since narrow ones spread
    /// each weight over less. If those are too few for all threads, each thread has a part of the columns; or of
    /// the rows, if that should be faster.
    fn partition(&self, n: usize, parts: usize, threads: usize) -> Partition {
        let (blocks, row_slices) = (self.units(false), self.units(true));
        let width = |parts: usize, units: usize| n.div_ceil(parts.div_ceil(units));
        let whole = |units| width(parts, units).next_multiple_of(self.functions.widest().width);
        let each =
            |units| width(parts.min(threads), units).next_multiple_of(self.functions.lanes());
        if n.div_ceil(whole(blocks)) * blocks >= 2 * threads {
            return Partition { width: whole(blocks), row_slices: false };
        }
        let by_columns = Partition { width: each(blocks), row_slices: false };
        if row_slices == blocks || row_slices > parts {
            return by_columns;
        }
        let by_rows = [whole(row_slices), each(row_slices)]
            .map(|width| Partition { width, row_slices: true });
        let all = [by_columns].into_iter().chain(by_rows);
        all.min_by_key(|&partition| self.estimate(n, partition, threads)).unwrap_or(by_columns)
    }

    /// Into how many parts the rows are cut.
    fn units(&self, row_slices: bool) -> usize {
        if row_slices {
            self.blocks.iter().map(|block| block.row_slices.len()).sum()
        } else {
            self.blocks.len()
        }
    }

    /// About how long the busiest thread takes. The unit is what an entry takes for itself, and again for each
    /// vector: half a nanosecond (AVX2, updates of rank 4).
    fn estimate(&self, n: usize, partition: Partition, threads: usize) -> usize {
        let units = self.units(partition.row_slices);
        let (entries, columns) = (self.entries / units, self.columns / self.blocks.len());
        let part = |columns_of_y: Range<usize>| -> usize {
            let vectors = |tile: TileFunction| tile.width / self.functions.lanes();
            self.tiles(columns_of_y)
                .map(|(_, tile)| entries * (1 + vectors(tile)) + UNITS_OF_A_COLUMN * columns)
                .sum()
        };
        let rounds = (n.div_ceil(partition.width) * units).div_ceil(threads);
        rounds * part(0..partition.width.min(n))
    }

    /// Computes all blocks.
    pub(super) fn blocks_of(&self, x: &Operand<'_>, n: usize, output: &SharedOutput<'_>) {
        let whole = |block| WorkItem { block, row_slice: None, columns: 0..n };
        let parts = task_count(2 * self.nnz * n, PER_MICROSECOND);
        if parts == 1 {
            self.blocks.iter().for_each(|block| self.part(&whole(block), x, output));
            return;
        }
        let Partition { width, row_slices } = self.partition(n, parts, threads());
        let units = self.blocks.iter().flat_map(|block| {
            let count = if row_slices { block.row_slices.len() } else { 1 };
            let row_slice = move |row_slice| if count > 1 { Some(row_slice) } else { None };
            (0..count).map(move |index| WorkItem { row_slice: row_slice(index), ..whole(block) })
        });
        let ranges = || (0..n).step_by(width).map(|first| first..n.min(first + width));
        let work = units
            .flat_map(|unit| ranges().map(move |columns| WorkItem { columns, ..unit.clone() }));
        parallel_for(work.collect(), |part| self.part(&part, x, output));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::group_spmm::GroupLayer;
    use crate::kernels::group_spmm::columns::tests::idle;
    use crate::sparse::GroupSparse;
    use ndarray::Array2;

    /// The partition of a product with so many rows, packed for as many threads as run it.
    fn partition(rows: usize, n: usize, parts: usize, threads: usize) -> (usize, bool) {
        let weights = GroupSparse::from_dense(Array2::ones((rows, 8)).view(), 8).unwrap();
        let layer = GroupLayer { weights: &weights, bias: None, relu: false };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let Partition { width, row_slices } =
            pool.install(|| idle(&layer).partition(n, parts, crate::kernels::threads()));
        (width, row_slices)
    }

    #[test]
    fn parts_are_whole_tiles_where_there_are_enough_for_all_threads() {
        assert_eq!(partition(10, 1024, 8, 2), (144, false));
        assert_eq!(partition(10, 256, 8, 2), (48, false));
        assert_eq!(partition(10, 64, 8, 2), (32, false), "no 24, 24 and 16");
        assert_eq!(partition(10, 20, 8, 4), (8, false));
        assert_eq!(partition(10, 1024, 3, 64), (344, false), "no more parts than are worth it");
        assert_eq!(partition(2000, 1024, 8, 2), (528, false), "of each of four blocks");
        assert_eq!(partition(2000, 10, 4, 2), (24, false), "all columns of each block");
    }

    #[test]
    fn rows_are_parted_where_columns_are_few() {
        assert_eq!(partition(300, 24, 8, 2), (24, true), "of two slices of rows");
        assert_eq!(partition(300, 8, 8, 2), (24, true), "one tile");
        assert_eq!(partition(300, 48, 8, 2), (24, false), "two tiles, one for each thread");
        assert_eq!(partition(300, 64, 8, 2), (32, false), "two tiles for each thread");
        assert_eq!(partition(300, 64, 32, 8), (24, true));
        assert_eq!(
            partition(40, 64, 64, 16),
            (8, true),
            "of two slices of rows: columns are parted, too"
        );
        assert_eq!(
            partition(300, 64, 5, 8),
            (16, false),
            "eight slices of rows are more than are worth it"
        );
        assert_eq!(
            partition(4096, 24, 64, 16),
            (24, true),
            "two slices of rows of each of eight blocks"
        );
    }
}

//! A large X, copied into panels as wide as a tile, one after the other.
//!
//! The rows of X that a tile reads lie N floats apart: in as many pages of memory as there are rows, more than a
//! processor keeps the addresses of, and for an N that is a power of two on few of a cache's sets. In a panel they
//! follow each other.

use std::cell::Cell;

use super::{Computed, Operand};
use crate::kernels::aligned::Aligned;
use crate::kernels::layout::{Input, Rows};
use crate::kernels::parallel::{parallel_for, task_count};

/// Floats up to which a core's second-level cache holds them: 1 MiB.
pub(in crate::kernels) const CACHED_FLOATS: usize = 256 << 10;

/// Floats that a thread copies in a microsecond.
const COPIED_PER_MICROSECOND: usize = 1_000;

thread_local! {
    /// The panels of X, kept from call to call.
    static PANELS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
}

/// Gives `run` an X of `rows` rows and its computed columns; if `copied`, and all columns are computed, from
/// panels of `width` columns.
pub(in crate::kernels) fn with_operand(
    x: &Input<'_>,
    rows: usize,
    columns: Computed,
    copied: bool,
    width: usize,
    run: impl FnOnce(&Operand<'_>),
) {
    let n = columns.count;
    if !copied || columns != Computed::plain(n) {
        return run(&Operand { x: *x, columns, ahead: x.values.len() > CACHED_FLOATS });
    }
    // Taken and put back, since another product may run on this thread while it waits for others.
    let mut panels = PANELS.take();
    fill_panels(x, rows, n, width, &mut panels);
    let x = Input { values: &panels, rows: Rows::Every(width) };
    run(&Operand { x, columns: Computed::panels(n, rows, width), ahead: false });
    PANELS.set(panels);
}

/// Copies the K rows of X into panels of `width` columns, by all threads; each reads the rows of its panels
/// from end to end. After the last column, a panel keeps what it held: no tile reads it.
fn fill_panels(x: &Input<'_>, rows: usize, n: usize, width: usize, panels: &mut Aligned) {
    let (count, size) = (n.div_ceil(width), rows * width);
    if panels.len() < count * size {
        panels.set_length(count * size);
    }
    let each = count.div_ceil(task_count(rows * n, COPIED_PER_MICROSECOND));
    let fill = |(part, panels): (usize, &mut [f32])| {
        let columns = part * each * width..n.min((part + 1) * each * width);
        for row in 0..rows {
            let start = x.rows.start(row);
            let from = &x.values[start + columns.start..start + columns.end];
            for (panel, from) in panels.chunks_mut(size).zip(from.chunks(width)) {
                panel[row * width..][..from.len()].copy_from_slice(from);
            }
        }
    };
    parallel_for(panels[..count * size].chunks_mut(each * size).enumerate().collect(), fill);
}

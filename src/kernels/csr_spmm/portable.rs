//! The portable variant: arrays of fixed size, which compilers turn into vectors of any kind.

use super::RowsFunction;

pub(super) fn function() -> Option<RowsFunction> {
    Some(|layer, x, n, first, y| layer.rows::<16, false>(x, n, first, y))
}

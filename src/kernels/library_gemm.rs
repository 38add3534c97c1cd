//! Y = act(W X + b) by a library's dense product, such as a BLAS's: operands that it cannot read or write where they
//! lie are gathered before it and scattered after it.
//!
//! The columns that are kept are taken in chunks whose part of X stays in the second-level cache. Rows of W are
//! shared by our own threads, each of which calls the library by itself: threads of a pool of its own would be in
//! the way of ours.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::ArrayView2;

use super::layout::{Input, Output, Rows};
use super::parallel::{parallel_for, task_count};
use super::{PackedProduct, activate, bias};
use crate::device::cpu;
use crate::error::Result;

/// A library's dense product, on the thread that calls it.
pub trait DenseLibrary: Send + Sync {
    /// The library and its version.
    fn name(&self) -> String;

    /// `y = w x` for `[m, k, n]`: w is `[m, k]` and contiguous, x is `[k, n]`, y is `[m, n]`.
    ///
    /// # Errors
    /// Slices that are too short, strides below n; what the library refuses.
    fn multiply(
        &self,
        shape: [usize; 3],
        w: &[f32],
        x: Strided<&[f32]>,
        y: Strided<&mut [f32]>,
    ) -> Result<()>;
}

/// A matrix whose rows start `stride` floats apart: its leading dimension.
#[derive(Clone, Copy, Debug)]
pub struct Strided<S> {
    /// From the first row's first column to the last row's last, or further.
    pub values: S,
    /// Floats from one row's start to the next one's.
    pub stride: usize,
}

/// Useful operations that a thread does in a microsecond.
const PER_MICROSECOND: usize = 100_000;

/// The fewest rows of W that a library is called for.
const ROWS_PER_CALL: usize = 16;

/// A layer whose product is a library's.
pub struct LibraryGemm {
    shape: [usize; 2],
    weights: Vec<f32>,
    bias: Vec<f32>,
    relu: bool,
    library: Arc<dyn DenseLibrary>,
}

/// Neighbouring columns: where they lie in a row of X, where they go in one of Y, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    from: usize,
    to: usize,
    count: usize,
}

thread_local! {
    /// The segments of a product, and a panel of X; kept from call to call.
    static OPERANDS: Cell<(Vec<Segment>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
    /// What a thread's call computes, before it is put in its place.
    static RESULTS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl LibraryGemm {
    /// The variant's name.
    pub const NAME: &'static str = "masked_dense_f32_library";

    /// A layer of these weights, `[M, K]`, for a library.
    ///
    /// # Errors
    /// A bias of another length than M.
    pub fn new(
        weights: ArrayView2<'_, f32>,
        own_bias: Option<&[f32]>,
        relu: bool,
        library: Arc<dyn DenseLibrary>,
    ) -> Result<Self> {
        let (m, k) = weights.dim();
        let bias = bias(Self::NAME, own_bias, m)?;
        let weights = weights.iter().copied().collect();
        Ok(Self { shape: [m, k], weights, bias, relu, library })
    }

    /// Computes the columns of some segments.
    fn chunk(&self, segments: &[Segment], x: Strided<&[f32]>, y: &mut Output<'_>) -> Result<()> {
        let [m, k] = self.shape;
        let n = segments.iter().map(|segment| segment.count).sum();
        let Rows::Every(stride) = y.rows else {
            let rows = y.rows;
            let places = |row: usize| rows.start(row);
            return self.rows(0..m, (segments, n), x, y.values, &places);
        };
        let calls = task_count(2 * m * k * n, PER_MICROSECOND).min(m / ROWS_PER_CALL).max(1);
        let each = m.div_ceil(calls);
        let part = |index: usize, values: &mut [f32]| {
            let rows = index * each..m.min((index + 1) * each);
            let first = rows.start;
            self.rows(rows, (segments, n), x, values, &|row| (row - first) * stride)
        };
        if calls == 1 {
            return part(0, y.values);
        }
        let failed = std::sync::Mutex::new(Ok(()));
        let parts = y.values.chunks_mut(each * stride).take(m.div_ceil(each)).enumerate();
        parallel_for(parts.collect(), |(index, values)| {
            if let Err(error) = part(index, values) {
                *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Err(error);
            }
        });
        failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Computes some rows of the columns of some segments, `n` in all, and puts each row where `place` says.
    fn rows(
        &self,
        rows: Range<usize>,
        (segments, n): (&[Segment], usize),
        x: Strided<&[f32]>,
        y: &mut [f32],
        place: &dyn Fn(usize) -> usize,
    ) -> Result<()> {
        let [_, k] = self.shape;
        let weights = &self.weights[rows.start * k..rows.end * k];
        let mut results = RESULTS.take();
        results.resize(rows.len() * n, 0.0);
        let done = if k == 0 {
            // Nothing is added up, and no library asked.
            results.fill(0.0);
            Ok(())
        } else {
            let to = Strided { values: &mut results[..], stride: n };
            self.library.multiply([rows.len(), k, n], weights, x, to)
        };
        if done.is_ok() {
            for (row, mut results) in rows.zip(results.chunks_exact(n)) {
                let (bias, start) = (self.bias[row], place(row));
                for &Segment { to, count, .. } in segments {
                    let (own, rest) = results.split_at(count);
                    for (to, &sum) in y[start + to..start + to + count].iter_mut().zip(own) {
                        *to = activate(sum + bias, self.relu);
                    }
                    results = rest;
                }
            }
        }
        RESULTS.set(results);
        done
    }
}

impl PackedProduct for LibraryGemm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run_at(&self, x: Input<'_>, n: usize, mut y: Output<'_>) -> Result<()> {
        let [m, k] = self.shape;
        x.check(Self::NAME, k, n)?;
        y.check(Self::NAME, m, n)?;
        if m * n == 0 {
            return Ok(());
        }
        // Taken and put back, since another product may run on this thread while it waits for others.
        let (mut segments, mut panel) = OPERANDS.take();
        segments.clear();
        let one_line = y.columns.kept >= n;
        let mut done = Ok(());
        match x.rows.stride() {
            Some(stride) if one_line && stride >= n => {
                segments.push(Segment { from: 0, to: 0, count: n });
                done = self.chunk(&segments, Strided { values: x.values, stride }, &mut y);
            }
            _ => {
                let most = (cpu::caches().l2 / 2 / (4 * k.max(1))).max(64);
                cut(y.columns.each(n), most, &mut segments);
                for chunk in chunks(&segments, most) {
                    let width = gather(&x, k, chunk, &mut panel);
                    let x = Strided { values: &panel[..], stride: width };
                    done = done.and_then(|()| self.chunk(chunk, x, &mut y));
                }
            }
        }
        OPERANDS.set((segments, panel));
        done
    }
}

/// Lines of columns, as segments of at most `most`.
fn cut(
    lines: impl Iterator<Item = (usize, usize, usize)>,
    most: usize,
    segments: &mut Vec<Segment>,
) {
    for (from, to, count) in lines {
        for done in (0..count).step_by(most) {
            segments.push(Segment {
                from: from + done,
                to: to + done,
                count: most.min(count - done),
            });
        }
    }
}

/// Segments in runs of at most `most` columns, or of one.
fn chunks(mut segments: &[Segment], most: usize) -> impl Iterator<Item = &[Segment]> {
    std::iter::from_fn(move || {
        let mut columns = 0;
        let fits = |segment: &&Segment| {
            columns += segment.count;
            columns <= most
        };
        let taken = segments.iter().take_while(fits).count().max(1).min(segments.len());
        let (chunk, rest) = segments.split_at(taken);
        segments = rest;
        (taken > 0).then_some(chunk)
    })
}

/// Copies the columns of some segments of all rows of X into a panel, and gives its width.
fn gather(x: &Input<'_>, rows: usize, segments: &[Segment], panel: &mut Vec<f32>) -> usize {
    let width = segments.iter().map(|segment| segment.count).sum();
    panel.resize(rows * width, 0.0);
    for (row, mut to) in panel.chunks_exact_mut(width).enumerate() {
        let start = x.rows.start(row);
        for &Segment { from, count, .. } in segments {
            let (own, rest) = to.split_at_mut(count);
            own.copy_from_slice(&x.values[start + from..start + from + count]);
            to = rest;
        }
    }
    width
}

impl fmt::Debug for LibraryGemm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.library.name(), self.shape)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A library by plain loops: what is checked is how kernels hand over to one.
    pub(crate) struct Loops;

    impl DenseLibrary for Loops {
        fn name(&self) -> String {
            "plain loops".into()
        }

        fn multiply(
            &self,
            [m, k, n]: [usize; 3],
            w: &[f32],
            x: Strided<&[f32]>,
            y: Strided<&mut [f32]>,
        ) -> Result<()> {
            assert!(w.len() == m * k && x.stride >= n && y.stride >= n);
            for row in 0..m {
                for column in 0..n {
                    let products = (0..k)
                        .map(|inner| w[row * k + inner] * x.values[inner * x.stride + column]);
                    y.values[row * y.stride + column] = products.sum();
                }
            }
            Ok(())
        }
    }

    #[test]
    fn chunks_hold_each_kept_column_once_and_are_no_larger_than_asked() {
        let columns = crate::kernels::layout::ColumnLayout::lines(10, 7, 20);
        for most in [1, 3, 7, 20, 1000] {
            let mut segments = Vec::new();
            cut(columns.each(34), most, &mut segments);
            let all: Vec<Segment> = chunks(&segments, most).flatten().copied().collect();
            assert_eq!(all, segments);
            for chunk in chunks(&segments, most) {
                let columns: usize = chunk.iter().map(|segment| segment.count).sum();
                assert!((1..=most).contains(&columns));
            }
            let places = |part: fn(&Segment) -> usize| -> Vec<usize> {
                segments.iter().flat_map(|s| part(s)..part(s) + s.count).collect()
            };
            let from: Vec<usize> = (0..34).filter(|column| column % 10 < 7).collect();
            assert_eq!(places(|segment| segment.from), from);
            let to: Vec<usize> = from.iter().map(|column| column / 10 * 20 + column % 10).collect();
            assert_eq!(places(|segment| segment.to), to);
        }
    }
}

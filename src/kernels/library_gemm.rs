//! Y = act(W X + b) by a library's dense product, such as a BLAS's: operands that it cannot read or write where they
//! lie are gathered before it and scattered after it.
//!
//! The columns that are kept are taken in chunks whose part of X stays in the second-level cache. Rows of W are
//! shared by our own threads, each of which calls the library by itself: threads of a pool of its own would be in
//! the way of ours.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::ArrayView2;

use super::layout::{Input, Output, Segment};
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

    /// Computes the columns of some segments: by all threads where one stride finds the rows of Y, so that parts of
    /// them are slices.
    fn chunk(&self, segments: &[Segment], x: Strided<&[f32]>, y: &mut Output<'_>) -> Result<()> {
        let [m, k] = self.shape;
        let n = segments.iter().map(|segment| segment.length).sum();
        let Some(stride) = y.rows.stride() else {
            let rows = y.rows;
            return self.rows(0..m, (segments, n), x, y.values, &|row| rows.start(row));
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
        let done = Mutex::new(Ok(()));
        let parts = y.values.chunks_mut(each * stride).take(m.div_ceil(each)).enumerate();
        parallel_for(parts.collect(), |(index, values)| {
            let own = part(index, values);
            if own.is_err() {
                *done.lock().unwrap_or_else(PoisonError::into_inner) = own;
            }
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
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
                for &Segment { to, length, .. } in segments {
                    let (own, rest) = results.split_at(length);
                    for (to, &sum) in y[start + to..start + to + length].iter_mut().zip(own) {
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

    fn label(&self) -> String {
        label(&*self.library)
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
        let done = match x.rows.stride() {
            Some(stride) if one_line && stride >= n => {
                segments.push(Segment { from: 0, to: 0, length: n });
                self.chunk(&segments, Strided { values: x.values, stride }, &mut y)
            }
            _ => {
                let most = chunk_columns(k);
                cut(y.columns.segments(n), most, &mut segments);
                chunks(&segments, most).try_for_each(|chunk| {
                    let stride = gather(&x, k, chunk, &mut panel);
                    self.chunk(chunk, Strided { values: &panel[..], stride }, &mut y)
                })
            }
        };
        OPERANDS.set((segments, panel));
        done
    }
}

/// What a product by a library is called.
pub(crate) fn label(library: &dyn DenseLibrary) -> String {
    format!("{} ({})", LibraryGemm::NAME, library.name())
}

/// The most columns whose part of X, of `rows` rows, fills half of the second-level cache; or 64.
fn chunk_columns(rows: usize) -> usize {
    (cpu::caches().l2 / 2 / (4 * rows.max(1))).max(64)
}

/// Cuts lines into segments of at most `most` columns.
fn cut(lines: impl Iterator<Item = Segment>, most: usize, segments: &mut Vec<Segment>) {
    for Segment { from, to, length } in lines {
        for done in (0..length).step_by(most) {
            let length = most.min(length - done);
            segments.push(Segment { from: from + done, to: to + done, length });
        }
    }
}

/// Segments in runs of at most `most` columns, or of one.
fn chunks(mut segments: &[Segment], most: usize) -> impl Iterator<Item = &[Segment]> {
    std::iter::from_fn(move || {
        let mut columns = 0;
        let fits = |segment: &&Segment| {
            columns += segment.length;
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
    let width = segments.iter().map(|segment| segment.length).sum();
    panel.resize(rows * width, 0.0);
    for (row, mut to) in panel.chunks_exact_mut(width).enumerate() {
        let start = x.rows.start(row);
        for &Segment { from, length, .. } in segments {
            let (own, rest) = to.split_at_mut(length);
            own.copy_from_slice(&x.values[start + from..start + from + length]);
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
    use crate::error::Error;
    use crate::kernels::layout::{ColumnLayout, RowTable, Rows};
    use crate::kernels::{runs_parallel, with_spinning_workers};
    use ndarray::Array2;

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
        let columns = ColumnLayout::lines(10, 7, 20);
        for most in [1, 3, 7, 20, 1000] {
            let mut segments = Vec::new();
            cut(columns.segments(34), most, &mut segments);
            let all: Vec<Segment> = chunks(&segments, most).flatten().copied().collect();
            assert_eq!(all, segments);
            for chunk in chunks(&segments, most) {
                let columns: usize = chunk.iter().map(|segment| segment.length).sum();
                assert!((1..=most).contains(&columns));
            }
            let places = |part: fn(&Segment) -> usize| -> Vec<usize> {
                segments.iter().flat_map(|s| part(s)..part(s) + s.length).collect()
            };
            let from: Vec<usize> = (0..34).filter(|column| column % 10 < 7).collect();
            assert_eq!(places(|segment| segment.from), from);
            let to: Vec<usize> = from.iter().map(|column| column / 10 * 20 + column % 10).collect();
            assert_eq!(places(|segment| segment.to), to);
        }
    }

    /// Whole numbers, whose sums are exact in any order.
    fn numbers(rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(row, column)| {
            ((row * 7 + column) % 5) as f32 - 2.0
        })
    }

    /// `act(w x + 1)` of n columns on two threads, in lines of `kept` columns of `width`; and whether both worked.
    fn on_two_threads(
        product: &LibraryGemm,
        x: Input<'_>,
        n: usize,
        [width, kept]: [usize; 2],
    ) -> (Vec<f32>, bool) {
        let columns = ColumnLayout::lines(width, kept, kept);
        assert_eq!(n % width, 0, "whole lines");
        let stride = n / width * kept;
        let mut y = vec![f32::NAN; product.shape[0] * stride];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let output = Output { values: &mut y, rows: Rows::Every(stride), columns };
        let run = || with_spinning_workers(|| product.run_at(x, n, output));
        let (done, parallel) = pool.install(|| runs_parallel(run));
        done.unwrap();
        (y, parallel)
    }

    #[test]
    fn threads_share_the_rows_and_chunks_the_columns() {
        // The first is large enough to be shared, the second has more columns than a chunk.
        for [m, k, n] in [[70, 300, 100], [3, cpu::caches().l2 / 512 + 1, 150]] {
            let (w, x) = (numbers(m, k), numbers(k, n));
            let product =
                LibraryGemm::new(w.view(), Some(&vec![1.0; m]), true, Arc::new(Loops)).unwrap();
            let all = (w.dot(&x) + 1.0).mapv(|sum| sum.max(0.0));
            let x = x.as_slice().unwrap();
            let table = RowTable::new((0..k).map(|row| row * n).collect());
            let mut scattered: Vec<usize> = (0..k).map(|row| row * n).collect();
            scattered.swap(0, k - 1);
            let scattered = RowTable::new(scattered);
            let mut swapped = x.to_vec();
            let (head, tail) = swapped.split_at_mut((k - 1) * n);
            head[..n].swap_with_slice(tail);
            for (values, rows) in
                [(x, Rows::Every(n)), (x, Rows::At(&table)), (&swapped[..], Rows::At(&scattered))]
            {
                for lines in [[n, n], [25, 20]] {
                    let (found, parallel) =
                        on_two_threads(&product, Input { values, rows }, n, lines);
                    assert_eq!(parallel, m >= 2 * ROWS_PER_CALL, "{m} rows");
                    let kept = (0..n).filter(|column| column % lines[0] < lines[1]);
                    let kept: Vec<usize> = kept.collect();
                    let expected = all.select(ndarray::Axis(1), &kept);
                    assert_eq!(found, expected.iter().copied().collect::<Vec<_>>(), "{lines:?}");
                }
            }
        }
    }

    /// A library that answers at once, whatever it should compute.
    pub(crate) struct Answering(pub fn() -> Result<()>);

    impl DenseLibrary for Answering {
        fn name(&self) -> String {
            "answering".into()
        }

        fn multiply(
            &self,
            _: [usize; 3],
            _: &[f32],
            _: Strided<&[f32]>,
            _: Strided<&mut [f32]>,
        ) -> Result<()> {
            self.0()
        }
    }

    #[test]
    fn what_a_library_refuses_is_an_error_on_any_number_of_threads() {
        let ([m, k, n], mut y) = ([70, 300, 100], vec![0.0; 7000]);
        let (w, x) = (numbers(m, k), numbers(k, n));
        let refusing = Answering(|| Err(Error::argument("multiply", "nothing", "a product")));
        let product = LibraryGemm::new(w.view(), None, false, Arc::new(refusing)).unwrap();
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (x, y) = (Input::plain(x.as_slice().unwrap(), n), Output::plain(&mut y, n));
            let done = pool.install(|| with_spinning_workers(|| product.run_at(x, n, y)));
            assert!(matches!(done, Err(Error::Argument { .. })), "{threads} threads");
        }
    }
}

//! Windows that move over a plane, reduced to one value each. Small ones are in [`super::small_windows`].
//!
//! A window is reduced first down its columns, into one line with the border's values on both sides, and then
//! along that line, both a vector of pixels at a time; where fewer are left, some are done again. All rows are
//! reduced down their columns before the first is along: a load that straddles two stores has to wait until
//! they are through. Lengths are asserted once a plane, and pointers used from there on: rows are short, and
//! what came before each of them took longer than the row.

use super::Window;
use super::lanes::{Lanes, MOST_LANES};
use super::reductions::Reduction;
use crate::kernels::layout::ImageLayout;

/// The windows of planes of one shape.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    pub(super) window: Window,
    /// Height and width of the planes.
    pub(super) input: [usize; 2],
    /// Rows and columns of windows.
    pub(super) output: [usize; 2],
    /// From one row of pixels to the next.
    pub(super) pitch: usize,
    /// From one row of results to the next, and from one column.
    pub(super) to: [usize; 2],
}

/// The rows of a plane's windows reduced down their columns, and the results of a row. The borders stay from
/// plane to plane.
#[derive(Debug, Default)]
pub(super) struct RowScratch {
    reduced: Vec<f32>,
    results: Vec<f32>,
}

impl RowScratch {
    pub(super) const fn new() -> Self {
        Self { reduced: Vec::new(), results: Vec::new() }
    }
}

impl Windows {
    pub(super) fn new(
        window: Window,
        input: [usize; 2],
        output: [usize; 2],
        maps: &[ImageLayout; 2],
    ) -> Self {
        let [from, to] = maps;
        Self { window, input, output, pitch: from.row_stride, to: [to.row_stride, to.pixel_stride] }
    }

    /// Height and width of a window.
    pub(super) fn size(&self) -> usize {
        self.window.size
    }

    /// Length of a line: the row between its borders, and as much as is read of it.
    fn reach(&self) -> usize {
        let Window { size, stride, padding } = self.window;
        let ([_, width], [_, columns]) = (self.input, self.output);
        (columns.max(MOST_LANES) * stride + size).max(width + 2 * padding)
    }

    /// Makes room for a plane's windows, between borders of that value.
    pub(super) fn clear(&self, lines: &mut RowScratch, border: f32) {
        if self.are_small() {
            return;
        }
        lines.reduced.clear();
        lines.reduced.resize(self.output[0] * self.reach(), border);
        lines.results.clear();
        lines.results.resize(self.output[1].max(MOST_LANES), 0.0);
    }

    /// Reduces the windows of a plane whose first pixel is that of x, and of y its first result. The lines were
    /// cleared for the same reduction.
    ///
    /// # Panics
    /// Slices that end before the plane's last row.
    #[inline(always)]
    pub(super) fn reduce<L: Lanes, R: Reduction<L>>(
        &self,
        (lanes, reduction): (L, R),
        x: &[f32],
        y: &mut [f32],
        lines: &mut RowScratch,
    ) {
        let ([height, width], [rows, columns], [pitch, step]) = (self.input, self.output, self.to);
        assert!(x.len() >= (height - 1) * self.pitch + width, "pixels end before their plane");
        let extent = (rows - 1) * pitch + (columns - 1) * step + 1;
        assert!(y.len() >= extent, "results end before their plane");
        if self.are_small() {
            // SAFETY: x and y are as long as was just asserted.
            return unsafe { self.reduce_small(lanes, reduction, x.as_ptr(), y.as_mut_ptr()) };
        }
        let RowScratch { reduced, results } = lines;
        assert!(reduced.len() == rows * self.reach(), "lines are cleared for each reduction");
        assert!(results.len() == columns.max(MOST_LANES), "lines are cleared for each reduction");
        let (x, y) = (x.as_ptr(), y.as_mut_ptr());
        // SAFETY: x, y and the lines are as long as was just asserted.
        unsafe {
            for row in 0..rows {
                self.down(lanes, reduction, x, row, reduced);
            }
            self.along(lanes, reduction, x, y, reduced, results);
        }
    }

    /// Reduces a row of windows down their columns.
    ///
    /// # Safety
    /// x has the plane, and `reduced` the lines of all rows.
    #[inline(always)]
    unsafe fn down<L: Lanes, R: Reduction<L>>(
        &self,
        lanes: L,
        reduction: R,
        x: *const f32,
        row: usize,
        reduced: &mut [f32],
    ) {
        let (Window { size, stride, padding }, [height, width]) = (self.window, self.input);
        let top = row * stride;
        let first = top.saturating_sub(padding);
        let count = (top + size - padding).min(height) - first;
        // SAFETY: rows `first..first + count` are the plane's, and the line has `width` places after its border.
        unsafe {
            let x = x.add(first * self.pitch);
            let line = reduced.as_mut_ptr().add(row * self.reach() + padding);
            match (width >= L::LANES, count) {
                (true, 1) => columns(lanes, reduction, x, [1, self.pitch], line, width),
                (true, 2) => columns(lanes, reduction, x, [2, self.pitch], line, width),
                (true, 3) => columns(lanes, reduction, x, [3, self.pitch], line, width),
                (true, _) => columns(lanes, reduction, x, [count, self.pitch], line, width),
                (false, _) => {
                    few_columns(lanes, reduction, x, [count, self.pitch], line, width);
                }
            }
        }
    }

    /// Reduces all windows along their rows.
    ///
    /// # Safety
    /// x has the plane, y its results, `reduced` the lines of all rows, and `results` those of a row.
    #[inline(always)]
    unsafe fn along<L: Lanes, R: Reduction<L>>(
        &self,
        lanes: L,
        reduction: R,
        x: *const f32,
        y: *mut f32,
        reduced: &[f32],
        results: &mut [f32],
    ) {
        let Window { size, stride, .. } = self.window;
        let ([rows, columns], [pitch, step]) = (self.output, self.to);
        // Results that lie apart, or are too few, are copied to their places.
        let in_place = step == 1 && columns >= L::LANES;
        let last = columns.max(L::LANES) - L::LANES;
        let reach = self.reach();
        let mut few = [0.0; MOST_LANES];
        for row in 0..rows {
            // SAFETY: a line has what the last windows read; of x, y and the results, rows of `columns` are
            // touched, and no more where they are fewer than a vector has.
            unsafe {
                let line = reduced.as_ptr().add(row * reach);
                let y = y.add(row * pitch);
                let out = if in_place { y } else { results.as_mut_ptr() };
                let mut own = x.add(row * self.pitch);
                if R::OWN && columns < L::LANES {
                    few.as_mut_ptr().copy_from_nonoverlapping(own, columns);
                    own = few.as_ptr();
                }
                let mut start = 0;
                loop {
                    let mut sum = pick(lanes, line.add(start * stride), stride);
                    for shift in 1..size {
                        let next = pick(lanes, line.add(start * stride + shift), stride);
                        sum = reduction.join(lanes, sum, next);
                    }
                    let own = if R::OWN { lanes.load(own.add(start)) } else { lanes.splat(0.0) };
                    lanes.store(reduction.last(lanes, sum, own), out.add(start));
                    if start == last {
                        break;
                    }
                    start = (start + L::LANES).min(last);
                }
                if !in_place {
                    for (column, &result) in results[..columns].iter().enumerate() {
                        *y.add(column * step) = result;
                    }
                }
            }
        }
    }
}

/// Reduces rows of at least as many pixels as a vector has, so many and `pitch` apart, into one.
///
/// # Safety
/// x has the rows, and the line is as long as one.
#[inline(always)]
unsafe fn columns<L: Lanes, R: Reduction<L>>(
    lanes: L,
    reduction: R,
    x: *const f32,
    [rows, pitch]: [usize; 2],
    line: *mut f32,
    width: usize,
) {
    let (mut start, last) = (0, width - L::LANES);
    loop {
        // SAFETY: `start` is at most `last`, from which on each row has a vector of pixels.
        unsafe {
            let mut sum = reduction.first(lanes, lanes.load(x.add(start)));
            for row in 1..rows {
                let pixels = reduction.first(lanes, lanes.load(x.add(row * pitch + start)));
                sum = reduction.join(lanes, sum, pixels);
            }
            lanes.store(sum, line.add(start));
        }
        if start == last {
            break;
        }
        start = (start + L::LANES).min(last);
    }
}

/// As [`columns`], for rows of fewer pixels.
///
/// # Safety
/// x has the rows, and the line is as long as one.
#[inline(always)]
unsafe fn few_columns<L: Lanes, R: Reduction<L>>(
    lanes: L,
    reduction: R,
    x: *const f32,
    [rows, pitch]: [usize; 2],
    line: *mut f32,
    width: usize,
) {
    // SAFETY: no more than `width` values are read of a row, or written.
    unsafe {
        let mut chunk = [0.0; MOST_LANES];
        chunk.as_mut_ptr().copy_from_nonoverlapping(x, width);
        let mut sum = reduction.first(lanes, lanes.load(chunk.as_ptr()));
        for row in 1..rows {
            chunk.as_mut_ptr().copy_from_nonoverlapping(x.add(row * pitch), width);
            sum = reduction.join(lanes, sum, reduction.first(lanes, lanes.load(chunk.as_ptr())));
        }
        lanes.store(sum, chunk.as_mut_ptr());
        line.copy_from_nonoverlapping(chunk.as_ptr(), width);
    }
}

/// Values `stride` apart.
///
/// # Safety
/// There are as many of them as a vector has, and as many others after the last as lie between two.
#[inline(always)]
unsafe fn pick<L: Lanes>(lanes: L, line: *const f32, stride: usize) -> L::Vector {
    // SAFETY: as many values can be read as this function asks of whoever calls it: `along` has a line of `reach`.
    unsafe {
        match stride {
            1 => lanes.load(line),
            2 => lanes.evens(lanes.load(line), lanes.load(line.add(L::LANES))),
            _ => {
                let mut values = [0.0; MOST_LANES];
                for (lane, value) in values[..L::LANES].iter_mut().enumerate() {
                    *value = *line.add(lane * stride);
                }
                lanes.load(values.as_ptr())
            }
        }
    }
}

//! One column: eight rows at a time.
//!
//! Rows are sorted by how many groups they own and cut into slices of eight. A slice takes one group
//! of each of its rows per step, in eight accumulators, so that additions overlap and no branch depends
//! on a row's length; rows that own fewer groups than the longest of their slice are padded. A padded
//! group has weights of 0 and meets activations of 0: the activations are copied once per product, with
//! zeros after them. The last `K % W` columns are one more group of every row, padded the same way.

use std::cell::Cell;
use std::ops::Range;

use super::{GroupLayer, Kernel};
use crate::kernels::aligned::Aligned;
use crate::kernels::layout::{Input, Output, Rows as RowStarts};
use crate::kernels::parallel::{parallel_for, task_count};
use crate::kernels::{activate, balanced_ranges};

/// Stored weights that a thread multiplies in a microsecond.
const PER_MICROSECOND: usize = 14_000;

/// Rows of a slice.
pub(super) const ROWS: usize = 8;

/// Computes slices.
///
/// # Safety
/// The processor has what the function was compiled for. `x` is what [`Rows::copy`] made, and `out` is
/// as long as the slices.
pub(super) type SlicesFunction =
    unsafe fn(&Rows, x: &[f32], slices: Range<usize>, out: &mut [[f32; ROWS]]);

/// A layer in slices of rows.
#[derive(Debug)]
pub(super) struct Rows {
    /// Where each slice's steps start, and where the last one's end.
    steps: Vec<usize>,
    /// Per step, where the activations of each row's group start.
    starts: Vec<[u32; ROWS]>,
    /// Per step and row, a group's weights.
    values: Aligned,
    /// Which row each place of each slice is; only the last slice has places without one.
    order: Vec<u32>,
    /// By slice and place.
    bias: Vec<[f32; ROWS]>,
    relu: bool,
    /// Columns, and the length of their copy.
    columns: usize,
    padded: usize,
}

/// One slice: per step, where each row's activations start and its weights; and the biases.
pub(super) struct Slice<'a, const W: usize> {
    pub starts: &'a [[u32; ROWS]],
    pub groups: &'a [[[f32; W]; ROWS]],
    pub bias: &'a [f32; ROWS],
}

impl Rows {
    fn new(layer: &GroupLayer<'_>) -> Self {
        let weights = layer.weights;
        let ([rows, columns], width) = (weights.shape(), weights.width());
        let (covered, tail) = (columns / width * width, columns % width);
        let groups_of =
            |row: usize| weights.row_ptr()[row] as usize..weights.row_ptr()[row + 1] as usize;
        let mut sorted: Vec<u32> = (0..rows as u32).collect();
        sorted.sort_by_key(|&row| std::cmp::Reverse(groups_of(row as usize).len()));

        let mut values = Vec::new();
        let nothing = (covered + width) as u32; // the zeros after the copy's tail
        let mut made = Self {
            steps: vec![0],
            starts: Vec::new(),
            values: Aligned::new(),
            order: Vec::new(),
            bias: Vec::new(),
            relu: layer.relu,
            columns,
            padded: covered + 2 * width,
        };
        for slice in sorted.chunks(ROWS) {
            let longest = groups_of(slice[0] as usize).len();
            for step in 0..longest + usize::from(tail > 0) {
                let mut starts = [nothing; ROWS];
                for (place, start) in starts.iter_mut().enumerate() {
                    let end = values.len() + width;
                    if let Some(&row) = slice.get(place) {
                        let (row, groups) = (row as usize, groups_of(row as usize));
                        if step == longest {
                            *start = covered as u32;
                            values.extend(&weights.tail()[row * tail..(row + 1) * tail]);
                        } else if step < groups.len() {
                            let group = groups.start + step;
                            *start = weights.groups()[group] * width as u32;
                            values.extend(&weights.values()[group * width..(group + 1) * width]);
                        }
                    }
                    values.resize(end, 0.0);
                }
                made.starts.push(starts);
            }
            made.steps.push(made.starts.len());
            made.bias.push(std::array::from_fn(|place| {
                slice.get(place).and_then(|&row| Some(layer.bias?[row as usize])).unwrap_or(0.0)
            }));
        }
        (made.values, made.order) = (values.into(), sorted);
        made
    }

    /// Copies the activations in front of the zeros that padded groups read.
    fn copy(&self, x: &Input<'_>, copy: &mut Aligned) {
        copy.set_length(self.padded);
        let (own, remaining) = copy.split_at_mut(self.columns);
        match x.rows {
            RowStarts::Every(1) => own.copy_from_slice(&x.values[..self.columns]),
            rows => {
                own.iter_mut().enumerate().for_each(|(row, to)| *to = x.values[rows.start(row)]);
            }
        }
        remaining.fill(0.0);
    }

    /// One slice of groups of `W`.
    #[inline(always)]
    pub(super) fn slice<const W: usize>(&self, slice: usize) -> Slice<'_, W> {
        let steps = self.steps[slice]..self.steps[slice + 1];
        let (groups, _) = self.values.as_chunks::<W>();
        let (groups, _) = groups.as_chunks::<ROWS>();
        Slice {
            starts: &self.starts[steps.clone()],
            groups: &groups[steps],
            bias: &self.bias[slice],
        }
    }

    /// Whether negative results become 0.
    pub(super) fn relu(&self) -> bool {
        self.relu
    }

    /// The loop itself, for groups of `W`; compiled for each instruction set by whom it is inlined
    /// into. `FMA` says whether that set has fused products: without it they would be calls.
    ///
    /// # Safety
    /// As [`SlicesFunction`] asks; the layer has groups of `W`.
    #[inline(always)]
    pub(super) unsafe fn compute<const W: usize, const FMA: bool>(
        &self,
        x: &[f32],
        slices: Range<usize>,
        out: &mut [[f32; ROWS]],
    ) {
        let product = |a: f32, b: f32, c: f32| if FMA { a.mul_add(b, c) } else { a * b + c };
        for (slice, out) in slices.zip(out) {
            let Slice { starts, groups, bias } = self.slice::<W>(slice);
            let mut sums = [[0.0_f32; W]; ROWS];
            for (groups, starts) in groups.iter().zip(starts) {
                for ((group, &start), sum) in groups.iter().zip(starts).zip(&mut sums) {
                    // SAFETY: every start is that of W activations within the copy.
                    let x = unsafe { &*x.as_ptr().add(start as usize).cast::<[f32; W]>() };
                    for lane in 0..W {
                        sum[lane] = product(group[lane], x[lane], sum[lane]);
                    }
                }
            }
            for ((sum, bias), out) in sums.iter().zip(bias).zip(out) {
                *out = activate(sum_of(sum) + bias, self.relu);
            }
        }
    }
}

/// The sum of a vector's lanes, by halves.
#[inline(always)]
fn sum_of<const W: usize>(lanes: &[f32; W]) -> f32 {
    let mut lanes = *lanes;
    let mut count = W;
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            lanes[lane] += lanes[lane + count];
        }
    }
    lanes[0]
}

/// A layer with the function that runs it.
#[derive(Debug)]
pub(super) struct RowsKernel {
    rows: Rows,
    function: SlicesFunction,
}

impl RowsKernel {
    /// # Safety
    /// The processor has what `function` was compiled for, and it is the one for the layer's width.
    pub(super) unsafe fn new(layer: &GroupLayer<'_>, function: SlicesFunction) -> Self {
        Self { rows: Rows::new(layer), function }
    }
}

thread_local! {
    /// The copy of the activations, and the results in the order of the slices, kept from call to call.
    static SCRATCH: Cell<(Aligned, Vec<[f32; ROWS]>)> =
        const { Cell::new((Aligned::new(), Vec::new())) };
}

impl Kernel for RowsKernel {
    fn run(&self, x: &Input<'_>, _: usize, y: Output<'_>) {
        let rows = &self.rows;
        // Taken and put back, since another product may run on this thread while it waits for others.
        let (mut copy, mut out) = SCRATCH.take();
        rows.copy(x, &mut copy);
        out.resize(rows.bias.len(), [0.0; ROWS]);
        let slices = rows.bias.len();
        let parts = task_count(rows.values.len(), PER_MICROSECOND);
        // SAFETY (of both calls): `RowsKernel::new` asks that the processor has what the function was compiled for; the copy is that
        // of these rows, and the output has an entry for each slice.
        if parts == 1 {
            unsafe { (self.function)(rows, &copy, 0..slices, &mut out) };
        } else {
            parallel_for(balanced_ranges(&rows.steps, parts, 1, &mut out), |(range, out)| unsafe {
                (self.function)(rows, &copy, range, out);
            });
        }
        let results = rows.order.iter().zip(out.as_flattened());
        match y.rows {
            RowStarts::Every(1) => results.for_each(|(&row, &sum)| y.values[row as usize] = sum),
            starts => {
                results.for_each(|(&row, &sum)| y.values[starts.start(row as usize)] = sum);
            }
        }
        SCRATCH.set((copy, out));
    }
}

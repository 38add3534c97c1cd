//! What all kernels on GPUs share: where their operands lie, and a packed product that is bound to
//! buffers and enqueued.
//!
//! On a GPU every thread finds its own place, so that operands may lie more freely than on a CPU
//! ([`layout`](super::layout)): the columns of a convolution are exactly the pixels of its output,
//! whatever its stride.

use bytemuck::NoUninit;

use super::layout::ColumnLayout;
use super::registry;
use crate::device::gpu::{self, Buffer, Gpu, Language, Launch, Limits, Program, Source, Step};
use crate::error::{Error, Result};

/// Where an operand lies in its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Where each row starts, in floats.
    pub rows: Vec<u32>,
    /// Where the columns of a row lie.
    pub columns: ColumnLayout,
    /// From one image to the next, in floats.
    pub image: u32,
}

impl Operand {
    /// Rows of `n` columns, one after the other.
    pub fn plain(rows: usize, n: u32) -> Self {
        let starts = (0..rows as u32).map(|row| row * n).collect();
        let columns = ColumnLayout::contiguous(n as usize);
        Self { rows: starts, columns, image: rows as u32 * n }
    }

    /// Whether four columns from a multiple of four on are one aligned vector, for every row and image.
    pub fn is_vectors(&self, columns: u32) -> bool {
        self.columns.stride == 1
            && columns.is_multiple_of(4)
            && self.columns.width.is_multiple_of(4)
            && self.columns.line_stride.is_multiple_of(4)
            && self.image.is_multiple_of(4)
            && self.rows.iter().all(|row| row.is_multiple_of(4))
    }

    /// Floats of the smallest buffer that holds it.
    ///
    /// # Errors
    /// More than 32-bit offsets reach.
    pub fn floats(&self, columns: u32, images: u32) -> Result<usize> {
        let Some(&last) = self.rows.iter().max() else {
            return Ok(0);
        };
        if columns == 0 || images == 0 {
            return Ok(0);
        }
        let image = u64::from(self.image) * u64::from(images - 1);
        let span = self.columns.span(columns as usize).unwrap_or(usize::MAX) as u64;
        let floats = (u64::from(last) + image).saturating_add(span);
        match u32::try_from(floats) {
            Ok(floats) => Ok(floats as usize),
            Err(_) => {
                let expected = "operands of fewer than 2^32 floats";
                Err(Error::argument("a product on a GPU", expected, floats.to_string()))
            }
        }
    }
}

/// Both operands of a product Y = W X of `columns` columns, for a number of images at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operands {
    /// X, `[K, columns]`.
    pub x: Operand,
    /// Y, `[M, columns]`.
    pub y: Operand,
    /// n.
    pub columns: u32,
    /// Images.
    pub images: u32,
}

impl Operands {
    /// Plain matrices for weights `[M, K]` and n columns.
    ///
    /// # Errors
    /// More than 32 bits count.
    pub fn plain([m, k]: [usize; 2], n: usize) -> Result<Self> {
        let sizes = [Some(m), Some(k), Some(n), m.checked_mul(n), k.checked_mul(n)];
        if sizes.iter().any(|size| size.is_none_or(|size| u32::try_from(size).is_err())) {
            let found = format!("{m} x {k} x {n}");
            return Err(Error::argument("a product on a GPU", "fewer than 2^32 floats", found));
        }
        let columns = n as u32;
        let (x, y) = (Operand::plain(k, columns), Operand::plain(m, columns));
        Ok(Self { x, y, columns, images: 1 })
    }

    /// Refuses operands of other rows than the weights have.
    pub(super) fn check(&self, name: &str, [m, k]: [usize; 2]) -> Result<()> {
        if [self.y.rows.len(), self.x.rows.len()] == [m, k] {
            return Ok(());
        }
        let found = format!("{} and {}", self.x.rows.len(), self.y.rows.len());
        Err(Error::argument(name, format!("operands of {k} and {m} rows"), found))
    }

    /// Whether X is one column, its rows side by side.
    pub(super) fn is_vector(&self) -> bool {
        self.columns == 1
            && self.images == 1
            && self.x.rows.iter().enumerate().all(|(place, &row)| place == row as usize)
    }

    /// `relu`, then X's and Y's columns and images: the end of every kernel's parameters.
    pub(super) fn parameters(&self, relu: bool) -> [u32; 10] {
        let (x, y) = (&self.x, &self.y);
        // `Operand::floats` has seen that they fit into 32 bits. A line has a column, or kernels divide by 0.
        let words = |ColumnLayout { width, line_stride, stride, .. }: ColumnLayout| {
            [width.max(1), line_stride, stride].map(|word| word as u32)
        };
        let ([x_width, x_line, x_stride], [y_width, y_line, y_stride]) =
            (words(x.columns), words(y.columns));
        [
            self.columns,
            u32::from(relu),
            x_width,
            x_line,
            x_stride,
            x.image,
            y_width,
            y_line,
            y_stride,
            y.image,
        ]
    }
}

/// What a stage's program is given.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Own(Buffer),
    X,
    Y,
}

impl Argument {
    /// Weights, indices or a table, copied to the device.
    pub fn own(gpu: &dyn Gpu, values: &[impl NoUninit]) -> Result<Self> {
        Ok(Self::Own(gpu::upload(gpu, values)?))
    }
}

/// One launch of a packed product.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub program: Program,
    pub grid: [u32; 3],
    pub arguments: Vec<Argument>,
    pub parameters: Vec<u32>,
}

/// A layer packed for a GPU: weights are on the device, X and Y are not chosen yet.
#[derive(Clone, Debug)]
pub struct Packed {
    name: &'static str,
    kernels: Vec<&'static str>,
    stages: Vec<Stage>,
    x_floats: usize,
    y_floats: usize,
}

impl Packed {
    pub(super) fn new(
        name: &'static str,
        stages: Vec<Stage>,
        [x_floats, y_floats]: [usize; 2],
    ) -> Self {
        Self { name, kernels: vec![name], stages, x_floats, y_floats }
    }

    pub(super) fn of_product(
        name: &'static str,
        stages: Vec<Stage>,
        operands: &Operands,
    ) -> Result<Self> {
        let Operands { x, y, columns, images } = operands;
        let floats = [x.floats(*columns, *images)?, y.floats(*columns, *images)?];
        Ok(Self::new(name, stages, floats))
    }

    /// Several that read the same X and write to the same Y, one after the other.
    pub(super) fn joined(name: &'static str, all: Vec<Self>) -> Self {
        let floats = |of: fn(&Self) -> usize| all.iter().map(of).max().unwrap_or(0);
        let floats = [floats(|packed| packed.x_floats), floats(|packed| packed.y_floats)];
        let kernels = all.iter().flat_map(|packed| packed.kernels.iter().copied()).collect();
        let stages = all.into_iter().flat_map(|packed| packed.stages).collect();
        Self { kernels, ..Self::new(name, stages, floats) }
    }

    /// The variants that it runs on.
    pub fn kernels(&self) -> &[&'static str] {
        &self.kernels
    }

    /// The variant that it was packed for, or the operation that joins several.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of the weights, indices and tables on the device.
    pub fn bytes(&self) -> usize {
        let own = |argument: &Argument| match argument {
            Argument::Own(buffer) => buffer.bytes(),
            _ => 0,
        };
        self.stages.iter().flat_map(|stage| &stage.arguments).map(own).sum()
    }

    /// Binds it to buffers of X and Y.
    ///
    /// # Errors
    /// Buffers that are too small, or of another device.
    pub fn bind(&self, gpu: &dyn Gpu, x: &Buffer, y: &Buffer) -> Result<Bound> {
        let needed = [4 * self.x_floats, 4 * self.y_floats];
        if x.bytes() < needed[0] || y.bytes() < needed[1] {
            let expected = format!("{} bytes of x and {} of y", needed[0], needed[1]);
            let found = format!("{} and {}", x.bytes(), y.bytes());
            return Err(Error::argument(self.name, expected, found));
        }
        let bind = |stage: &Stage| {
            let buffers: Vec<&Buffer> = stage
                .arguments
                .iter()
                .map(|argument| match argument {
                    Argument::Own(buffer) => buffer,
                    Argument::X => x,
                    Argument::Y => y,
                })
                .collect();
            let Stage { program, grid, parameters, .. } = stage;
            gpu.prepare(&Launch { program, grid: *grid, buffers: &buffers, parameters })
        };
        let launched = self.stages.iter().filter(|stage| !stage.grid.contains(&0));
        Ok(Bound { steps: launched.map(bind).collect::<Result<_>>()? })
    }

    /// Computes Y from X through the host: for tests and first tries, since it copies both.
    ///
    /// # Errors
    /// Slices that are too short; what the device refuses.
    pub fn run(&self, gpu: &dyn Gpu, x: &[f32], y: &mut [f32]) -> Result<()> {
        let (x, on_device) = (gpu::upload(gpu, x)?, gpu::upload(gpu, y)?);
        self.bind(gpu, &x, &on_device)?.enqueue(gpu)?;
        gpu.read(&on_device, bytemuck::cast_slice_mut(y))
    }
}

/// A packed layer with its buffers, to be enqueued again and again.
#[derive(Debug)]
pub struct Bound {
    steps: Vec<Step>,
}

impl Bound {
    /// Hands it to the device, after all that was enqueued before.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue(&self, gpu: &dyn Gpu) -> Result<()> {
        self.steps.iter().try_for_each(|step| gpu.enqueue(step))
    }
}

/// One implementation of an operation on GPUs, for the language that it is written in.
pub type Variant<D> = registry::Variant<D, Language>;

/// Packs for the variant that `SCALPEL_KERNEL` names, where it is one of the operation `op`; else for the
/// first of a table that suits and that the device bears.
pub(super) fn dispatch<D>(
    gpu: &dyn Gpu,
    op: &str,
    variants: &'static [Variant<D>],
    suits: impl Fn(&D) -> bool,
    pack: impl Fn(&'static Variant<D>) -> Result<Packed>,
) -> Result<Packed> {
    if let Some(variant) = registry::forced(variants, op)? {
        return pack(variant);
    }
    let fits = |variant: &&Variant<D>| variant.target == gpu.language() && suits(&variant.design);
    registry::first_available(variants.iter().filter(fits), pack)
}

/// The refusal of a variant that is written for other devices.
pub(super) fn check_language(name: &str, language: Language, gpu: &dyn Gpu) -> Result<()> {
    if language == gpu.language() {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: format!("the kernel {name}"),
        reason: format!("{} runs {}", gpu.name(), gpu.language().tag()),
        remedy: "choose a variant for it".into(),
    })
}

/// The refusal of a block that a device does not bear.
pub(super) fn check_block(
    source: &Source<'_>,
    shared_bytes: u32,
    buffers: u32,
    gpu: &dyn Gpu,
) -> Result<()> {
    let limits = gpu.limits();
    let fits = shared_bytes as usize <= limits.shared_bytes
        && source.threads <= limits.threads
        && buffers <= limits.buffers;
    if fits {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: format!("the kernel {}", source.entry),
        reason: format!(
            "it needs {shared_bytes} bytes of shared memory, {} threads and {buffers} buffers; {} bears {}, \
             {} and {}",
            source.threads,
            gpu.name(),
            limits.shared_bytes,
            limits.threads,
            limits.buffers
        ),
        remedy: "choose a variant with smaller tiles".into(),
    })
}

/// Rows cut into ranges whose bytes, `bytes(row)` each, stay within a device's largest buffer.
///
/// # Errors
/// A single row is larger.
pub(super) fn panels(
    name: &str,
    rows: usize,
    bytes: impl Fn(usize) -> usize,
    gpu: &dyn Gpu,
) -> Result<Vec<std::ops::Range<usize>>> {
    let limit = gpu.limits().buffer_bytes;
    let (mut panels, mut first, mut sum) = (Vec::new(), 0, 0);
    for row in 0..rows {
        let own = bytes(row);
        if own > limit {
            let expected = format!("weights of which a row fits into {limit} bytes");
            return Err(Error::argument(name, expected, format!("{own} bytes")));
        }
        if sum + own > limit {
            panels.push(first..row);
            (first, sum) = (row, 0);
        }
        sum += own;
    }
    panels.push(first..rows);
    Ok(panels)
}

/// Warps for a row of one column's product: more where rows are too few to fill the device, as long as
/// every lane has four vectors of four weights.
pub(super) fn warps_for_a_row(weights: usize, rows: usize, limits: &Limits) -> u32 {
    let wanted = 32 * limits.multiprocessors as usize;
    let mut warps = 1;
    while warps < 8 && rows * (warps as usize) < wanted && weights >= 512 * warps as usize {
        warps *= 2;
    }
    warps
}

#[cfg(test)]
pub(crate) use self::tests::devices;

#[cfg(test)]
mod tests;

//! Shape inference: what each layer makes of what it reads, or why it cannot.

use std::collections::HashSet;

use super::spec::{Conv, Group, Groups, Network, Op, Pool, Shape};
use crate::error::{Error, Result};

impl Network {
    /// The output shape of every layer.
    ///
    /// # Errors
    /// Names the first layer that contradicts what it reads: a kernel larger than its padded input,
    /// groups that do not divide the channels, a name used twice, a mask that is not there.
    pub fn shapes(&self) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.layers.len());
        let mut names = HashSet::new();
        for (index, layer) in self.layers.iter().enumerate() {
            if !names.insert(layer.name.as_str()) {
                return Err(self.wrong(index, "a name of its own", "the name of an earlier layer"));
            }
            let input = shapes.last().copied().unwrap_or(self.input);
            shapes.push(self.output(index, input)?);
        }
        Ok(shapes)
    }

    /// The shape that layer `index` reads, from the shapes that [`Network::shapes`] gave.
    pub fn input_of(&self, index: usize, shapes: &[Shape]) -> Shape {
        if index == 0 { self.input } else { shapes[index - 1] }
    }

    /// The groups of the convolution at `index`, which reads `input`.
    ///
    /// # Errors
    /// Groups that do not divide the channels, or that do not add up to them. Not a convolution.
    pub fn groups_of(&self, index: usize, input: Shape) -> Result<Vec<Group>> {
        let Op::Conv(Conv { outputs, groups, .. }) = &self.layers[index].op else {
            return Err(self.wrong(index, "a convolution", "another layer"));
        };
        let (inputs, outputs) = (input[0], *outputs);
        match groups {
            Groups::Even(count) => {
                let count = *count;
                if count == 0 || inputs % count != 0 || outputs % count != 0 {
                    let expected = "groups that divide its input and output channels";
                    let found = format!("{count} groups, {inputs} inputs, {outputs} outputs");
                    return Err(self.wrong(index, expected, found));
                }
                Ok(vec![Group { inputs: inputs / count, outputs: outputs / count }; count])
            }
            Groups::Uneven(groups) => {
                let sums = groups.iter().fold((0, 0), |(i, o), g| (i + g.inputs, o + g.outputs));
                if sums != (inputs, outputs) {
                    let expected =
                        format!("groups of {inputs} inputs and {outputs} outputs in all");
                    return Err(self.wrong(index, expected, format!("{} and {}", sums.0, sums.1)));
                }
                Ok(groups.clone())
            }
        }
    }

    /// An error about layer `index`.
    pub(super) fn wrong(
        &self,
        index: usize,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Layer {
            network: self.name.clone(),
            layer: self.layers[index].name.clone(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn output(&self, index: usize, input: Shape) -> Result<Shape> {
        let [channels, height, width] = input;
        match &self.layers[index].op {
            Op::Conv(conv) => {
                self.groups_of(index, input)?;
                let side =
                    |length| self.side(index, length, conv.kernel, conv.stride, conv.padding);
                Ok([conv.outputs, side(height)?, side(width)?])
            }
            Op::Linear(linear) => Ok([linear.outputs, 1, 1]),
            Op::MaxPool(pool) | Op::AveragePool(pool) => {
                let Pool { kernel, stride, padding } = *pool;
                if 2 * padding > kernel {
                    let expected = format!("padding of at most half its window of {kernel}");
                    return Err(self.wrong(index, expected, padding.to_string()));
                }
                let side = |length| self.side(index, length, kernel, stride, padding);
                Ok([channels, side(height)?, side(width)?])
            }
            Op::LocalResponseNorm(norm) => {
                if norm.size % 2 == 0 {
                    return Err(self.wrong(index, "a window of odd size", norm.size.to_string()));
                }
                Ok(input)
            }
            Op::Dropout(dropout) => {
                if !(0.0..1.0).contains(&dropout.p) {
                    let expected = "a rate of at least 0 and below 1";
                    return Err(self.wrong(index, expected, dropout.p.to_string()));
                }
                if let Some(shrink) = &dropout.shrink {
                    let before = &self.layers[..index];
                    if !before.iter().any(|l| l.name == shrink.mask && l.op == Op::Mask) {
                        let expected = format!("a mask layer {} before it", shrink.mask);
                        return Err(self.wrong(index, expected, "none"));
                    }
                }
                Ok(input)
            }
            Op::Relu | Op::BatchNorm(_) | Op::Mask => Ok(input),
        }
    }

    /// How many windows of `kernel` fit into `length` pixels with `padding` on both sides.
    fn side(
        &self,
        index: usize,
        length: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<usize> {
        let padded = length + 2 * padding;
        if kernel == 0 || stride == 0 {
            let found = format!("kernel {kernel}, stride {stride}");
            return Err(self.wrong(index, "a kernel and a stride of at least 1", found));
        }
        if kernel > padded {
            let expected = format!("an input of at least {kernel} pixels, padding included");
            return Err(self.wrong(index, expected, format!("{length} + 2 x {padding}")));
        }
        Ok((padded - kernel) / stride + 1)
    }
}

//! The five networks of the paper, layer by layer as the authors' scripts have them.
//!
//! A network of your own is described by a file ([`Network::open`]), or is one more function here: docs/recipes.md.

use super::spec::{
    BatchNorm, Conv, Dropout, Groups, Layer, Linear, LocalResponseNorm, Network, Op, Pool,
    ShrinkLaw, Shrinking,
};
use crate::error::{Error, Result};

/// The names that [`by_name`] knows, in the order of the authors' table.
pub const NAMES: [&str; 5] = ["lenet-300-100", "lenet-5", "convnet", "nin", "alexnet"];

/// The network of that name.
///
/// # Errors
/// A name that is not in [`NAMES`].
pub fn by_name(name: &str) -> Result<Network> {
    match name {
        "lenet-300-100" => Ok(lenet_300_100()),
        "lenet-5" => Ok(lenet_5()),
        "convnet" => Ok(convnet()),
        "nin" => Ok(nin()),
        "alexnet" => Ok(alexnet()),
        _ => Err(Error::unknown("network", NAMES, name)),
    }
}

/// The network of that name with the same layers and fewer nodes, and for AlexNet smaller images: for tests
/// in which plain loops run it.
///
/// # Errors
/// There is none of that name.
pub fn narrow(name: &str) -> Result<Network> {
    let mut network = by_name(name)?;
    if name == "alexnet" {
        network.input = [3, 99, 99];
    }
    let divisor = match name {
        "lenet-300-100" | "lenet-5" => 1,
        "convnet" => 2,
        "nin" => 16,
        _ => 24,
    };
    for layer in &mut network.layers {
        match &mut layer.op {
            Op::Conv(conv) if conv.outputs > 10 => conv.outputs /= divisor,
            Op::Linear(linear) if linear.outputs > 10 => {
                linear.outputs = linear.outputs.div_ceil(divisor);
            }
            _ => {}
        }
    }
    Ok(network)
}

/// LeNet-300-100: three dense layers on MNIST.
pub fn lenet_300_100() -> Network {
    let mut net = Builder::new("lenet-300-100", [1, 28, 28]);
    net.ip("ip1", 300).relu("ip1").mask("ip1");
    net.ip("ip2", 100).relu("ip2").mask("ip2");
    net.ip("ip3", 10);
    net.network
}

/// LeNet-5: two convolutions and two dense layers on MNIST.
pub fn lenet_5() -> Network {
    let mut net = Builder::new("lenet-5", [1, 28, 28]);
    net.conv("conv1", 20, 5, 0).relu("conv1").max_pool("pool1", 2, 2, 0).mask("conv1");
    net.conv("conv2", 50, 5, 0).relu("conv2").max_pool("pool2", 2, 2, 0).mask("conv2");
    net.ip("ip1", 500).relu("ip1").mask("ip1");
    net.ip("ip2", 10);
    net.network
}

/// ConvNet: three convolutions and a dense layer on CIFAR-10 (cuda-convnet's, from Caffe).
pub fn convnet() -> Network {
    let mut net = Builder::new("convnet", [3, 32, 32]);
    net.conv("conv1", 32, 5, 2)
        .relu("conv1")
        .max_pool("pool1", 3, 2, 1)
        .norm("norm1")
        .mask("conv1");
    net.conv("conv2", 32, 5, 2)
        .relu("conv2")
        .avg_pool("pool2", 3, 2, 1)
        .norm("norm2")
        .mask("conv2");
    net.conv("conv3", 64, 5, 2).relu("conv3").mask("conv3").avg_pool("pool3", 3, 2, 1);
    net.ip("ip1", 10);
    net.network
}

/// NIN, Network in Network: nine convolutions, most of them 1x1, on CIFAR-10.
pub fn nin() -> Network {
    let mut net = Builder::new("nin", [3, 32, 32]);
    net.conv("conv1", 192, 5, 2).relu("conv1").mask("conv1");
    net.conv("cccp1", 160, 1, 0).relu("cccp1").mask("cccp1");
    net.conv("cccp2", 96, 1, 0).relu("cccp2").mask("cccp2");
    net.max_pool("pool1", 3, 2, 1).dropout("dropout1", "mask_cccp2", ShrinkLaw::Linear);
    net.conv("conv2", 192, 5, 2).relu("conv2").mask("conv2");
    net.conv("cccp3", 192, 1, 0).relu("cccp3").mask("cccp3");
    net.conv("cccp4", 192, 1, 0).relu("cccp4").mask("cccp4");
    net.avg_pool("pool2", 3, 2, 1).dropout("dropout2", "mask_cccp4", ShrinkLaw::Linear);
    net.conv("conv3", 192, 3, 1).relu("conv3").mask("conv3");
    net.conv("cccp5", 192, 1, 0).relu("cccp5").mask("cccp5");
    net.conv("cccp6", 10, 1, 0).relu("cccp6");
    net.avg_pool("pool3", 8, 1, 0);
    net.network
}

/// AlexNet with two groups and batch normalisation, on ImageNet.
pub fn alexnet() -> Network {
    let mut net = Builder::new("alexnet", [3, 227, 227]);
    net.conv_with(
        "conv1",
        Conv { outputs: 96, kernel: 11, stride: 4, padding: 0, groups: Groups::Even(1) },
    );
    net.relu("conv1").batch_norm("bn1").max_pool("pool1", 3, 2, 0).mask("conv1");
    net.conv_with(
        "conv2",
        Conv { outputs: 256, kernel: 5, stride: 1, padding: 2, groups: Groups::Even(2) },
    );
    net.relu("conv2").batch_norm("bn2").max_pool("pool2", 3, 2, 0).mask("conv2");
    net.conv("conv3", 384, 3, 1).relu("conv3").mask("conv3");
    net.conv_with(
        "conv4",
        Conv { outputs: 384, kernel: 3, stride: 1, padding: 1, groups: Groups::Even(2) },
    );
    net.relu("conv4").mask("conv4");
    net.conv_with(
        "conv5",
        Conv { outputs: 256, kernel: 3, stride: 1, padding: 1, groups: Groups::Even(2) },
    );
    net.relu("conv5").max_pool("pool5", 3, 2, 0).mask("conv5");
    net.ip("ip6", 4096).relu("ip6").mask("ip6").dropout(
        "dropout6",
        "mask_ip6",
        ShrinkLaw::SquareRoot,
    );
    net.ip("ip7", 4096).relu("ip7").mask("ip7").dropout(
        "dropout7",
        "mask_ip7",
        ShrinkLaw::SquareRoot,
    );
    net.ip("ip8", 1000);
    net.network
}

/// Appends layers, so that a network reads as its table in the paper.
struct Builder {
    network: Network,
}

impl Builder {
    fn new(name: &str, input: [usize; 3]) -> Self {
        Self { network: Network { name: name.into(), input, layers: Vec::new() } }
    }

    fn push(&mut self, name: impl Into<String>, op: Op) -> &mut Self {
        self.network.layers.push(Layer { name: name.into(), op });
        self
    }

    fn conv(&mut self, name: &str, outputs: usize, kernel: usize, padding: usize) -> &mut Self {
        self.conv_with(name, Conv { outputs, kernel, stride: 1, padding, groups: Groups::Even(1) })
    }

    fn conv_with(&mut self, name: &str, conv: Conv) -> &mut Self {
        self.push(name, Op::Conv(conv))
    }

    fn ip(&mut self, name: &str, outputs: usize) -> &mut Self {
        self.push(name, Op::Linear(Linear { outputs }))
    }

    fn relu(&mut self, of: &str) -> &mut Self {
        self.push(format!("relu_{of}"), Op::Relu)
    }

    fn mask(&mut self, of: &str) -> &mut Self {
        self.push(format!("mask_{of}"), Op::Mask)
    }

    fn max_pool(&mut self, name: &str, kernel: usize, stride: usize, padding: usize) -> &mut Self {
        self.push(name, Op::MaxPool(Pool { kernel, stride, padding }))
    }

    fn avg_pool(&mut self, name: &str, kernel: usize, stride: usize, padding: usize) -> &mut Self {
        self.push(name, Op::AveragePool(Pool { kernel, stride, padding }))
    }

    fn norm(&mut self, name: &str) -> &mut Self {
        self.push(
            name,
            Op::LocalResponseNorm(LocalResponseNorm { size: 3, alpha: 5e-5, beta: 0.75 }),
        )
    }

    fn batch_norm(&mut self, name: &str) -> &mut Self {
        self.push(name, Op::BatchNorm(BatchNorm { epsilon: 0.1, momentum: 0.1 }))
    }

    fn dropout(&mut self, name: &str, mask: &str, law: ShrinkLaw) -> &mut Self {
        let shrink = Some(Shrinking { mask: mask.into(), law });
        self.push(name, Op::Dropout(Dropout { p: 0.5, shrink }))
    }
}

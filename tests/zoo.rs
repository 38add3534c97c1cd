//! The five networks have the shapes, weights and multiplications of the paper's.

use scalpel::network::{
    Conv, Groups, Layer, Linear, Network, NodeKind, Op, Pool, Shape, ShrinkLaw, zoo,
};

fn shape_of(network: &Network, layer: &str) -> Shape {
    let shapes = network.shapes().unwrap();
    let index = network.layers.iter().position(|l| l.name == layer).unwrap();
    shapes[index]
}

fn weights(network: &Network) -> Vec<(String, usize)> {
    network.costs().unwrap().into_iter().map(|cost| (cost.layer, cost.weights)).collect()
}

fn check(network: &Network, shapes: &[(&str, Shape)], expected: &[(&str, usize)], total: usize) {
    for &(layer, shape) in shapes {
        assert_eq!(shape_of(network, layer), shape, "{} {layer}", network.name);
    }
    let expected: Vec<(String, usize)> =
        expected.iter().map(|&(layer, count)| (layer.to_owned(), count)).collect();
    assert_eq!(weights(network), expected);
    assert_eq!(expected.iter().map(|(_, count)| count).sum::<usize>(), total, "{}", network.name);
}

#[test]
fn lenet_300_100_has_266_200_weights() {
    check(
        &zoo::lenet_300_100(),
        &[("ip1", [300, 1, 1]), ("mask_ip2", [100, 1, 1]), ("ip3", [10, 1, 1])],
        &[("ip1", 235_200), ("ip2", 30_000), ("ip3", 1_000)],
        266_200,
    );
}

#[test]
fn lenet_5_has_430_500_weights() {
    let network = zoo::lenet_5();
    check(
        &network,
        &[
            ("conv1", [20, 24, 24]),
            ("pool1", [20, 12, 12]),
            ("conv2", [50, 8, 8]),
            ("mask_conv2", [50, 4, 4]),
            ("ip1", [500, 1, 1]),
            ("ip2", [10, 1, 1]),
        ],
        &[("conv1", 500), ("conv2", 25_000), ("ip1", 400_000), ("ip2", 5_000)],
        430_500,
    );
    let multiplies: Vec<usize> = network.costs().unwrap().iter().map(|c| c.multiplies).collect();
    assert_eq!(multiplies, [288_000, 1_600_000, 400_000, 5_000]);
}

#[test]
fn convnet_has_89_440_weights() {
    check(
        &zoo::convnet(),
        &[
            ("conv1", [32, 32, 32]),
            ("pool1", [32, 16, 16]),
            ("norm2", [32, 8, 8]),
            ("mask_conv3", [64, 8, 8]),
            ("pool3", [64, 4, 4]),
            ("ip1", [10, 1, 1]),
        ],
        &[("conv1", 2_400), ("conv2", 25_600), ("conv3", 51_200), ("ip1", 10_240)],
        89_440,
    );
}

#[test]
fn nin_has_965_568_weights() {
    check(
        &zoo::nin(),
        &[
            ("conv1", [192, 32, 32]),
            ("cccp2", [96, 32, 32]),
            ("pool1", [96, 16, 16]),
            ("cccp4", [192, 16, 16]),
            ("pool2", [192, 8, 8]),
            ("cccp6", [10, 8, 8]),
            ("pool3", [10, 1, 1]),
        ],
        &[
            ("conv1", 14_400),
            ("cccp1", 30_720),
            ("cccp2", 15_360),
            ("conv2", 460_800),
            ("cccp3", 36_864),
            ("cccp4", 36_864),
            ("conv3", 331_776),
            ("cccp5", 36_864),
            ("cccp6", 1_920),
        ],
        965_568,
    );
}

#[test]
fn alexnet_has_60_954_656_weights() {
    let network = zoo::alexnet();
    check(
        &network,
        &[
            ("conv1", [96, 55, 55]),
            ("pool1", [96, 27, 27]),
            ("conv2", [256, 27, 27]),
            ("pool2", [256, 13, 13]),
            ("conv5", [256, 13, 13]),
            ("pool5", [256, 6, 6]),
            ("ip8", [1000, 1, 1]),
        ],
        &[
            ("conv1", 34_848),
            ("conv2", 307_200),
            ("conv3", 884_736),
            ("conv4", 663_552),
            ("conv5", 442_368),
            ("ip6", 37_748_736),
            ("ip7", 16_777_216),
            ("ip8", 4_096_000),
        ],
        60_954_656,
    );
    let multiplies: usize = network.costs().unwrap().iter().map(|c| c.multiplies).sum();
    assert_eq!(multiplies, 724_406_816);
    let conv2 =
        network.parameters().unwrap().into_iter().find(|p| p.name == "conv2.weight").unwrap();
    assert_eq!(conv2.shape, [256, 48, 5, 5], "two groups see 48 channels each");
}

#[test]
fn masks_govern_the_nodes_of_the_authors_tables() {
    let nodes = |name: &str| -> Vec<usize> {
        let sites = zoo::by_name(name).unwrap().mask_sites().unwrap();
        sites.iter().map(|site| site.nodes).collect()
    };
    assert_eq!(nodes("lenet-300-100"), [300, 100]);
    assert_eq!(nodes("lenet-5"), [20, 50, 500]);
    assert_eq!(nodes("convnet"), [32, 32, 64]);
    assert_eq!(nodes("nin"), [192, 160, 96, 192, 192, 192, 192, 192]);
    assert_eq!(nodes("alexnet"), [96, 256, 384, 384, 256, 4096, 4096]);
    let kinds: Vec<NodeKind> =
        zoo::lenet_5().mask_sites().unwrap().iter().map(|site| site.kind).collect();
    assert_eq!(kinds, [NodeKind::Conv, NodeKind::Conv, NodeKind::Ip]);
}

#[test]
fn dropout_shrinks_with_the_mask_before_it() {
    let rate = |network: Network, layer: &str, kept: f64| {
        let found = network.layers.into_iter().find(|l| l.name == layer).unwrap();
        let Op::Dropout(dropout) = found.op else { panic!("{layer} is no dropout") };
        (dropout.rate(kept), dropout.shrink.unwrap())
    };
    let (nin, shrink) = rate(zoo::nin(), "dropout1", 0.25);
    assert_eq!((nin, shrink.mask.as_str(), shrink.law), (0.125, "mask_cccp2", ShrinkLaw::Linear));
    let (alexnet, shrink) = rate(zoo::alexnet(), "dropout7", 0.25);
    assert_eq!((alexnet, shrink.mask.as_str()), (0.25, "mask_ip7"));
}

#[test]
fn a_network_that_contradicts_itself_is_refused_by_layer() {
    let conv = |kernel, groups| {
        Op::Conv(Conv { outputs: 6, kernel, stride: 1, padding: 0, groups: Groups::Even(groups) })
    };
    let dropout = zoo::nin().layers.into_iter().find(|l| l.name == "dropout1").unwrap().op;
    for (ops, message) in [
        (vec![conv(9, 1)], "network bad, layer 0: expected an input of at least 9 pixels"),
        (vec![conv(3, 4)], "4 groups, 3 inputs, 6 outputs"),
        (vec![conv(0, 1)], "a kernel and a stride of at least 1"),
        (vec![Op::MaxPool(Pool { kernel: 2, stride: 2, padding: 2 })], "half its window"),
        (vec![Op::Mask], "layer 0: expected a convolution or dense layer before the mask"),
        (vec![dropout], "expected a mask layer mask_cccp2 before it"),
    ] {
        let layers =
            ops.into_iter().enumerate().map(|(i, op)| Layer { name: i.to_string(), op }).collect();
        let network = Network { name: "bad".into(), input: [3, 8, 8], layers };
        let error =
            network.parameters().and_then(|_| network.mask_sites()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let twice = Layer { name: "ip".into(), op: Op::Linear(Linear { outputs: 2 }) };
    let network =
        Network { name: "bad".into(), input: [1, 1, 1], layers: vec![twice.clone(), twice] };
    assert!(network.shapes().unwrap_err().to_string().contains("a name of its own"));
}

//! From a node-masked network, the physically smaller one that computes the same.
//!
//! A blocked node emits 0 after its mask, and whatever keeps 0 at 0 (ReLU, pooling, response
//! normalisation, dropout) may stand between the mask and the next weights. So the node's row of
//! the layer and its columns of the next one can go, through pooling and flattening. Batch
//! normalisation does not keep 0 at 0: it emits its shift. It may stand before the mask, which then
//! silences it, but not after.

use ndarray::{ArrayD, Axis};

use crate::error::{Error, Result};
use crate::network::{
    Conv, Dropout, Group, Groups, Layer, Linear, MaskSite, Network, NodeMasks, Op, Shape, Weights,
};

/// Removes the nodes that `masks` block. The result has no masks; its dropout rates are those that
/// the masks shrank them to; groups of a convolution that keep unequal counts become uneven ones.
///
/// # Errors
/// Weights that are not the network's; masks that are not, or that no smaller network can follow: a
/// blocked class of the last layer, a blocked node whose zero a batch normalisation undoes.
pub fn compact(
    network: &Network,
    weights: &Weights,
    masks: &NodeMasks,
) -> Result<(Network, Weights)> {
    weights.check(network)?;
    let nodes = kept_nodes(network, masks)?;
    with_nodes(network, weights, &nodes, false, |dropout| {
        let rate = match &dropout.shrink {
            None => dropout.p,
            Some(shrink) => dropout.rate(kept_fraction(masks, &shrink.mask)),
        };
        Dropout { p: rate, shrink: None }
    })
}

/// The network of some of its nodes, in some order: `nodes` has those of each convolution and dense layer, by its
/// place. `masks` says whether the layers that mask nodes stay; `dropout` gives each dropout its new rate.
///
/// # Errors
/// Arrays that the network's layers do not have; nodes that leave a layer that it cannot have.
pub(super) fn with_nodes(
    network: &Network,
    weights: &Weights,
    nodes: &[Vec<usize>],
    masks: bool,
    dropout_of: impl Fn(&Dropout) -> Dropout,
) -> Result<(Network, Weights)> {
    let shapes = network.shapes()?;
    let mut layers = Vec::with_capacity(network.layers.len());
    let mut small = Weights::default();
    let mut kept: Vec<usize> = (0..network.input[0]).collect(); // channels that are left so far
    for (index, layer) in network.layers.iter().enumerate() {
        let input = network.input_of(index, &shapes);
        let name = &layer.name;
        let op = match &layer.op {
            Op::Mask if !masks => continue,
            Op::Mask => {
                for name in ["alpha", "beta"].map(|part| format!("{name}.{part}")) {
                    if let Some(array) = weights.find(&name) {
                        small.insert(name, array.select(Axis(array.ndim() - 1), &kept));
                    }
                }
                Op::Mask
            }
            Op::Conv(conv) => {
                let rows = &nodes[index];
                let pieces = compact_conv(network, index, input, weights, &kept, rows)?;
                small.insert(format!("{name}.bias"), select(weights, name, "bias", rows)?);
                kept = rows.clone();
                Op::Conv(pieces.store(name, conv, &mut small))
            }
            Op::Linear(_) => {
                let rows = &nodes[index];
                let columns = features(&kept, input);
                let weight = weights.get(&format!("{name}.weight"))?.select(Axis(0), rows);
                small.insert(format!("{name}.weight"), weight.select(Axis(1), &columns));
                small.insert(format!("{name}.bias"), select(weights, name, "bias", rows)?);
                kept = rows.clone();
                Op::Linear(Linear { outputs: rows.len() })
            }
            Op::BatchNorm(norm) => {
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    small.insert(format!("{name}.{part}"), select(weights, name, part, &kept)?);
                }
                Op::BatchNorm(norm.clone())
            }
            Op::Dropout(dropout) => Op::Dropout(dropout_of(dropout)),
            other => other.clone(),
        };
        layers.push(Layer { name: name.clone(), op });
    }
    let compacted = Network { name: network.name.clone(), input: network.input, layers };
    small.check(&compacted)?;
    Ok((compacted, small))
}

/// The weights with which the network of the same size computes without masks what it does with them: a
/// blocked node's row and bias are 0, and so are the scale and shift of a batch normalisation between it
/// and its mask.
///
/// # Errors
/// As [`compact`].
pub fn zero_masked(network: &Network, weights: &Weights, masks: &NodeMasks) -> Result<Weights> {
    weights.check(network)?;
    let kept = kept_nodes(network, masks)?;
    let sites = network.mask_sites()?;
    let is_mask = |name: &str| {
        let layer = name.strip_suffix(".alpha").or_else(|| name.strip_suffix(".beta"));
        layer.is_some_and(|layer| sites.iter().any(|site| site.name == layer))
    };
    let arrays = weights.iter().filter(|(name, _)| !is_mask(name));
    let mut silent: Weights =
        arrays.map(|(name, array)| (name.to_owned(), array.clone())).collect();
    let mut zero = |name: String, dead: &dyn Fn(usize) -> bool| {
        let Some(mut array) = silent.remove(&name) else { return };
        for (node, mut part) in array.outer_iter_mut().enumerate() {
            if dead(node) {
                part.fill(0.0);
            }
        }
        silent.insert(name, array);
    };
    for (index, layer) in network.layers.iter().enumerate() {
        if !matches!(layer.op, Op::Conv(_) | Op::Linear(_)) {
            continue;
        }
        let dead = |node: usize| kept[index].binary_search(&node).is_err();
        if let Op::Conv(Conv { groups: Groups::Uneven(groups), .. }) = &layer.op {
            let mut first = 0;
            for (place, group) in groups.iter().enumerate() {
                zero(format!("{}.weight.{place}", layer.name), &|node| dead(first + node));
                first += group.outputs;
            }
        } else {
            zero(format!("{}.weight", layer.name), &dead);
        }
        zero(format!("{}.bias", layer.name), &dead);
        let after = network.layers[index + 1..].iter();
        for norm in after.take_while(|next| !matches!(next.op, Op::Conv(_) | Op::Linear(_))) {
            if let Op::BatchNorm(_) = norm.op {
                zero(format!("{}.weight", norm.name), &dead);
                zero(format!("{}.bias", norm.name), &dead);
            }
        }
    }
    Ok(silent)
}

/// The fraction of a mask's nodes that live; 1 where there is no such mask.
pub fn kept_fraction(masks: &NodeMasks, mask: &str) -> f64 {
    match masks.get(mask) {
        Some(alive) if !alive.is_empty() => {
            alive.iter().filter(|&&alive| alive).count() as f64 / alive.len() as f64
        }
        _ => 1.0,
    }
}

/// Living nodes of each layer that `original` masks: by its mask, or by its size where `network`, a
/// compacted form of it, has no such mask. Empty where neither masks nor compaction took any node.
///
/// # Errors
/// A network that is no form of the original.
pub fn living_nodes(
    original: &Network,
    network: &Network,
    masks: &NodeMasks,
) -> Result<Vec<usize>> {
    if masks.is_empty() && network == original {
        return Ok(Vec::new());
    }
    let shapes = network.shapes()?;
    let living = |site: MaskSite| match masks.get(&site.name) {
        Some(alive) => Ok(super::node::count(alive)),
        None => {
            let layer = &original.layers[site.producer].name;
            let place = network.layers.iter().position(|other| other.name == *layer);
            place.map(|place| shapes[place][0]).ok_or_else(|| {
                let expected = format!("a layer {layer}, as {} has", original.name);
                Error::argument(format!("count nodes of {}", network.name), expected, "none")
            })
        }
    };
    original.mask_sites()?.into_iter().map(living).collect()
}

/// Refuses masks that the network has no layer for, or of another size.
fn check_masks(network: &Network, masks: &NodeMasks) -> Result<()> {
    let sites = network.mask_sites()?;
    for (name, alive) in masks {
        let site = sites.iter().find(|site| site.name == *name);
        if site.map(|site| site.nodes) != Some(alive.len()) {
            let expected = match site {
                Some(site) => format!("{} nodes", site.nodes),
                None => "a mask layer of that name".into(),
            };
            let found = format!("{} nodes", alive.len());
            return Err(Error::argument(
                format!("compact {}: mask {name}", network.name),
                expected,
                found,
            ));
        }
    }
    Ok(())
}

/// For every convolution and dense layer, by its place, the nodes that are left.
fn kept_nodes(network: &Network, masks: &NodeMasks) -> Result<Vec<Vec<usize>>> {
    let shapes = network.shapes()?;
    check_masks(network, masks)?;
    let is_producer = |layer: &Layer| matches!(layer.op, Op::Conv(_) | Op::Linear(_));
    let last = network.layers.iter().rposition(is_producer);
    let mut kept = vec![Vec::new(); network.layers.len()];
    for (index, layer) in network.layers.iter().enumerate() {
        if !is_producer(layer) {
            continue;
        }
        // What each node emits where the next weights read it: silent once a mask blocks it, unless
        // a batch normalisation after that mask makes it speak again; then only a mask after the
        // batch normalisation, over the same node, silences it for good.
        let mut silent = vec![false; shapes[index][0]];
        let mut speaks_again: Vec<Option<&str>> = vec![None; silent.len()];
        for next in network.layers[index + 1..].iter().take_while(|next| !is_producer(next)) {
            match (&next.op, masks.get(&next.name)) {
                (Op::Mask, Some(alive)) => {
                    for node in (0..silent.len()).filter(|&node| !alive[node]) {
                        silent[node] = true;
                        speaks_again[node] = None;
                    }
                }
                (Op::BatchNorm(_), _) => {
                    for node in (0..silent.len()).filter(|&node| silent[node]) {
                        speaks_again[node] = Some(&next.name);
                    }
                }
                _ => {}
            }
        }
        let refuse = |layer: &str, expected: &str, found: String| Error::Layer {
            network: network.name.clone(),
            layer: layer.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let undone =
            speaks_again.iter().enumerate().find_map(|(node, norm)| Some((node, (*norm)?)));
        if let Some((node, norm)) = undone {
            let expected = "a mask after the batch normalisation, to zero its shift too";
            return Err(refuse(norm, expected, format!("node {node} blocked only before it")));
        }
        if Some(index) == last && silent.contains(&true) {
            let expected = "all outputs of the last layer alive: they are the classes";
            return Err(refuse(&layer.name, expected, "a mask that blocks some".into()));
        }
        kept[index] = (0..silent.len()).filter(|&node| !silent[node]).collect();
    }
    Ok(kept)
}

/// The features of the channels `kept` once an activation of shape `input` is flattened.
fn features(kept: &[usize], [_, height, width]: Shape) -> Vec<usize> {
    let area = height * width;
    kept.iter().flat_map(|channel| channel * area..(channel + 1) * area).collect()
}

/// The entries of a vector parameter that stay.
fn select(weights: &Weights, layer: &str, part: &str, kept: &[usize]) -> Result<ArrayD<f32>> {
    Ok(weights.get(&format!("{layer}.{part}"))?.select(Axis(0), kept))
}

/// What is left of a convolution's groups: their channel counts and their weights.
struct Pieces {
    groups: Vec<Group>,
    weights: Vec<ArrayD<f32>>,
}

impl Pieces {
    /// Puts the weights under the layer's name and returns the layer's description.
    fn store(self, name: &str, conv: &Conv, weights: &mut Weights) -> Conv {
        let outputs = self.groups.iter().map(|group| group.outputs).sum();
        let even = self.groups.windows(2).all(|pair| pair[0] == pair[1]);
        let groups = if even {
            let views: Vec<_> = self.weights.iter().map(|array| array.view()).collect();
            let joined = ndarray::concatenate(Axis(0), &views);
            weights.insert(format!("{name}.weight"), joined.unwrap_or_default());
            Groups::Even(self.groups.len())
        } else {
            for (place, array) in self.weights.into_iter().enumerate() {
                weights.insert(format!("{name}.weight.{place}"), array);
            }
            Groups::Uneven(self.groups)
        };
        Conv { outputs, groups, ..conv.clone() }
    }
}

fn compact_conv(
    network: &Network,
    index: usize,
    input: Shape,
    weights: &Weights,
    kept_inputs: &[usize],
    kept_outputs: &[usize],
) -> Result<Pieces> {
    let name = &network.layers[index].name;
    let uneven = weights.find(&format!("{name}.weight")).is_none();
    let mut pieces = Pieces { groups: Vec::new(), weights: Vec::new() };
    let (mut first_input, mut first_output) = (0, 0);
    for (place, group) in network.groups_of(index, input)?.into_iter().enumerate() {
        let within = |kept: &[usize], first: usize, count: usize| -> Vec<usize> {
            let own = kept.iter().filter(|&&channel| (first..first + count).contains(&channel));
            own.map(|channel| channel - first).collect()
        };
        let inputs = within(kept_inputs, first_input, group.inputs);
        let outputs = within(kept_outputs, first_output, group.outputs);
        let (whole, first_row) = if uneven {
            (weights.get(&format!("{name}.weight.{place}"))?, 0)
        } else {
            (weights.get(&format!("{name}.weight"))?, first_output)
        };
        let rows: Vec<usize> = outputs.iter().map(|row| row + first_row).collect();
        pieces.weights.push(whole.select(Axis(0), &rows).select(Axis(1), &inputs));
        pieces.groups.push(Group { inputs: inputs.len(), outputs: outputs.len() });
        first_input += group.inputs;
        first_output += group.outputs;
    }
    Ok(pieces)
}

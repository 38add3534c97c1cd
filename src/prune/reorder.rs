//! The order of a layer's nodes is free: its rows are the next layer's columns, and whoever permutes both changes
//! nothing that the network computes. So nodes that read the same inputs can be put into the same strip before
//! upright groups are chosen ([`super::upright`]), which then lose less.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array1, ArrayView2};

use super::compact::with_nodes;
use crate::error::{Error, Result};
use crate::network::{Network, Op, Weights};

/// The weights of a network whose layers' nodes stand in other orders: `orders` gives, by layer, the old place of
/// each node. Layers that it leaves out stay as they are. The network computes the same.
///
/// # Errors
/// Weights that are not the network's; an order that is no permutation of a layer's nodes, or that moves nodes
/// which cannot be moved (see [`movable`]).
pub fn reorder(
    network: &Network,
    weights: &Weights,
    orders: &BTreeMap<String, Vec<usize>>,
) -> Result<Weights> {
    weights.check(network)?;
    let shapes = network.shapes()?;
    let mut nodes: Vec<Vec<usize>> = shapes.iter().map(|shape| (0..shape[0]).collect()).collect();
    for (layer, order) in orders {
        let index = network.layers.iter().position(|own| own.name == *layer);
        let blocks = index.map(|index| movable(network, index)).transpose()?;
        let (Some(index), Some(blocks)) = (index, blocks) else {
            return Err(Error::argument("reorder nodes", "a layer of the network", layer.clone()));
        };
        let is_permuted = |block: &Range<usize>| {
            let mut own = order[block.clone()].to_vec();
            own.sort_unstable();
            own.into_iter().eq(block.clone())
        };
        let count = blocks.last().map_or(0, |block| block.end);
        if order.len() != count || !blocks.iter().all(is_permuted) {
            let expected = format!("a permutation of the nodes of {layer} that can be moved");
            return Err(Error::argument("reorder nodes", expected, format!("{order:?}")));
        }
        nodes[index].clone_from(order);
    }
    Ok(with_nodes(network, weights, &nodes, true, |dropout| dropout.clone())?.1)
}

/// The ranges of nodes of the layer at `index` within which they can change places: those that belong to one group
/// of its own outputs, and to one of the next layer's inputs. Every node alone where none can: the network's outputs,
/// which are classes, and what a response normalisation sees beside each other.
///
/// # Errors
/// Layers that contradict each other.
pub fn movable(network: &Network, index: usize) -> Result<Vec<Range<usize>>> {
    let shapes = network.shapes()?;
    let count = shapes[index][0];
    let mut ends: Vec<usize> = Vec::new();
    let mut cut = |sizes: &mut dyn Iterator<Item = usize>| {
        ends.extend(sizes.scan(0, |end, size| {
            *end += size;
            Some(*end)
        }));
    };
    let is_producer = |op: &Op| matches!(op, Op::Conv(_) | Op::Linear(_));
    if let Op::Conv(_) = network.layers[index].op {
        let groups = network.groups_of(index, network.input_of(index, &shapes))?;
        cut(&mut groups.iter().map(|group| group.outputs));
    }
    let after = index + 1..network.layers.len();
    let next = after.clone().find(|&next| is_producer(&network.layers[next].op));
    let between = index + 1..next.unwrap_or(after.end);
    let sees_neighbours =
        network.layers[between].iter().any(|own| matches!(own.op, Op::LocalResponseNorm(_)));
    match next {
        None => cut(&mut std::iter::repeat_n(1, count)),
        Some(_) if sees_neighbours => cut(&mut std::iter::repeat_n(1, count)),
        Some(next) if matches!(network.layers[next].op, Op::Conv(_)) => {
            let groups = network.groups_of(next, network.input_of(next, &shapes))?;
            cut(&mut groups.iter().map(|group| group.inputs));
        }
        Some(_) => {}
    }
    ends.extend([0, count]);
    ends.sort_unstable();
    ends.dedup();
    Ok(ends.windows(2).map(|pair| pair[0]..pair[1]).collect())
}

/// An order of the rows in `range` in which the upright groups of `height` that are left when `fraction` of them
/// goes hold much of the weights: strip by strip, it begins with the row of the largest weights and takes the row
/// that has most in the columns where the strip has most by then.
pub fn similar_rows(
    weights: ArrayView2<'_, f32>,
    range: Range<usize>,
    height: usize,
    fraction: f64,
) -> Vec<usize> {
    let squares = weights.mapv(|weight| weight * weight);
    let kept = ((1.0 - fraction) * weights.ncols() as f64).ceil() as usize;
    let mut left: Vec<usize> = range.collect();
    let mut order = Vec::with_capacity(left.len());
    let mut strip = vec![0.0_f32; weights.ncols()];
    let mut best = vec![1.0_f32; weights.ncols()];
    while !left.is_empty() {
        if order.len().is_multiple_of(height) {
            strip.fill(0.0);
            best.fill(1.0);
        }
        let gain = |row: usize| -> f32 {
            squares.row(row).iter().zip(&best).map(|(square, best)| square * best).sum()
        };
        let gains = left.iter().map(|&row| gain(row)).enumerate();
        let Some((place, _)) = gains.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        // Those that are left keep their order, so that equal rows stay as they were.
        let row = left.remove(place);
        strip.iter_mut().zip(squares.row(row)).for_each(|(sum, square)| *sum += square);
        let mut sums = strip.clone();
        let from = sums.len().saturating_sub(kept.max(1));
        if from < sums.len() {
            let (_, threshold, _) = sums.select_nth_unstable_by(from, f32::total_cmp);
            let threshold = *threshold;
            let held = strip.iter().map(|&sum| f32::from(u8::from(sum >= threshold)));
            best.iter_mut().zip(held).for_each(|(best, held)| *best = held);
        }
        order.push(row);
    }
    order
}

/// Products of weights that [`exchanged`] looks at in all before it stops: some seconds.
const MOST_PRODUCTS: usize = 4_000_000_000;

/// An order of rows, improved: as long as two rows in different strips of `height` are better exchanged, they are.
/// What counts is the squares of the weights in the upright groups that are left when `fraction` of all goes, which
/// are those above a threshold: so a strip is worth what its groups have beyond that.
pub fn exchanged(
    weights: ArrayView2<'_, f32>,
    mut order: Vec<usize>,
    height: usize,
    fraction: f64,
) -> Vec<usize> {
    let squares = weights.mapv(|weight| weight * weight);
    let strips = order.len() / height.max(1);
    let sum_of = |rows: &[usize]| {
        rows.iter().fold(Array1::<f32>::zeros(squares.ncols()), |sum, &row| sum + squares.row(row))
    };
    let mut sums: Vec<Array1<f32>> = order.chunks_exact(height.max(1)).map(sum_of).collect();
    let mut products = 0;
    loop {
        let threshold = kept_from(&sums, fraction);
        let worth = |sum: &Array1<f32>| -> f64 {
            sum.iter().map(|&sum| f64::from((sum - threshold).max(0.0))).sum()
        };
        let mut worths: Vec<f64> = sums.iter().map(worth).collect();
        let mut exchanges = 0;
        for first in 0..strips * height {
            for second in (first / height + 1) * height..strips * height {
                let [a, b] = [first / height, second / height];
                let difference = &squares.row(order[second]) - &squares.row(order[first]);
                let (sum_a, sum_b) = (&sums[a] + &difference, &sums[b] - &difference);
                let [worth_a, worth_b] = [worth(&sum_a), worth(&sum_b)];
                products += 4 * squares.ncols();
                // By more than sums are rounded.
                if worth_a + worth_b > (worths[a] + worths[b]) * (1.0 + 1e-6) {
                    order.swap(first, second);
                    (sums[a], sums[b]) = (sum_a, sum_b);
                    (worths[a], worths[b]) = (worth_a, worth_b);
                    exchanges += 1;
                }
                if products > MOST_PRODUCTS {
                    return order;
                }
            }
        }
        if exchanges == 0 {
            return order;
        }
    }
}

/// The least sum of squares of the groups that are left when `fraction` of all goes.
fn kept_from(strips: &[Array1<f32>], fraction: f64) -> f32 {
    let mut all: Vec<f32> = strips.iter().flatten().copied().collect();
    let removed = (fraction * all.len() as f64) as usize;
    if removed >= all.len() {
        return f32::INFINITY;
    }
    *all.select_nth_unstable_by(removed, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reference;
    use crate::network::{NodeMasks, zoo};
    use crate::prune::{apply, upright};
    use ndarray::{Array2, Array4, Axis};
    use rand::RngExt;
    use rand::seq::SliceRandom;

    #[test]
    fn a_network_of_reordered_nodes_computes_the_same() {
        for name in zoo::NAMES {
            let network = zoo::narrow(name).unwrap();
            let weights = Weights::random(&network, 3).unwrap();
            let mut rng = crate::seed::stream(1, "reorder", &[]);
            let (mut orders, mut moved) = (BTreeMap::new(), 0);
            for (index, layer) in network.layers.iter().enumerate() {
                if !matches!(layer.op, Op::Conv(_) | Op::Linear(_)) {
                    continue;
                }
                let mut order = Vec::new();
                for block in movable(&network, index).unwrap() {
                    moved += block.len().saturating_sub(1);
                    let mut own: Vec<usize> = block.collect();
                    own.shuffle(&mut rng);
                    order.extend(own);
                }
                orders.insert(layer.name.clone(), order);
            }
            assert!(moved > 0, "{name}");
            let reordered = reorder(&network, &weights, &orders).unwrap();
            assert_ne!(reordered, weights, "{name}");
            let [channels, height, width] = network.input;
            let image = Array4::from_shape_simple_fn((1, channels, height, width), || {
                rng.random_range(-1.0..1.0)
            });
            let run = |weights: &Weights| {
                reference::run(&network, weights, &NodeMasks::new(), image.view()).unwrap()
            };
            for (before, after) in run(&weights).iter().zip(run(&reordered).iter()) {
                approx::assert_relative_eq!(before, after, max_relative = 1e-5, epsilon = 1e-6);
            }
        }
    }

    #[test]
    fn orders_that_change_what_is_computed_are_refused() {
        let network = zoo::lenet_300_100();
        let weights = Weights::random(&network, 3).unwrap();
        let refused = |layer: &str, order: Vec<usize>| {
            reorder(&network, &weights, &BTreeMap::from([(layer.to_owned(), order)])).is_err()
        };
        assert!(!refused("ip2", (0..100).rev().collect()));
        assert!(refused("ip2", (0..99).collect()), "too few");
        assert!(refused("ip2", vec![0; 100]), "one node a hundred times");
        assert!(refused("ip3", (0..10).rev().collect()), "the classes");
        assert!(refused("ip4", vec![]), "no such layer");
    }

    #[test]
    fn rows_that_read_the_same_inputs_come_together() {
        // Rows read one half of the inputs or the other, in turns.
        let mut rng = crate::seed::stream(2, "reorder", &[]);
        let weights = Array2::from_shape_fn((32, 40), |(row, column)| {
            let reads = (row % 2 == 0) == (column < 20);
            if reads { rng.random_range(0.5..1.0_f32) } else { 0.0 }
        });
        let order = similar_rows(weights.view(), 0..32, 8, 0.5);
        assert!(order.chunks(8).all(|strip| strip.iter().all(|row| row % 2 == strip[0] % 2)));
        let ordered = weights.select(Axis(0), &order);
        let mask = upright::mask(ordered.view(), 8, 0.01).unwrap();
        assert_eq!(crate::prune::kept(&mask), 32 * 20, "nothing but zeros is removed");
        let mut whole = ordered.clone().into_dyn();
        apply("w", &mut whole, &mask).unwrap();
        assert_eq!(whole, ordered.into_dyn());
    }

    #[test]
    fn exchanging_rows_keeps_more_of_the_weights() {
        let mut rng = crate::seed::stream(3, "reorder", &[]);
        let weights = Array2::from_shape_simple_fn((43, 60), || rng.random_range(-1.0..1.0_f32));
        let kept = |order: &[usize]| -> f32 {
            let squares = weights.mapv(|weight| weight * weight);
            let strips = order.chunks_exact(8).map(|rows| squares.select(Axis(0), rows));
            let mut sums: Vec<f32> = strips.flat_map(|strip| strip.sum_axis(Axis(0))).collect();
            sums.sort_by(f32::total_cmp);
            sums[sums.len() * 9 / 10..].iter().sum()
        };
        let greedy = similar_rows(weights.view(), 0..43, 8, 0.9);
        let better = exchanged(weights.view(), greedy.clone(), 8, 0.9);
        assert!(kept(&better) > kept(&greedy), "{} {}", kept(&better), kept(&greedy));
        assert_eq!(better[40..], greedy[40..], "rows of no strip stay");
        let sorted = |mut order: Vec<usize>| {
            order.sort_unstable();
            order
        };
        assert_eq!(sorted(better.clone()), (0..43).collect::<Vec<_>>());
        assert_eq!(exchanged(weights.view(), better.clone(), 8, 0.9), better, "no better one");
        for fraction in [0.0, 1.0] {
            assert_eq!(sorted(exchanged(weights.view(), greedy.clone(), 8, fraction)).len(), 43);
        }
        let none = Array2::zeros((0, 5));
        assert!(exchanged(none.view(), Vec::new(), 8, 0.5).is_empty());
    }
}

//! Which weights a stage keeps at 0.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::ArrayView2;

use crate::error::Result;
use crate::network::{Network, NodeKind, Op, ParameterRole, Weights, as_matrix};
use crate::prune::{WeightMask, magnitude, random, reorder, simd, upright};
use crate::seed;
use crate::train::recipe::{Prune, Recipe, Stage, Unit};

/// The weight masks of stage `index`, by parameter, from the weights that it starts with: what its own
/// pruning removes, and, once a stage has removed weights, whatever is 0 by then.
pub(super) fn weight_masks(
    recipe: &Recipe,
    index: usize,
    network: &Network,
    start: &Weights,
) -> Result<BTreeMap<String, WeightMask>> {
    let prune = recipe.stages[index].prune.as_ref();
    let removes_weights = |prune: &Prune| !matches!(prune, Prune::Node { .. });
    let before = recipe.stages[..index].iter().filter_map(|stage| stage.prune.as_ref());
    let zeros_stay = before.into_iter().any(removes_weights);

    let layers = prunable(network, start)?;
    let upright = prune.and_then(|prune| UprightCut::new(prune, &layers));
    let mut masks = BTreeMap::new();
    for Prunable { place, name, layer, kind, weights } in layers {
        let of = |own: &BTreeMap<String, f64>, all: f64| own.get(layer).copied().unwrap_or(all);
        let mask = match prune {
            Some(Prune::Simd { width, threshold, unit, threshold_of, target })
                if target.includes(kind) =>
            {
                let scale = match unit {
                    Unit::Weight => 1.0,
                    Unit::LayerRms => living_rms(weights),
                };
                Some(simd::mask(weights, *width, scale * of(threshold_of, *threshold))?)
            }
            Some(Prune::Upright { target, .. }) if target.includes(kind) => {
                upright.as_ref().map(|cut| cut.mask(layer, weights)).transpose()?
            }
            Some(Prune::Magnitude { fraction, fraction_of }) => {
                Some(magnitude::per_layer(weights, of(fraction_of, *fraction))?)
            }
            Some(Prune::Random { width, fraction, fraction_of }) => {
                let place = [index as u64, place as u64];
                let seed = seed::number(recipe.seed, "random groups", &place) as u64;
                Some(random::further_groups(weights, *width, of(fraction_of, *fraction), seed)?)
            }
            _ if zeros_stay => Some(weights.mapv(|weight| weight != 0.0)),
            _ => None,
        };
        if let Some(mask) = mask {
            masks.insert(name, mask);
        }
    }
    Ok(masks)
}

/// The parameters that a stage prunes softly, so that what is gone of them learns, too, in its first epochs; each with
/// the mask of the groups of which something is left.
pub(super) fn pruned_softly(
    stage: &Stage,
    network: &Network,
    weights: &Weights,
) -> Result<BTreeMap<String, WeightMask>> {
    let Some(Prune::Upright { height, partial, target, soft_epochs: 1.., .. }) = stage.prune else {
        return Ok(BTreeMap::new());
    };
    let grouping = upright::Grouping { height, partial };
    let targeted = prunable(network, weights)?.into_iter().filter(|own| target.includes(own.kind));
    let mask =
        |own: Prunable<'_>| Ok((own.name, grouping.mask_where(own.weights, |rms| rms > 0.0)?));
    targeted.map(mask).collect()
}

/// The weights that a stage starts with: those that it is given, with their nodes in another order where it asks
/// for that.
pub(super) fn ordered(stage: &Stage, network: &Network, weights: Weights) -> Result<Weights> {
    let &Some(Prune::Upright { height, fraction, order: true, order_for, target, .. }) =
        &stage.prune
    else {
        return Ok(weights);
    };
    let order_of = |weights: ArrayView2<'_, f32>, block: Range<usize>| {
        let share = order_for.unwrap_or(fraction);
        let order = reorder::similar_rows(weights, block, height, share);
        match order_for {
            Some(share) => reorder::exchanged(weights, order, height, share),
            None => order,
        }
    };
    let mut orders = BTreeMap::new();
    for own in prunable(network, &weights)?.iter().filter(|own| target.includes(own.kind)) {
        let Some(index) = network.layers.iter().position(|layer| layer.name == own.layer) else {
            continue;
        };
        let blocks = reorder::movable(network, index)?;
        // Of a layer whose groups of channels are arrays of their own, none is ordered.
        if blocks.last().is_some_and(|block| block.end == own.weights.nrows()) {
            let order = blocks.into_iter().flat_map(|block| order_of(own.weights, block));
            orders.insert(own.layer.to_owned(), order.collect());
        }
    }
    reorder::reorder(network, &weights, &orders)
}

/// The weights of a layer that can be pruned.
struct Prunable<'a> {
    /// Its place among the network's parameters.
    place: usize,
    /// The parameter's name.
    name: String,
    layer: &'a str,
    kind: NodeKind,
    weights: ArrayView2<'a, f32>,
}

/// The weights of every convolution and dense layer.
fn prunable<'a>(network: &'a Network, start: &'a Weights) -> Result<Vec<Prunable<'a>>> {
    let mut all = Vec::new();
    for (place, parameter) in network.parameters()?.into_iter().enumerate() {
        let layer = &network.layers[parameter.layer];
        let kind = match layer.op {
            Op::Conv(_) => NodeKind::Conv,
            Op::Linear(_) => NodeKind::Ip,
            _ => continue,
        };
        if parameter.role == ParameterRole::Weight {
            let weights = as_matrix(&parameter.name, start.get(&parameter.name)?)?;
            all.push(Prunable { place, name: parameter.name, layer: &layer.name, kind, weights });
        }
    }
    Ok(all)
}

/// Where upright groups are cut: one threshold for all layers, in the layer's own unit.
struct UprightCut<'a> {
    groups: upright::Grouping,
    unit: Unit,
    factors: &'a BTreeMap<String, f64>,
    /// Groups of a scaled root mean square below it go.
    threshold: f64,
}

impl<'a> UprightCut<'a> {
    /// That which leaves just as many weights as the stage asks for, or less than a group fewer; none for a stage that
    /// prunes otherwise.
    fn new(prune: &'a Prune, layers: &[Prunable<'_>]) -> Option<Self> {
        let &Prune::Upright {
            height,
            fraction,
            unit,
            threshold_factor_of: ref factors,
            partial,
            target,
            ..
        } = prune
        else {
            return None;
        };
        let groups = upright::Grouping { height, partial };
        let mut cut = Self { groups, unit, factors, threshold: 0.0 };
        let mut all = Vec::new();
        for own in layers.iter().filter(|own| target.includes(own.kind)) {
            let scale = cut.scale(own.layer, own.weights);
            let groups = groups.root_mean_squares(own.weights);
            all.extend(groups.into_iter().map(|(rms, weights)| (rms / scale, weights)));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let weights: usize = layers.iter().map(|own| own.weights.len()).sum();
        let mut to_remove = fraction * weights as f64;
        // The first that stays.
        let stays = all.iter().find(|(_, weights)| {
            let goes = to_remove > 0.0;
            to_remove -= *weights as f64;
            !goes
        });
        cut.threshold = stays.map_or(f64::MAX, |&(rms, _)| rms);
        Some(cut)
    }

    /// What a layer's root mean squares are measured in.
    fn scale(&self, layer: &str, weights: ArrayView2<'_, f32>) -> f64 {
        let unit = match self.unit {
            Unit::Weight => 1.0,
            Unit::LayerRms => living_rms(weights),
        };
        unit * self.factors.get(layer).copied().unwrap_or(1.0)
    }

    fn mask(&self, layer: &str, weights: ArrayView2<'_, f32>) -> Result<WeightMask> {
        let scale = self.scale(layer, weights);
        self.groups.mask_where(weights, |rms| rms / scale >= self.threshold)
    }
}

/// The root mean square of the weights that are not 0; 1 where all are.
fn living_rms(weights: ArrayView2<'_, f32>) -> f64 {
    let living = weights.iter().filter(|&&weight| weight != 0.0);
    let (sum, count) = living.fold((0.0, 0_usize), |(sum, count), &weight| {
        (sum + f64::from(weight) * f64::from(weight), count + 1)
    });
    if count == 0 { 1.0 } else { (sum / count as f64).sqrt() }
}

#[cfg(test)]
mod tests;

//! Which weights a stage keeps at 0.

use std::collections::BTreeMap;

use ndarray::ArrayView2;

use super::recipe::{Prune, Recipe, Stage, Target, Unit};
use crate::error::Result;
use crate::network::{Network, NodeKind, Op, ParameterRole, Weights, as_matrix};
use crate::prune::{WeightMask, magnitude, random, reorder, simd, upright};
use crate::seed;

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

/// The weights that a stage starts with: those that it is given, with their nodes in another order where it asks
/// for that.
pub(super) fn ordered(stage: &Stage, network: &Network, weights: Weights) -> Result<Weights> {
    let Some(Prune::Upright { height, fraction, order: true, target, .. }) = &stage.prune else {
        return Ok(weights);
    };
    let mut orders = BTreeMap::new();
    for own in prunable(network, &weights)?.iter().filter(|own| target.includes(own.kind)) {
        let Some(index) = network.layers.iter().position(|layer| layer.name == own.layer) else {
            continue;
        };
        let blocks = reorder::movable(network, index)?;
        // Of a layer whose groups of channels are arrays of their own, none is ordered.
        if blocks.last().is_some_and(|block| block.end == own.weights.nrows()) {
            let order = blocks
                .into_iter()
                .flat_map(|block| reorder::similar_rows(own.weights, block, *height, *fraction));
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
    height: usize,
    unit: Unit,
    factors: &'a BTreeMap<String, f64>,
    /// Groups of a scaled root mean square below it go.
    threshold: f64,
}

impl<'a> UprightCut<'a> {
    /// That which leaves just as many weights as the stage asks for, or less than a group fewer; none for a stage that
    /// prunes otherwise.
    fn new(prune: &'a Prune, layers: &[Prunable<'_>]) -> Option<Self> {
        let Prune::Upright { height, fraction, unit, threshold_factor_of: factors, target, .. } =
            prune
        else {
            return None;
        };
        let mut cut = Self { height: *height, unit: *unit, factors, threshold: 0.0 };
        let mut all = Vec::new();
        for own in layers.iter().filter(|own| target.includes(own.kind)) {
            let scale = cut.scale(own.layer, own.weights);
            let groups = upright::root_mean_squares(own.weights, *height);
            all.extend(groups.into_iter().map(|rms| rms / scale));
        }
        all.sort_by(f64::total_cmp);
        let weights: usize = layers.iter().map(|own| own.weights.len()).sum();
        let removed = (fraction * weights as f64 / *height as f64).ceil() as usize;
        // The first that stays.
        cut.threshold = all.get(removed).copied().unwrap_or(f64::MAX);
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
        upright::mask_where(weights, self.height, |rms| rms / scale >= self.threshold)
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

/// The masks that a stage lets learn.
pub(super) fn node_target(prune: Option<&Prune>) -> Option<Target> {
    match prune {
        Some(Prune::Node { target, .. }) => Some(*target),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;
    use crate::prune::{self, kept};
    use crate::train::initial_weights;
    use crate::train::recipe::Technique;

    /// The share of each layer that the stages leave, one after another.
    fn shares(technique: Technique, stages: Vec<Option<Prune>>) -> Vec<BTreeMap<String, f64>> {
        let mut recipe = Recipe::built_in("lenet-5", Technique::NodePruning, None).unwrap();
        recipe.technique = technique;
        let stage = recipe.stages[0].clone();
        recipe.stages = stages
            .into_iter()
            .enumerate()
            .map(|(place, prune)| crate::train::recipe::Stage {
                name: format!("stage-{place}"),
                prune,
                ..stage.clone()
            })
            .collect();
        let network = zoo::lenet_5();
        let mut weights = initial_weights(&network, &recipe.initial, 1).unwrap();
        let mut shares = Vec::new();
        for index in 0..recipe.stages.len() {
            let masks = weight_masks(&recipe, index, &network, &weights).unwrap();
            for (name, array) in weights.iter_mut() {
                if let Some(mask) = masks.get(name) {
                    prune::apply(name, array, mask).unwrap();
                }
            }
            let share = |(name, mask): (&String, &WeightMask)| {
                (name.trim_end_matches(".weight").to_owned(), kept(mask) as f64 / mask.len() as f64)
            };
            shares.push(masks.iter().map(share).collect());
        }
        shares
    }

    #[test]
    fn each_layer_loses_its_own_share_and_zeros_stay() {
        let own = BTreeMap::from([("ip2".to_owned(), 0.5)]);
        let magnitude = Prune::Magnitude { fraction: 0.9, fraction_of: own };
        let [before, at, after] =
            &shares(Technique::MagnitudePruning, vec![None, Some(magnitude), None])[..]
        else {
            panic!("three stages")
        };
        assert!(before.is_empty());
        approx::assert_abs_diff_eq!(at["ip1"], 0.1, epsilon = 1e-3);
        approx::assert_abs_diff_eq!(at["ip2"], 0.5, epsilon = 1e-3);
        assert_eq!(at, after);
    }

    #[test]
    fn random_stages_go_on_from_what_is_gone() {
        let prune =
            |fraction| Some(Prune::Random { width: 8, fraction, fraction_of: BTreeMap::new() });
        let stages = shares(Technique::RandomPruning, vec![prune(0.5), prune(0.75)]);
        // Rows of 800: no partial group.
        approx::assert_abs_diff_eq!(stages[0]["ip1"], 0.5, epsilon = 1e-3);
        approx::assert_abs_diff_eq!(stages[1]["ip1"], 0.25, epsilon = 1e-3);
    }

    #[test]
    fn thresholds_in_units_of_a_layer_take_as_much_of_each() {
        // Layers whose uniform weights differ in size by five.
        let simd = |threshold| Prune::Simd {
            width: 8,
            threshold,
            unit: Unit::LayerRms,
            threshold_of: BTreeMap::new(),
            target: Target::Ip,
        };
        let stages = shares(Technique::SimdPruning, vec![Some(simd(1.0)), Some(simd(1.05))]);
        approx::assert_abs_diff_eq!(stages[0]["ip1"], 0.5, epsilon = 0.03);
        approx::assert_abs_diff_eq!(stages[0]["ip2"], 0.5, epsilon = 0.06);
        // The second stage measures by what the first one left, which is larger.
        assert!(stages[1]["ip1"] < 0.3, "{}", stages[1]["ip1"]);
    }

    #[test]
    fn groups_go_where_the_stage_targets_and_by_the_layers_threshold() {
        let simd = |target, own: &[(&str, f64)]| {
            let threshold_of = own.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect();
            let (width, threshold, unit) = (8, 10.0, Unit::Weight);
            Some(Prune::Simd { width, threshold, unit, threshold_of, target })
        };
        let stages = shares(
            Technique::SimdPruning,
            vec![simd(Target::Ip, &[("ip2", 1e-9)]), simd(Target::Conv, &[])],
        );
        assert_eq!(stages[0].keys().collect::<Vec<_>>(), ["ip1", "ip2"]);
        assert_eq!((stages[0]["ip1"], stages[0]["ip2"] > 0.9), (0.0, true));
        assert_eq!(stages[1].len(), 4, "the dense layers keep their zeros");
        assert_eq!(stages[1]["ip1"], 0.0);
        assert_eq!(stages[1]["conv2"], 4.0 / 500.0, "rows of 500 end in a partial group of 4");
    }

    #[test]
    fn upright_groups_go_from_all_layers_by_one_threshold_until_the_share_is_gone() {
        let upright = |fraction, factor: Option<f64>| {
            let threshold_factor_of = factor.map(|factor| ("ip1".to_owned(), factor));
            Some(Prune::Upright {
                height: 8,
                fraction,
                unit: Unit::Weight,
                threshold_factor_of: threshold_factor_of.into_iter().collect(),
                order: false,
                target: Target::All,
            })
        };
        let weights = BTreeMap::from([
            ("conv1", 20.0 * 25.0),
            ("conv2", 50.0 * 500.0),
            ("ip1", 500.0 * 800.0),
            ("ip2", 10.0 * 500.0),
        ]);
        let left = |shares: &BTreeMap<String, f64>| {
            let all: f64 = weights.values().sum();
            shares.iter().map(|(layer, share)| share * weights[layer.as_str()]).sum::<f64>() / all
        };
        let stages = vec![upright(0.5, None), upright(0.8, None), None];
        let stages = shares(Technique::UprightPruning, stages);
        approx::assert_abs_diff_eq!(left(&stages[0]), 0.5, epsilon = 1e-4);
        approx::assert_abs_diff_eq!(left(&stages[1]), 0.2, epsilon = 1e-4);
        assert_eq!(stages[1], stages[2], "zeros stay");
        // Random weights of a layer with few inputs are larger: fewer of its groups go.
        assert!(stages[0]["conv1"] > 0.9 && stages[0]["ip1"] < 0.5, "{:?}", stages[0]);
        let spared = &shares(Technique::UprightPruning, vec![upright(0.04, Some(0.01))])[0];
        assert_eq!(spared["ip1"], 1.0);
        approx::assert_abs_diff_eq!(left(spared), 0.96, epsilon = 1e-4);
    }

    #[test]
    fn a_stage_that_orders_nodes_changes_nothing_but_their_order() {
        let mut recipe = Recipe::built_in("lenet-5", Technique::UprightPruning, None).unwrap();
        let network = zoo::lenet_5();
        let weights = initial_weights(&network, &recipe.initial, 1).unwrap();
        let stage = &mut recipe.stages[1];
        assert_eq!(ordered(stage, &network, weights.clone()).unwrap(), weights);
        let Some(Prune::Upright { order, .. }) = &mut stage.prune else { panic!("upright") };
        *order = true;
        let moved = ordered(stage, &network, weights.clone()).unwrap();
        assert_ne!(moved, weights);
        let sorted = |weights: &Weights, name: &str| {
            let mut all: Vec<f32> = weights.get(name).unwrap().iter().copied().collect();
            all.sort_by(f32::total_cmp);
            all
        };
        for (name, _) in weights.iter() {
            assert_eq!(sorted(&weights, name), sorted(&moved, name), "{name}");
        }
    }
}

use super::*;
use crate::network::zoo;
use crate::prune::{self, kept};
use crate::train::initial_weights;
use crate::train::recipe::{Target, Technique};

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
    let prune = |fraction| Some(Prune::Random { width: 8, fraction, fraction_of: BTreeMap::new() });
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
            order_for: None,
            partial: false,
            soft_epochs: 0,
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
fn rows_that_are_left_over_go_where_a_stage_says_so_and_what_is_left_is_found_again() {
    let mut recipe = Recipe::built_in("lenet-5", Technique::UprightPruning, None).unwrap();
    let network = zoo::lenet_5();
    let mut weights = initial_weights(&network, &recipe.initial, 1).unwrap();
    let Some(Prune::Upright { partial, fraction, soft_epochs, .. }) = &mut recipe.stages[1].prune
    else {
        panic!("upright")
    };
    (*partial, *fraction, *soft_epochs) = (true, 0.9, 1);
    let masks = weight_masks(&recipe, 1, &network, &weights).unwrap();
    let [all, kept_weights] = [|mask: &WeightMask| mask.len(), |mask: &WeightMask| kept(mask)]
        .map(|count| masks.values().map(count).sum::<usize>());
    approx::assert_abs_diff_eq!(kept_weights as f64 / all as f64, 0.1, epsilon = 1e-4);
    // 500 rows are 62 strips of eight, and one of four.
    let last = masks["ip1.weight"].slice(ndarray::s![496.., ..]).into_owned();
    assert!((1..last.len() / 2).contains(&kept(&last)));
    assert!(last.columns().into_iter().all(|column| column.iter().all(|&own| own == column[0])));
    for (name, array) in weights.iter_mut() {
        if let Some(mask) = masks.get(name) {
            prune::apply(name, array, mask).unwrap();
        }
    }
    let stage = &recipe.stages[1];
    assert_eq!(pruned_softly(stage, &network, &weights).unwrap(), masks);
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
    let Some(Prune::Upright { order_for, .. }) = &mut stage.prune else { panic!("upright") };
    *order_for = Some(0.97);
    let exchanged = ordered(stage, &network, weights.clone()).unwrap();
    assert_ne!(exchanged, moved);
    let sorted = |weights: &Weights, name: &str| {
        let mut all: Vec<f32> = weights.get(name).unwrap().iter().copied().collect();
        all.sort_by(f32::total_cmp);
        all
    };
    for (name, _) in weights.iter() {
        assert_eq!(sorted(&weights, name), sorted(&moved, name), "{name}");
        assert_eq!(sorted(&weights, name), sorted(&exchanged, name), "{name}");
    }
}

//! The recipes that this program carries.

use super::{Precision, Recipe, Technique};
use crate::error::{Error, Result};

/// The recipes that this program carries, as text: those of `experiments/recipes`.
macro_rules! built_in {
    ($($network:literal: $($name:literal)+;)+) => {
        /// Network, name and text of each.
        const BUILT_IN: &[(&str, &str, &str)] = &[$($((
            $network,
            $name,
            include_str!(concat!("../../../experiments/recipes/", $network, "/", $name, ".toml")),
        ),)+)+];
    };
}

built_in! {
    "lenet-300-100":
        "node_pruning" "simd_pruning" "simd_pruning_lossless" "upright_pruning" "upright_pruning_ordered"
        "upright_pruning_refined" "upright_pruning_lossless" "upright_pruning_lossless_ordered" "combined_pruning" "magnitude_pruning"
        "random_pruning";
    "lenet-5":
        "node_pruning" "node_pruning_half_rate" "node_pruning_half_rate_short" "simd_pruning"
        "simd_pruning_high_rate" "simd_pruning_half_rate_short" "upright_pruning" "upright_pruning_high_rate"
        "upright_pruning_high_rate_ordered" "upright_pruning_high_rate_refined"
        "upright_pruning_half_rate_short_refined" "combined_pruning" "combined_pruning_all"
        "combined_pruning_half_rate_short" "magnitude_pruning" "magnitude_pruning_half_rate_short" "random_pruning"
        "random_pruning_half_rate_short";
    "convnet":
        "node_pruning" "node_pruning_short" "node_pruning_half_rate" "node_pruning_half_rate_short"
        "node_pruning_deep" "node_pruning_counts" "node_pruning_counts_average" "node_pruning_counts_decay"
        "simd_pruning" "simd_pruning_deep" "simd_pruning_short" "simd_pruning_short_deep" "simd_pruning_medium"
        "upright_pruning" "upright_pruning_ordered" "upright_pruning_medium_refined" "upright_pruning_medium_fast"
        "combined_pruning" "combined_pruning_all" "combined_pruning_counts" "magnitude_pruning"
        "magnitude_pruning_medium" "random_pruning" "random_pruning_medium";
    "nin":
        "node_pruning" "node_pruning_short" "node_pruning_medium" "node_pruning_gpu" "simd_pruning" "simd_pruning_short"
        "upright_pruning" "upright_pruning_short" "upright_pruning_short_ordered" "combined_pruning" "combined_pruning_short"
        "combined_pruning_short_one_stage" "combined_pruning_short_two_stages" "magnitude_pruning"
        "magnitude_pruning_short" "random_pruning" "random_pruning_short";
    "alexnet":
        "node_pruning" "simd_pruning" "upright_pruning" "combined_pruning" "combined_pruning_all"
        "magnitude_pruning" "random_pruning";
}

impl Recipe {
    /// The recipe that this program carries for a network and a technique. A technique may have
    /// variants beside the plain one, such as `lossless`.
    ///
    /// # Errors
    /// There is none.
    pub fn built_in(network: &str, technique: Technique, variant: Option<&str>) -> Result<Self> {
        let experiment = technique.experiment();
        let name =
            variant.map_or(experiment.to_owned(), |variant| format!("{experiment}_{variant}"));
        let found = BUILT_IN.iter().find(|(of, other, _)| *of == network && *other == name);
        let Some((.., text)) = found else {
            let expected =
                format!("one of {}, or a recipe of your own", names(technique).join(", "));
            return Err(Error::argument(
                format!("recipe for {experiment}"),
                expected,
                variant
                    .map_or(network.to_owned(), |variant| format!("{network} --variant {variant}")),
            ));
        };
        Self::parse(text, &format!("recipe {network}/{name}.toml"))
    }

    /// The recipes that this program carries: networks, techniques and variants.
    pub fn all_built_in() -> impl Iterator<Item = (&'static str, Technique, Option<&'static str>)> {
        BUILT_IN.iter().filter_map(|&(network, name, _)| {
            let technique =
                Technique::ALL.into_iter().find(|t| name.starts_with(t.experiment()))?;
            let variant = name.strip_prefix(technique.experiment())?.strip_prefix('_');
            Some((network, technique, variant))
        })
    }
}

impl Recipe {
    /// The variant, such as `short`, of the carried recipe that has this hash, in whatever precision it ran and,
    /// where there is one, from that original network; none for a plain one or one of a user's own.
    pub fn variant_of(
        network: &str,
        technique: Technique,
        hash: &str,
        original_weights: Option<&str>,
    ) -> Option<&'static str> {
        let all = Self::all_built_in().filter(|&(of, by, _)| of == network && by == technique);
        all.filter_map(|(.., variant)| variant).find(|&variant| {
            let recipe = Self::built_in(network, technique, Some(variant)).and_then(|recipe| {
                original_weights.map_or(Ok(recipe.full()), |of| recipe.full().from_original(of))
            });
            recipe.is_ok_and(|recipe| {
                let ran = |precision| Self { precision, ..recipe.clone() };
                Precision::ALL.iter().any(|&as_in| ran(as_in).hash() == hash)
            })
        })
    }
}

/// The networks, and variants, that have a recipe for a technique.
fn names(technique: Technique) -> Vec<String> {
    let of = Recipe::all_built_in().filter(|(_, other, _)| *other == technique);
    of.map(|(network, _, variant)| match variant {
        None => network.to_owned(),
        Some(variant) => format!("{network} --variant {variant}"),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;
    use crate::train::recipe::Keep;

    #[test]
    fn every_recipe_that_the_program_carries_is_sound_in_both_lengths() {
        let mut seen = 0;
        for (network, technique, variant) in Recipe::all_built_in() {
            let recipe = Recipe::built_in(network, technique, variant).unwrap();
            let name = format!("{network} {technique:?} {variant:?}");
            assert_eq!((recipe.network.as_str(), recipe.technique), (network, technique), "{name}");
            for recipe in [recipe.full(), recipe.quick()] {
                assert!(recipe.stages.iter().any(|stage| stage.prune.is_some()), "{name}");
                let again = Recipe::parse(&recipe.to_toml().unwrap(), &name).unwrap();
                assert_eq!(again.hash(), recipe.hash(), "{name}");
            }
            let compacts = |recipe: &Recipe| recipe.stages.iter().filter(|s| s.compact).count();
            match technique {
                Technique::CombinedPruning => assert_eq!(compacts(&recipe), 1, "{name}"),
                // Its retraining may be of the smaller network.
                Technique::NodePruning => assert!(compacts(&recipe) <= 1, "{name}"),
                _ => assert_eq!(compacts(&recipe), 0, "{name}"),
            }
            assert_eq!(compacts(&recipe.quick()), compacts(&recipe), "{name}");
            seen += 1;
        }
        assert_eq!(seen, BUILT_IN.len(), "each name is a technique's, with or without a variant");
        for network in zoo::NAMES {
            for technique in Technique::ALL {
                Recipe::built_in(network, technique, None).unwrap();
            }
        }
        let error =
            Recipe::built_in("lenet-5", Technique::CombinedPruning, Some("none")).unwrap_err();
        assert!(error.to_string().contains("lenet-5 --variant all"), "{error}");
    }

    #[test]
    fn hashes_are_those_under_which_results_lie() {
        for (network, technique, hash) in [
            ("lenet-300-100", Technique::NodePruning, "955272d8f030"),
            ("lenet-300-100", Technique::SimdPruning, "cf7fa6bca7ed"),
        ] {
            let recipe = Recipe::built_in(network, technique, None).unwrap();
            assert_eq!(recipe.full().hash(), hash, "{network}");
        }
    }

    #[test]
    fn variants_are_known_by_their_hash() {
        let of = |variant, precision| {
            let recipe = Recipe::built_in("convnet", Technique::SimdPruning, variant).unwrap();
            let hash = Recipe { seed: 7, precision, ..recipe.full() }.hash();
            Recipe::variant_of("convnet", Technique::SimdPruning, &hash, None)
        };
        for precision in Precision::ALL {
            let found = [Some("short"), None].map(|variant| of(variant, precision));
            assert_eq!(found, [Some("short"), None], "{precision:?}");
        }
        let (by, given) = (Technique::SimdPruning, "ab12");
        let recipe = Recipe::built_in("convnet", by, Some("short")).unwrap().full();
        let begun = recipe.from_original(given).unwrap();
        let found = |sha256| Recipe::variant_of("convnet", by, &begun.hash(), sha256);
        assert_eq!(
            [found(Some(given)), found(Some("cd34")), found(None)],
            [Some("short"), None, None]
        );
    }

    #[test]
    fn a_recipe_begins_with_an_original_instead_of_training_it() {
        let recipe = Recipe::built_in("convnet", Technique::SimdPruning, None).unwrap().full();
        let begun = recipe.from_original("ab12").unwrap();
        let again = Recipe::parse(&begun.to_toml().unwrap(), "recipe").unwrap();
        assert_eq!(again, begun);
        let last = recipe.stages.len() - 1;
        for other in [&recipe, &recipe.from_original("cd34").unwrap()] {
            assert_ne!(other.hash(), begun.hash());
            assert_ne!(other.stage_hash(last, "cifar-10"), begun.stage_hash(last, "cifar-10"));
        }
        // Neither without the other.
        for wrong in [
            Recipe { original_weights: Some("ab12".into()), ..recipe.clone() },
            Recipe { original_weights: None, ..begun },
        ] {
            let error = Recipe::parse(&wrong.to_toml().unwrap(), "recipe").unwrap_err().to_string();
            assert!(error.contains("stage original, epochs"), "{error}");
        }
        let pruning = Recipe { stages: recipe.stages[1..].to_vec(), ..recipe };
        let error = pruning.from_original("ab12").unwrap_err().to_string();
        assert!(error.contains("trains the original") && error.contains("simd-0 first"), "{error}");
    }

    #[test]
    fn what_a_recipe_gets_wrong_is_named() {
        let text = include_str!("../../../experiments/recipes/lenet-5/combined_pruning_all.toml");
        for (from, to, message) in [
            ("threshold = 0.04", "threshold = 0.0", "stage simd-0, prune"),
            (
                "threshold = 0.05",
                "threshold = 0.05, threshold_of = { ip9 = 0.1 }",
                "stage simd-1, prune",
            ),
            ("width = 8", "width = 0", "a width of at least 1"),
            ("penalty = 0.004", "penalty = -1.0", "stage node-1, penalty"),
            ("0.004", "0.004, stop_at = { conv3 = 9 }", "layers whose nodes this stage prunes"),
            ("0.004", "0.004, stop_at = { ip1 = 9 }", "layers whose nodes this stage prunes"),
            ("0.004", "0.004, stop_at = { conv2 = 51 }", "1 to 50 nodes for conv2"),
            ("0.004", "0.004, stop_at = { conv2 = 0 }", "1 to 50 nodes for conv2"),
            ("beta = { initial", "# { initial", "since a stage prunes nodes"),
            ("combined-pruning", "random-pruning", "what the recipe's technique prunes"),
            ("deviation = [0.3081]", "deviation = [0.0]", "pixels.deviation"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Recipe::parse(&text.replace(from, to), "recipe").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let early = text.replacen("epochs = 60\nprune", "epochs = 60\ncompact = true\nprune", 1);
        let error = Recipe::parse(&early, "recipe").unwrap_err().to_string();
        assert!(error.contains("stage node-0, prune") && error.contains("compact"), "{error}");
        let share = "{ random = { width = 8, fraction = 1.5 } }";
        let simd = "{ simd = { width = 8, threshold = 0.08 } }";
        let text = text.replace("combined-pruning", "random-pruning").replace(simd, share);
        assert!(Recipe::parse(&text, "recipe").is_err());
    }

    #[test]
    fn a_learning_rate_says_in_one_way_how_it_goes_on() {
        let text = include_str!("../../../experiments/recipes/lenet-5/simd_pruning.toml");
        for (to, message) in [
            ("", "either learning_rate_epochs or one_cycle, found neither"),
            ("learning_rate_epochs = 15\none_cycle = { warm_up = 0.3 }", "found both"),
            ("learning_rate_epochs = 0", "learning_rate_epochs: expected at least 1"),
            ("one_cycle = { warm_up = 1.0 }", "stage original, one_cycle"),
            (
                "learning_rate_epochs = 15\nweight_decay_factor = -1.0",
                "weight_decay_factor: expected 0 or more",
            ),
        ] {
            let text = text.replacen("learning_rate_epochs = 15", to, 1);
            let error = Recipe::parse(&text, "recipe").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let cycle = text.replacen("learning_rate_epochs = 15", "one_cycle = { warm_up = 0.3 }", 1);
        let cycle = Recipe::parse(&cycle, "recipe").unwrap();
        assert!(cycle.quick().stages[0].one_cycle.is_some());
        assert_eq!(Recipe::parse(&cycle.to_toml().unwrap(), "recipe").unwrap(), cycle);
    }

    #[test]
    fn what_upright_pruning_cannot_do_is_named_and_soft_epochs_are_shortened_with_the_others() {
        let text =
            include_str!("../../../experiments/recipes/lenet-300-100/upright_pruning_refined.toml");
        let with = |from: &str, to: &str| Recipe::parse(&text.replacen(from, to, 1), "recipe");
        for (from, to, message) in [
            ("order = true, ", "", "stage upright-0, order_for"),
            ("order_for = 0.921", "order_for = 1.5", "stage upright-0, prune"),
            ("partial = true", "partial = true, soft_epochs = 61", "stage upright-0, soft_epochs"),
        ] {
            let error = with(from, to).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let soft = with("partial = true", "partial = true, soft_epochs = 30").unwrap();
        let of_stage = |recipe: Recipe| (recipe.stages[1].soft_epochs(), recipe.stages[1].epochs);
        assert_eq!((of_stage(soft.full()), of_stage(soft.quick())), ((30, 60), (2, 4)));
    }

    #[test]
    fn an_average_of_what_cannot_be_averaged_is_refused_and_a_quick_one_begins_earlier() {
        let of = |network: &str| {
            Recipe::built_in(network, Technique::NodePruning, None).unwrap().to_toml().unwrap()
        };
        let average = |from: usize| format!("keep = {{ average = {{ from = {from} }} }}");
        let with = |text: &str, place: usize, keep: &str| {
            let mut stages: Vec<String> = text.split("[[stages]]").map(str::to_owned).collect();
            let keeps = stages[place + 1].lines().find(|line| line.starts_with("keep")).unwrap();
            stages[place + 1] = stages[place + 1].replace(keeps, keep);
            Recipe::parse(&stages.join("[[stages]]"), "recipe")
        };
        let lenet = of("lenet-300-100");
        for (text, place, from, message) in [
            (&lenet, 0, 61, "stage original, keep: expected an average from an epoch of the stage"),
            (&lenet, 0, 0, "stage original, keep: expected an average from an epoch of the stage"),
            (&lenet, 1, 9, "while masks of nodes learn"),
            (&of("alexnet"), 0, 9, "batch normalisation"),
        ] {
            let error = with(text, place, &average(from)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let recipe = with(&lenet, 0, &average(31)).unwrap();
        let [full, quick] = [&recipe, &recipe.quick()].map(|recipe| recipe.stages[0].clone());
        assert_eq!((full.epochs, full.keep.averaged(30), full.keep.averaged(33)), (60, 0, 3));
        assert_eq!((quick.epochs, quick.keep), (8, Keep::Average { from: 5 }));
    }

    #[test]
    fn a_learning_rate_of_a_parameters_own_makes_another_training() {
        let own = Recipe::built_in("nin", Technique::NodePruning, None).unwrap();
        let one = Recipe { learning_rate_factor_of: Default::default(), ..own.clone() };
        assert_eq!(own.learning_rate_factor_of.get("cccp6.bias"), Some(0.1));
        assert_ne!(own.stage_hash(0, "cifar-10"), one.stage_hash(0, "cifar-10"));
        assert!(!one.to_toml().unwrap().contains("factor"), "hashes of other recipes stay");
    }

    #[test]
    fn convnets_techniques_begin_with_the_stages_of_its_short_node_pruning() {
        let recipe = |technique, variant| Recipe::built_in("convnet", technique, variant).unwrap();
        let node = recipe(Technique::NodePruning, Some("half_rate_short"));
        for (technique, variant, shared) in [
            (Technique::NodePruning, Some("half_rate"), 1),
            (Technique::SimdPruning, None, 1),
            (Technique::SimdPruning, Some("deep"), 1),
            (Technique::MagnitudePruning, None, 1),
            (Technique::RandomPruning, None, 1),
            (Technique::CombinedPruning, None, 5),
            (Technique::CombinedPruning, Some("all"), 5),
        ] {
            let other = recipe(technique, variant);
            assert_eq!(other.stages[..shared], node.stages[..shared], "{technique:?} {variant:?}");
            assert_eq!(other.pixels, node.pixels, "{technique:?} {variant:?}");
        }
    }

    #[test]
    fn recipes_that_begin_alike_share_checkpoints() {
        use Technique::{
            CombinedPruning, MagnitudePruning, NodePruning, RandomPruning, SimdPruning,
            UprightPruning,
        };
        for (network, [one, other], last) in [
            ("nin", [(NodePruning, "short"), (SimdPruning, "short")], 0),
            ("nin", [(NodePruning, "short"), (MagnitudePruning, "short")], 0),
            ("nin", [(NodePruning, "short"), (RandomPruning, "short")], 0),
            ("nin", [(NodePruning, "short"), (CombinedPruning, "short")], 3),
            ("nin", [(NodePruning, "short"), (CombinedPruning, "short_one_stage")], 3),
            (
                "nin",
                [(CombinedPruning, "short_one_stage"), (CombinedPruning, "short_two_stages")],
                4,
            ),
            ("convnet", [(NodePruning, "deep"), (NodePruning, "counts")], 1),
            ("convnet", [(NodePruning, "counts"), (NodePruning, "counts_average")], 3),
            ("convnet", [(NodePruning, "counts"), (CombinedPruning, "counts")], 4),
            ("convnet", [(NodePruning, "counts"), (SimdPruning, "medium")], 0),
            ("convnet", [(NodePruning, "counts"), (UprightPruning, "medium_refined")], 0),
            ("convnet", [(NodePruning, "counts"), (UprightPruning, "medium_fast")], 0),
            ("convnet", [(NodePruning, "counts"), (MagnitudePruning, "medium")], 0),
            ("convnet", [(NodePruning, "counts"), (RandomPruning, "medium")], 0),
            ("lenet-5", [(NodePruning, "half_rate"), (NodePruning, "half_rate_short")], 0),
            (
                "lenet-5",
                [(NodePruning, "half_rate_short"), (CombinedPruning, "half_rate_short")],
                2,
            ),
            ("lenet-5", [(NodePruning, "half_rate_short"), (SimdPruning, "half_rate_short")], 0),
            (
                "lenet-5",
                [(NodePruning, "half_rate_short"), (UprightPruning, "half_rate_short_refined")],
                0,
            ),
            (
                "lenet-5",
                [(MagnitudePruning, "half_rate_short"), (RandomPruning, "half_rate_short")],
                0,
            ),
        ] {
            let [one, other] = [one, other].map(|(technique, variant)| {
                let recipe = Recipe::built_in(network, technique, Some(variant)).unwrap();
                recipe.full().stage_hash(last, &recipe.dataset)
            });
            assert_eq!(one, other, "{network}");
        }
    }
}

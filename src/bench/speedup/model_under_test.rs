//! The pruned models of a network whose speed is measured: published ones where they exist, else random
//! ones of the same sparsity.

use std::collections::BTreeMap;
use std::path::Path;

use super::densities::{Densities, layers};
use super::pruned_model::{GROUP_WIDTH, PrunedModel, published};
use crate::engine::Policy;
use crate::error::{Error, Result};
use crate::import::NetworkWeights;
use crate::network::{Network, NodeKind, NodeMasks, ParameterRole, Weights, as_matrix, zoo};
use crate::prune::compact::compact;
use crate::prune::{apply, magnitude, random, upright};
use crate::report::Authors;
use crate::train::recipe::{Prune, Recipe, Target, Technique};

/// The start of every random choice.
const SEED: u64 = 1;

/// A network and its pruned models.
#[derive(Clone, Debug)]
pub struct ModelUnderTest {
    /// The network, as nothing has been pruned.
    pub original: Network,
    /// Its weights, random: a dense product takes the same time with any.
    pub dense: Weights,
    /// Those of each policy with a technique of its own, at least one, the most accurate first.
    pub models: Vec<PrunedModel>,
}

/// The policies that have a technique of their own, and that technique.
const TECHNIQUES: [(Policy, Technique); 5] = [
    (Policy::Magnitude, Technique::MagnitudePruning),
    (Policy::Simd, Technique::SimdPruning),
    (Policy::Upright, Technique::UprightPruning),
    (Policy::Node, Technique::NodePruning),
    (Policy::Combined, Technique::CombinedPruning),
];

/// Percent of the test images that pruning may cost a model, for it to stand for Scalpel in a comparison of speed.
const LARGEST_LOSS: f64 = 1.0;

/// The policies whose techniques are Scalpel's own.
const SCALPELS_OWN: [Policy; 4] = [Policy::Simd, Policy::Upright, Policy::Node, Policy::Combined];

impl ModelUnderTest {
    /// The network of that name, with what is published in the folder `models`.
    ///
    /// # Errors
    /// A name that is not in the zoo; published models that are damaged; no densities for the network.
    pub fn open(name: &str, models: &Path) -> Result<Self> {
        let original = zoo::by_name(name)?;
        let dense = Weights::random(&original, SEED)?;
        let mut made = Vec::new();
        let mut densities = None;
        for (policy, technique) in TECHNIQUES {
            let published = published(name, policy, technique, models)?;
            if !published.is_empty() {
                made.extend(published);
                continue;
            }
            let densities = match &densities {
                Some(known) => known,
                None => densities.insert(Densities::of(&original, models)?),
            };
            made.push(drawn(&original, &dense, policy, densities)?);
        }
        Ok(Self { original, dense, models: made })
    }

    /// A network with the weights of a file, pruned or not, in the place of published ones. See
    /// [`NetworkWeights::read`] for `key`.
    ///
    /// # Errors
    /// A file that cannot be read, or is not of this network.
    pub fn of_file(original: &Network, file: &Path, key: Option<&str>) -> Result<Self> {
        let dense = Weights::random(original, SEED)?;
        let own = NetworkWeights::read(file, key, original)?;
        own.weights.check(&own.network)?;
        let models = vec![PrunedModel::given(own, file.display().to_string())?];
        Ok(Self { original: original.clone(), dense, models })
    }
}

impl ModelUnderTest {
    /// The original network as a model: what the dense policy runs.
    pub fn untouched(&self) -> PrunedModel {
        PrunedModel {
            policy: Policy::Dense,
            network: self.original.clone(),
            weights: self.dense.clone(),
            masks: NodeMasks::new(),
            group_width: GROUP_WIDTH,
            from: "random".into(),
            card: None,
        }
    }

    /// The models of Scalpel's own techniques of which the `scalpel` policy takes the fastest: those that lost no more
    /// than [`LARGEST_LOSS`], or all, where each lost more. What random weights would score is not known: they stand,
    /// but for upright groups, for which the paper has no densities either.
    pub(super) fn candidates(&self) -> Vec<&PrunedModel> {
        let stands = |model: &&PrunedModel| {
            let has_densities = model.policy != Policy::Upright || model.card.is_some();
            is_scalpels(model.policy) && has_densities
        };
        let all: Vec<&PrunedModel> = self.models.iter().filter(stands).collect();
        let loses_little = |model: &&PrunedModel| {
            let card = model.card.as_ref();
            card.is_none_or(|card| card.accuracy_before - card.accuracy <= LARGEST_LOSS)
        };
        let little: Vec<_> = all.iter().copied().filter(loses_little).collect();
        if little.is_empty() { all } else { little }
    }

    /// Whether a policy ran this model, by where its row says that its weights came from.
    pub fn ran(&self, model: &PrunedModel, policy: Policy, weights_from: &str) -> bool {
        match policy {
            Policy::Scalpel => model.from == weights_from && is_scalpels(model.policy),
            policy => model.is_for(policy),
        }
    }
}

/// Whether a model of that policy may stand for Scalpel.
fn is_scalpels(policy: Policy) -> bool {
    policy == Policy::Scalpel || SCALPELS_OWN.contains(&policy)
}

/// A random model of the sparsity that pruning for a policy comes to.
fn drawn(
    original: &Network,
    dense: &Weights,
    policy: Policy,
    densities: &Densities,
) -> Result<PrunedModel> {
    let (mut network, mut weights) = (original.clone(), dense.clone());
    let source = &densities.source;
    let mut from = format!("random, {source}");
    match policy {
        Policy::Node => {
            (network, weights) = compact(original, dense, &authors_masks(original)?)?;
            "random, nodes as the authors kept".clone_into(&mut from);
        }
        Policy::Combined => {
            (network, weights) = nodes_and_groups(original, dense, densities)?;
            from = format!("random, nodes as the authors kept, {source}");
        }
        Policy::Magnitude | Policy::Upright => {
            for (place, (layer, key)) in weight_names(&network)?.into_iter().enumerate() {
                let matrix = as_matrix(&key, weights.get(&key)?)?;
                let fraction = 1.0 - densities.share(&layer)?;
                let mask = match policy {
                    Policy::Magnitude => magnitude::per_layer(matrix, fraction)?,
                    _ => {
                        let seed = SEED + place as u64;
                        upright::random_mask(matrix.dim(), GROUP_WIDTH, fraction, seed)?
                    }
                };
                prune(&mut weights, &key, &mask)?;
            }
        }
        _ => {
            let share = |layer: &str, _: usize| densities.share(layer);
            prune_groups(&network, &mut weights, None, share)?;
        }
    }
    Ok(PrunedModel {
        policy,
        network,
        weights,
        masks: NodeMasks::new(),
        group_width: GROUP_WIDTH,
        from,
        card: None,
    })
}

/// What is left when nodes and groups go, of the layers that our recipe prunes them of: as many weights as groups
/// alone leave, as far as the nodes that are left have them.
fn nodes_and_groups(
    original: &Network,
    dense: &Weights,
    densities: &Densities,
) -> Result<(Network, Weights)> {
    let (nodes, groups) = targets(&original.name)?;
    let mut masks = authors_masks(original)?;
    let sites = original.mask_sites()?;
    masks.retain(|name, _| sites.iter().any(|site| site.name == *name && takes(nodes, site.kind)));
    let (network, mut weights) = compact(original, dense, &masks)?;
    let share = |layer: &str, own: usize| {
        let all: usize = original
            .parameters()?
            .iter()
            .filter(|p| p.name == format!("{layer}.weight"))
            .map(|p| p.len())
            .sum();
        Ok((densities.share(layer)? * all as f64 / own.max(1) as f64).min(1.0))
    };
    prune_groups(&network, &mut weights, Some(groups), share)?;
    Ok((network, weights))
}

/// The layers whose nodes, and those whose groups, our recipe for both techniques prunes.
fn targets(network: &str) -> Result<(Target, Target)> {
    let recipe = Recipe::built_in(network, Technique::CombinedPruning, None)?;
    let stages = || recipe.stages.iter().filter_map(|stage| stage.prune.as_ref());
    let nodes = stages().find_map(|prune| match prune {
        Prune::Node { target, .. } => Some(*target),
        _ => None,
    });
    let groups = stages().find_map(|prune| match prune {
        Prune::Simd { target, .. } => Some(*target),
        _ => None,
    });
    Ok((nodes.unwrap_or_default(), groups.unwrap_or_default()))
}

fn takes(target: Target, kind: NodeKind) -> bool {
    match target {
        Target::All => true,
        Target::Conv => kind == NodeKind::Conv,
        Target::Ip => kind == NodeKind::Ip,
    }
}

/// Which nodes live: as many as the authors kept, at random.
fn authors_masks(network: &Network) -> Result<NodeMasks> {
    let authors = Authors::published()?;
    let row = authors.node.iter().find(|row| row.network == network.name).ok_or_else(|| {
        Error::argument("nodes as the authors kept", "a network of theirs", network.name.clone())
    })?;
    let sites = network.mask_sites()?.into_iter().zip(&row.kept);
    let mask = |(place, (site, &kept)): (usize, (crate::network::MaskSite, &usize))| {
        let removed = 1.0 - kept as f64 / site.nodes as f64;
        Ok((site.name, random::nodes(site.nodes, removed, SEED + place as u64)?))
    };
    sites.enumerate().map(mask).collect()
}

/// The weight arrays of a network, with their layers.
fn weight_names(network: &Network) -> Result<Vec<(String, String)>> {
    let parameters = network.parameters()?.into_iter();
    let weights = parameters.filter(|parameter| parameter.role == ParameterRole::Weight);
    Ok(weights.map(|p| (network.layers[p.layer].name.clone(), p.name)).collect())
}

/// Removes groups at random, so that of each targeted layer the share is left that `share` says, given the
/// layer and its weights.
fn prune_groups(
    network: &Network,
    weights: &mut Weights,
    target: Option<Target>,
    share: impl Fn(&str, usize) -> Result<f64>,
) -> Result<()> {
    let kinds: BTreeMap<String, NodeKind> = layers(network).into_iter().collect();
    let names = weight_names(network)?;
    for (place, (layer, key)) in names.iter().enumerate() {
        if !target.is_none_or(|target| takes(target, kinds[layer])) {
            continue;
        }
        let of_layer = names.iter().filter(|(other, _)| other == layer);
        let mut own = 0;
        for (_, key) in of_layer {
            own += weights.get(key)?.len();
        }
        let dim = as_matrix(key, weights.get(key)?)?.dim();
        let fraction = 1.0 - share(layer, own)?;
        let mask = random::groups(dim, GROUP_WIDTH, fraction, SEED + place as u64)?;
        prune(weights, key, &mask)?;
    }
    Ok(())
}

fn prune(weights: &mut Weights, key: &str, mask: &crate::prune::WeightMask) -> Result<()> {
    match weights.iter_mut().find(|(name, _)| *name == key) {
        Some((_, array)) => apply(key, array, mask),
        None => Err(Error::malformed("weights", format!("an array {key}"), "none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoo_folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/zoo"))
    }

    #[test]
    fn published_models_are_taken_where_they_exist() {
        let under_test = ModelUnderTest::open("lenet-5", zoo_folder()).unwrap();
        let mut policies: Vec<_> = under_test.models.iter().map(|model| model.policy).collect();
        policies.dedup();
        assert_eq!(policies, TECHNIQUES.map(|(policy, _)| policy));
        let of_simd = || under_test.models.iter().filter(|model| model.policy == Policy::Simd);
        let accuracies: Vec<f64> =
            of_simd().map(|model| model.card.as_ref().unwrap().accuracy).collect();
        assert!(accuracies.len() > 1 && accuracies.is_sorted_by(|a, b| a >= b), "{accuracies:?}");
        let simd = of_simd().next().unwrap();
        assert!(simd.from.starts_with("zoo/lenet-5-simd-pruning"), "{}", simd.from);
        simd.weights.check(&simd.network).unwrap();
    }

    #[test]
    fn a_model_that_lost_much_stands_only_where_each_did() {
        let mut under_test = ModelUnderTest::open("lenet-5", zoo_folder()).unwrap();
        let all = under_test.models.iter().filter(|model| SCALPELS_OWN.contains(&model.policy));
        let all: Vec<Policy> = all.map(|model| model.policy).collect();
        assert!(all.len() > SCALPELS_OWN.len(), "several of a technique");
        let mut standing = |losses: [f64; 4]| {
            for (policy, loss) in SCALPELS_OWN.into_iter().zip(losses) {
                let models = under_test.models.iter_mut().filter(|model| model.policy == policy);
                for card in models.filter_map(|model| model.card.as_mut()) {
                    card.accuracy = card.accuracy_before - loss;
                }
            }
            let candidates = under_test.candidates().into_iter();
            candidates.map(|model| model.policy).collect::<Vec<_>>()
        };
        let little = [Policy::Simd, Policy::Node];
        let of_little: Vec<_> = all.iter().copied().filter(|own| little.contains(own)).collect();
        assert_eq!(standing([0.9, 1.1, -0.2, 3.0]), of_little);
        assert_eq!(standing([1.5, 1.1, 2.0, 3.0]), all);
    }

    #[test]
    fn random_models_have_the_sparsity_that_was_asked_for() {
        let under_test = ModelUnderTest::open("alexnet", Path::new("no such folder")).unwrap();
        let of = |policy| under_test.models.iter().find(|model| model.policy == policy).unwrap();
        let share = |model: &PrunedModel, key: &str| {
            let array = model.weights.get(key).unwrap();
            array.iter().filter(|&&w| w != 0.0).count() as f64 / array.len() as f64
        };
        for policy in [Policy::Simd, Policy::Magnitude] {
            let model = of(policy);
            assert!(model.from.contains("Han et al."), "{}", model.from);
            for (key, expected) in [("conv1.weight", 0.84), ("ip6.weight", 0.09)] {
                let found = share(model, key);
                assert!((found - expected).abs() < 0.01, "{policy:?} {key}: {found}");
            }
        }
        let node = of(Policy::Node);
        let ip6 = node.weights.get("ip6.weight").unwrap();
        assert_eq!(ip6.shape()[0], 3001);
        // Of millions of random weights, one or two are 0 by themselves.
        assert!(share(node, "ip6.weight") > 0.999_999);
        // Both: nodes of the convolutions, groups of the dense layers, of which as many weights are left
        // as without nodes.
        let both = of(Policy::Combined);
        assert!(share(both, "conv3.weight") > 0.999_99);
        assert_eq!(both.weights.get("conv3.weight").unwrap().shape()[0], 233);
        let ip6 = both.weights.get("ip6.weight").unwrap();
        let left = share(both, "ip6.weight") * ip6.len() as f64;
        assert!((left / (4096.0 * 9216.0) - 0.09).abs() < 0.002, "{left}");
        let candidates = under_test.candidates().into_iter();
        let candidates: Vec<_> = candidates.map(|model| model.policy).collect();
        assert_eq!(candidates, [Policy::Simd, Policy::Node, Policy::Combined], "accuracy unknown");
    }

    #[test]
    fn a_network_of_unknown_densities_is_refused_with_what_to_do() {
        for name in ["convnet", "nin", "lenet-5"] {
            let error =
                ModelUnderTest::open(name, Path::new("no such folder")).unwrap_err().to_string();
            assert!(error.contains("run simd_pruning on"), "{error}");
        }
    }
}

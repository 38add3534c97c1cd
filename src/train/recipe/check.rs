//! What a recipe may not say.

use std::collections::BTreeMap;

use super::per_parameter::matches;
use super::{Beta, Keep, OneCycle, Prune, Recipe, Stage, Target};
use crate::error::{Error, Result};
use crate::network::{Network, Op};

impl Recipe {
    /// Refuses a recipe that contradicts itself.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let refused = |(field, expected, found): Complaint| {
            Error::malformed(format!("{name}, {field}"), expected, found)
        };
        let network = self.original_network()?;
        if let Some(own) = &self.description {
            let expected = "the name of the network that it describes";
            require(own.name == self.network, "network", expected, &self.network)
                .map_err(refused)?;
            own.check_description()?;
        }
        self.check_numbers(&network)?.map_err(refused)?;
        require(!self.stages.is_empty(), "stages", "at least one", &"none").map_err(refused)?;
        for index in 0..self.stages.len() {
            self.check_stage(index, &network).map_err(|(field, expected, found)| {
                refused((format!("stage {}, {field}", self.stages[index].name), expected, found))
            })?;
        }
        Ok(())
    }

    /// What holds for all stages.
    fn check_numbers(&self, network: &Network) -> Result<Result<(), Complaint>> {
        let parameters = network.parameters()?;
        let known =
            |pattern: &str| parameters.iter().any(|parameter| matches(pattern, &parameter.name));
        let all = || {
            require(self.batch_size > 0, "batch_size", "at least 1", &self.batch_size)?;
            let momentum = finite(self.momentum) && self.momentum < 1.0;
            require(momentum, "momentum", "0 to below 1", &self.momentum)?;
            require(finite(self.weight_decay), "weight_decay", "0 or more", &self.weight_decay)?;
            for (field, numbers) in [
                ("weight_decay_of", &self.weight_decay_of),
                ("learning_rate_factor_of", &self.learning_rate_factor_of),
            ] {
                for (pattern, number) in numbers.iter() {
                    let expected =
                        "0 or more for a parameter of the network, or for all of a kind (*.bias)";
                    let found = format!("{pattern} = {number}");
                    require(known(pattern) && finite(number), field, expected, &found)?;
                }
            }
            let pixels = self.pixels.check(network.input[0]);
            pixels.map_err(|(field, expected, found)| (format!("pixels.{field}"), expected, found))
        };
        Ok(all())
    }

    fn check_stage(&self, index: usize, network: &Network) -> Result<(), Complaint> {
        let stage = &self.stages[index];
        let fresh = self.stages[..index].iter().all(|other| other.name != stage.name);
        require(fresh, "name", "a name of its own", &stage.name)?;
        // What is trained already is not trained again, and only that.
        let is_given = index == 0 && self.original_weights.is_some();
        let expected = if is_given { "0, beside original_weights" } else { "at least 1" };
        require(is_given == (stage.epochs == 0), "epochs", expected, &stage.epochs)?;
        let found = format!("{:?}", stage.prune);
        let none = !is_given || stage.prune.is_none();
        require(none, "prune", "none, beside original_weights", &found)?;
        check_rates(stage)?;
        let soft = stage.soft_epochs();
        require(soft <= stage.epochs, "soft_epochs", "no more than the stage's epochs", &soft)?;
        check_average(stage, network)?;
        let Some(prune) = &stage.prune else { return Ok(()) };
        let found = format!("{prune:?} in {}", self.technique.experiment());
        let allowed = self.technique.allows(prune);
        require(allowed, "prune", "what the recipe's technique prunes", &found)?;
        // A compacted network has no masks: such a stage would train and prune nothing.
        let masks_are_gone = self.stages[..=index].iter().any(|stage| stage.compact);
        require(
            !(masks_are_gone && matches!(prune, Prune::Node { .. })),
            "prune",
            "node pruning before the stage that removes nodes for good (compact)",
            &"it after that stage",
        )?;
        self.check_prune(prune, network)
    }
}

/// Refuses a learning rate or a weight decay that is none, and a rate that does not say how it goes on.
fn check_rates(stage: &Stage) -> Result<(), Complaint> {
    let Stage { learning_rate: rate, learning_rate_epochs: falls, one_cycle, .. } = *stage;
    require(finite(rate), "learning_rate", "0 or more", &rate)?;
    if let Some(factor) = stage.weight_decay_factor {
        require(finite(factor), "weight_decay_factor", "0 or more", &factor)?;
    }
    let expected = "either learning_rate_epochs or one_cycle";
    let found = if falls.is_some() { "both" } else { "neither" };
    require(falls.is_some() != one_cycle.is_some(), "learning_rate", expected, &found)?;
    if let Some(falls) = falls {
        require(falls > 0, "learning_rate_epochs", "at least 1", &falls)?;
    }
    if let Some(OneCycle { warm_up }) = one_cycle {
        let is_share = (0.0..1.0).contains(&warm_up);
        require(is_share, "one_cycle", "a warm_up of 0 or more and less than 1", &warm_up)?;
    }
    Ok(())
}

/// Refuses a mean of weights that is none of a network's: masks that learn or change are no numbers to be averaged, and
/// the statistics of a batch normalisation are those of one network.
fn check_average(stage: &Stage, network: &Network) -> Result<(), Complaint> {
    let Keep::Average { from } = stage.keep else { return Ok(()) };
    let expected = format!(
        "an average from an epoch of the stage on, after its {} soft ones",
        stage.soft_epochs()
    );
    let within = (stage.soft_epochs() + 1..=stage.epochs).contains(&from);
    require(within, "keep", &expected, &from)?;
    let prunes_nodes = matches!(stage.prune, Some(Prune::Node { .. }));
    require(!prunes_nodes, "keep", "no average while masks of nodes learn", &"one")?;
    let normalises = network.layers.iter().any(|layer| matches!(layer.op, Op::BatchNorm(_)));
    require(!normalises, "keep", "no average in a network with batch normalisation", &"one")
}

fn finite(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

fn require(
    holds: bool,
    field: &str,
    expected: &str,
    found: &dyn std::fmt::Display,
) -> Result<(), Complaint> {
    if holds { Ok(()) } else { Err((field.to_owned(), expected.to_owned(), found.to_string())) }
}

/// A field, what it should be and what it is.
type Complaint = (String, String, String);

impl Recipe {
    /// What is wrong with a stage's pruning.
    fn check_prune(&self, prune: &Prune, network: &Network) -> Result<(), Complaint> {
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let shares = "shares between 0 and 1, of layers of the network";
        let positive = |number: f64| number > 0.0 && number.is_finite();
        match prune {
            Prune::Node { target, penalty, stop_at } => {
                self.check_node_pruning(*penalty)?;
                stops_of_masks(network, *target, stop_at)
            }
            Prune::Simd { width, threshold, threshold_of, .. } => {
                let expected = "thresholds above 0, of layers of the network";
                of_layers(network, Some(*threshold), threshold_of, positive, expected)?;
                whole(*width)
            }
            Prune::Upright { height, fraction, threshold_factor_of, order, order_for, .. } => {
                let expected = "threshold factors above 0, of layers of the network";
                of_layers(network, None, threshold_factor_of, positive, expected)?;
                of_layers(network, Some(*fraction), &BTreeMap::new(), share, shares)?;
                of_layers(network, *order_for, &BTreeMap::new(), share, shares)?;
                let is_used = *order || order_for.is_none();
                require(is_used, "order_for", "order = true beside it", &"order = false")?;
                whole(*height)
            }
            Prune::Magnitude { fraction, fraction_of } => {
                of_layers(network, Some(*fraction), fraction_of, share, shares)
            }
            Prune::Random { width, fraction, fraction_of } => {
                of_layers(network, Some(*fraction), fraction_of, share, shares)?;
                whole(*width)
            }
        }
    }

    /// What is wrong with the pruning of nodes by such a penalty.
    fn check_node_pruning(&self, penalty: f64) -> Result<(), Complaint> {
        require(finite(penalty), "penalty", "0 or more", &penalty)?;
        let sound = |beta: &Beta| finite(beta.initial) && beta.limit >= beta.initial;
        let expected = "the recipe's beta, with its initial value and a limit of at least that, since a stage prunes \
                        nodes";
        let found = format!("beta {:?}", self.beta);
        require(self.beta.as_ref().is_some_and(sound), "prune", expected, &found)
    }
}

/// Refuses a number for all layers, or one for single layers, that is not sound, and layers that are not there.
fn of_layers(
    network: &Network,
    all: Option<f64>,
    single: &BTreeMap<String, f64>,
    sound: impl Fn(f64) -> bool,
    expected: &str,
) -> Result<(), Complaint> {
    let known = |layer: &String| network.layers.iter().any(|other| other.name == *layer);
    let holds = all.is_none_or(&sound) && single.iter().all(|(name, &of)| known(name) && sound(of));
    let found = all.map_or_else(|| format!("{single:?}"), |all| format!("{all}, {single:?}"));
    require(holds, "prune", expected, &found)
}

/// Refuses numbers of nodes at which pruning stops, of layers whose nodes it does not prune or which have no more.
fn stops_of_masks(
    network: &Network,
    target: Target,
    stop_at: &BTreeMap<String, usize>,
) -> Result<(), Complaint> {
    let sites = network.mask_sites().unwrap_or_default();
    let nodes_of = |layer: &String| {
        let site = sites.iter().find(|site| network.layers[site.producer].name == *layer)?;
        target.includes(site.kind).then_some(site.nodes)
    };
    for (layer, stop) in stop_at {
        let expected = match nodes_of(layer) {
            Some(nodes) if (1..=nodes).contains(stop) => continue,
            Some(nodes) => format!("1 to {nodes} nodes for {layer}"),
            None => "layers whose nodes this stage prunes".to_owned(),
        };
        require(false, "stop_at", &expected, &format!("{layer} = {stop}"))?;
    }
    Ok(())
}

/// Refuses groups of no weights.
fn whole(width: usize) -> Result<(), Complaint> {
    require(width > 0, "prune", "a width of at least 1", &width)
}

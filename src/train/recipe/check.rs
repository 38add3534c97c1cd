//! What a recipe may not say.

use std::collections::BTreeMap;

use super::per_parameter::matches;
use super::{Beta, Prune, Recipe};
use crate::error::{Error, Result};
use crate::network::{Network, zoo};

impl Recipe {
    /// Refuses a recipe that contradicts itself.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let require = |holds: bool, field: &str, expected: &str, found: String| {
            if holds {
                Ok(())
            } else {
                Err(Error::malformed(format!("{name}, {field}"), expected, found))
            }
        };
        let finite = |value: f64| value.is_finite() && value >= 0.0;
        let network = zoo::by_name(&self.network)?;
        require(self.batch_size > 0, "batch_size", "at least 1", self.batch_size.to_string())?;
        require(
            finite(self.momentum) && self.momentum < 1.0,
            "momentum",
            "0 to below 1",
            self.momentum.to_string(),
        )?;
        require(
            finite(self.weight_decay),
            "weight_decay",
            "0 or more",
            self.weight_decay.to_string(),
        )?;
        let parameters = network.parameters()?;
        for (field, numbers) in [
            ("weight_decay_of", &self.weight_decay_of),
            ("learning_rate_factor_of", &self.learning_rate_factor_of),
        ] {
            for (pattern, number) in numbers.iter() {
                let known = parameters.iter().any(|p| matches(pattern, &p.name));
                require(
                    known && finite(number),
                    field,
                    "0 or more for a parameter of the network, or for all of a kind (*.bias)",
                    format!("{pattern} = {number}"),
                )?;
            }
        }
        if let Err((field, expected, found)) = self.pixels.check(network.input[0]) {
            require(false, &format!("pixels.{field}"), &expected, found)?;
        }
        require(!self.stages.is_empty(), "stages", "at least one", "none".into())?;
        for (index, stage) in self.stages.iter().enumerate() {
            let field = |part: &str| format!("stage {}, {part}", stage.name);
            let fresh = self.stages[..index].iter().all(|other| other.name != stage.name);
            require(fresh, &field("name"), "a name of its own", stage.name.clone())?;
            // What is trained already is not trained again, and only that.
            let is_given = index == 0 && self.original_weights.is_some();
            let expected = if is_given { "0, beside original_weights" } else { "at least 1" };
            let sound = is_given == (stage.epochs == 0);
            require(sound, &field("epochs"), expected, stage.epochs.to_string())?;
            require(
                !is_given || stage.prune.is_none(),
                &field("prune"),
                "none, beside original_weights",
                format!("{:?}", stage.prune),
            )?;
            require(
                stage.learning_rate_epochs > 0,
                &field("learning_rate_epochs"),
                "at least 1",
                "0".into(),
            )?;
            require(
                finite(stage.learning_rate),
                &field("learning_rate"),
                "0 or more",
                stage.learning_rate.to_string(),
            )?;
            let Some(prune) = &stage.prune else { continue };
            require(
                self.technique.allows(prune),
                &field("prune"),
                "what the recipe's technique prunes",
                format!("{prune:?} in {}", self.technique.experiment()),
            )?;
            // A compacted network has no masks: such a stage would train and prune nothing.
            let masks_are_gone = self.stages[..=index].iter().any(|stage| stage.compact);
            require(
                !(masks_are_gone && matches!(prune, Prune::Node { .. })),
                &field("prune"),
                "node pruning before the stage that removes nodes for good (compact)",
                "it after that stage".into(),
            )?;
            self.check_prune(prune, &network).or_else(|(part, expected, found)| {
                require(false, &field(part), &expected, found)
            })?;
        }
        Ok(())
    }
}

/// A field, what it should be and what it is.
type Complaint = (&'static str, String, String);

impl Recipe {
    /// What is wrong with a stage's pruning.
    fn check_prune(&self, prune: &Prune, network: &Network) -> Result<(), Complaint> {
        let known = |layer: &String| network.layers.iter().any(|other| other.name == *layer);
        let shares = |fraction: f64, fraction_of: &BTreeMap<String, f64>| {
            let sound = |share: f64| (0.0..=1.0).contains(&share);
            if !sound(fraction) || !fraction_of.iter().all(|(name, &of)| known(name) && sound(of)) {
                let expected = "shares between 0 and 1, of layers of the network";
                return Err(("prune", expected.into(), format!("{fraction}, {fraction_of:?}")));
            }
            Ok(())
        };
        let whole = |width: usize| match width {
            0 => Err(("prune", "a width of at least 1".to_owned(), "0".to_owned())),
            _ => Ok(()),
        };
        match prune {
            Prune::Node { penalty, .. } => {
                if !(*penalty >= 0.0 && penalty.is_finite()) {
                    return Err(("penalty", "0 or more".into(), penalty.to_string()));
                }
                let starts = |beta: &Beta| beta.initial.is_finite() && beta.initial >= 0.0;
                let sound = |beta: &Beta| starts(beta) && beta.limit >= beta.initial;
                if !self.beta.as_ref().is_some_and(sound) {
                    let expected = "the recipe's beta, with its initial value and a limit of at \
                                    least that, since a stage prunes nodes";
                    return Err(("prune", expected.into(), format!("beta {:?}", self.beta)));
                }
                Ok(())
            }
            Prune::Simd { width, threshold, threshold_of, .. } => {
                let sound = |threshold: f64| threshold > 0.0 && threshold.is_finite();
                if !sound(*threshold)
                    || !threshold_of.iter().all(|(name, &of)| known(name) && sound(of))
                {
                    let expected = "thresholds above 0, of layers of the network";
                    return Err((
                        "prune",
                        expected.into(),
                        format!("{threshold}, {threshold_of:?}"),
                    ));
                }
                whole(*width)
            }
            Prune::Magnitude { fraction, fraction_of } => shares(*fraction, fraction_of),
            Prune::Random { width, fraction, fraction_of } => {
                shares(*fraction, fraction_of)?;
                whole(*width)
            }
        }
    }
}

//! The masks of node pruning as tensors: what `prune::node` says of one mask, for all of them, on
//! any device and without synchronising with it.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::recipe::{Beta, Target};
use crate::error::{Error, Result};
use crate::network::{Dropout, MaskSite, Network, Op, ShrinkLaw, Weights};
use crate::prune::node::{OFF_BELOW, ON_ABOVE};
use crate::torch::{Tensors, to_array, to_tensor};

/// The masks of one network, each with its `alpha` and `beta`, `[1, nodes]`.
#[derive(Debug)]
pub struct StraightThroughMasks {
    masks: Vec<Mask>,
    limit: f64,
}

#[derive(Debug)]
struct Mask {
    site: MaskSite,
    alpha: Tensor,
    beta: Tensor,
    /// Whether the current stage lets `beta` learn.
    learns: bool,
    /// Where the current stage prunes this mask no further once few enough nodes live.
    stop: Option<Stop>,
}

/// When a mask is done, and what it then keeps.
#[derive(Debug)]
struct Stop {
    /// It is done when at most so many nodes live.
    at: usize,
    /// `beta` when the mask was last looked at.
    held: Tensor,
}

/// What a stage does with the masks.
#[derive(Clone, Copy, Debug)]
pub struct NodeStage<'a> {
    /// The masks whose `beta` learns.
    pub target: Target,
    /// The nodes at which masks are pruned no further, by their layers' names.
    pub stop_at: &'a BTreeMap<String, usize>,
}

impl StraightThroughMasks {
    /// The masks as `weights` hold them. Where they hold none: all nodes alive at the initial `beta`
    /// if this stage prunes nodes, else no masks at all.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn new(
        network: &Network,
        weights: &Weights,
        beta: Option<&Beta>,
        stage: Option<NodeStage<'_>>,
        device: Device,
    ) -> Result<Self> {
        let mut masks = Vec::new();
        for site in network.mask_sites()? {
            let stored = |part: &str| weights.find(&format!("{}.{part}", site.name));
            let full = |value: f64| {
                let made = Tensor::f_full([1, site.nodes as i64], value, (Kind::Float, device));
                made.map_err(Error::torch("make a mask"))
            };
            let start = match (stored("alpha"), stored("beta"), beta) {
                (Some(alpha), Some(beta), _) => {
                    Some((to_tensor(alpha, device)?, to_tensor(beta, device)?))
                }
                (Some(alpha), None, Some(beta)) => {
                    Some((to_tensor(alpha, device)?, full(beta.initial)?))
                }
                (None, _, Some(beta)) if stage.is_some() => Some((full(1.0)?, full(beta.initial)?)),
                _ => None,
            };
            if let Some((alpha, beta)) = start {
                let stage = stage.filter(|stage| stage.target.includes(site.kind));
                let layer = &network.layers[site.producer].name;
                let stop = match stage.and_then(|stage| stage.stop_at.get(layer)) {
                    Some(&at) => Some(Stop { at, held: copy(&beta)? }),
                    None => None,
                };
                let learns = stage.is_some();
                masks.push(Mask {
                    site,
                    alpha,
                    beta: beta.set_requires_grad(learns),
                    learns,
                    stop,
                });
            }
        }
        Ok(Self { masks, limit: beta.map_or(f64::INFINITY, |beta| beta.limit) })
    }

    /// Clamps every `beta` and lets every `alpha` follow, as the authors do before each forward pass. A mask that has
    /// come to where its stage stops keeps both.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn update(&mut self) -> Result<()> {
        let limit = self.limit;
        let follow = |mask: &mut Mask| -> Result<(), tch::TchError> {
            let mut beta = mask.beta.f_clamp_(0.0, limit)?;
            if let Some(Stop { at, held }) = &mut mask.stop {
                let done = mask.alpha.f_sum(Kind::Float)?.f_le(*at as f64)?;
                beta.f_copy_(&held.f_where_self(&done, &beta)?)?;
                held.f_copy_(&beta)?;
            }
            let on = beta.f_gt(f64::from(ON_ABOVE))?;
            let stays = beta.f_ge(f64::from(OFF_BELOW))?;
            // On, or as it was where it is not off: max(on, alpha * stays).
            mask.alpha = mask.alpha.f_mul(&stays)?.f_maximum(&on.f_to_kind(Kind::Float)?)?;
            Ok(())
        };
        let mut all = || self.masks.iter_mut().try_for_each(follow);
        tch::no_grad(&mut all).map_err(Error::torch("update the masks"))
    }

    /// What a forward pass multiplies the nodes by: `alpha` in value; where `beta` learns, with the
    /// gradient of `beta`.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn tensors(&self) -> Result<Tensors> {
        let mask_tensor = |mask: &Mask| {
            if !mask.learns {
                return Ok(mask.alpha.shallow_clone());
            }
            mask.alpha.f_add(&mask.beta.f_sub(&mask.beta.f_detach()?)?)
        };
        let named = |mask: &Mask| Ok((mask.site.name.clone(), mask_tensor(mask)?));
        self.masks
            .iter()
            .map(named)
            .collect::<Result<_, _>>()
            .map_err(Error::torch("make the tensors of the masks"))
    }

    /// The `beta` tensors that learn, by name.
    pub fn learning(&mut self) -> impl Iterator<Item = (String, &mut Tensor)> {
        let learning = self.masks.iter_mut().filter(|mask| mask.learns);
        learning.map(|mask| (format!("{}.beta", mask.site.name), &mut mask.beta))
    }

    /// Puts the masks among the weights, under the authors' names.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn store(&self, weights: &mut Weights) -> Result<()> {
        for mask in &self.masks {
            weights.insert(format!("{}.alpha", mask.site.name), to_array(&mask.alpha)?);
            weights.insert(format!("{}.beta", mask.site.name), to_array(&mask.beta)?);
        }
        Ok(())
    }

    /// The rates of the dropout layers that shrink with a mask, on the device: nothing waits for it.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn dropout_rates(&self, network: &Network) -> Result<Tensors> {
        let mut rates = Tensors::new();
        for layer in &network.layers {
            let Op::Dropout(Dropout { p, shrink: Some(shrink) }) = &layer.op else { continue };
            if let Some(mask) = self.masks.iter().find(|mask| mask.site.name == shrink.mask) {
                let kept = mask.alpha.f_mean(Kind::Float);
                let rate = kept.and_then(|kept| match shrink.law {
                    ShrinkLaw::Linear => kept.f_mul_scalar(*p),
                    ShrinkLaw::SquareRoot => kept.f_sqrt()?.f_mul_scalar(*p),
                });
                rates.insert(layer.name.clone(), rate.map_err(Error::torch("count living nodes"))?);
            }
        }
        Ok(rates)
    }
}

/// A tensor of its own memory, without gradients.
fn copy(tensor: &Tensor) -> Result<Tensor> {
    let copied = tensor.f_detach().and_then(|detached| {
        let mut memory = detached.f_zeros_like()?;
        memory.f_copy_(&detached)?;
        Ok(memory)
    });
    copied.map_err(Error::torch("copy a mask"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::zoo;
    use crate::prune::node;
    use ndarray::ArrayD;
    use rand::RngExt;

    const BETA: Beta = Beta { initial: 0.8002, limit: 0.802 };

    /// LeNet-300-100's masks with these values in the first.
    fn gates_with(alpha: &[f32], beta: &[f32]) -> StraightThroughMasks {
        let network = zoo::lenet_300_100();
        let mut weights = Weights::default();
        let row = |values: &[f32]| {
            let mut values = values.to_vec();
            values.resize(300, 1.0);
            ArrayD::from_shape_vec(ndarray::IxDyn(&[1, 300]), values).unwrap()
        };
        weights.insert("mask_ip1.alpha", row(alpha));
        weights.insert("mask_ip1.beta", row(beta));
        let stop_at = BTreeMap::new();
        let stage = NodeStage { target: Target::All, stop_at: &stop_at };
        StraightThroughMasks::new(&network, &weights, Some(&BETA), Some(stage), Device::Cpu)
            .unwrap()
    }

    #[test]
    fn tensors_follow_beta_as_the_pure_function_does() {
        let mut rng = crate::seed::stream(1, "test", &[]);
        let before: Vec<f32> =
            (0..300).map(|_| f32::from(u8::from(rng.random::<bool>()))).collect();
        let beta: Vec<f32> = (0..300)
            .map(|node| match node % 4 {
                0 => rng.random_range(-0.1..0.9),
                1 => OFF_BELOW,
                2 => ON_ABOVE,
                _ => rng.random_range(0.7999..0.8002),
            })
            .collect();
        let mut mask_tensors = gates_with(&before, &beta);
        mask_tensors.update().unwrap();

        let mut alive: Vec<bool> = before.iter().map(|&alpha| alpha == 1.0).collect();
        let mut clamped = beta;
        node::clamp(&mut clamped, 0.802);
        node::update(&mut alive, &clamped);

        let mut weights = Weights::default();
        mask_tensors.store(&mut weights).unwrap();
        let stored: Vec<bool> =
            weights.get("mask_ip1.alpha").unwrap().iter().map(|&alpha| alpha == 1.0).collect();
        assert_eq!(stored, alive);
        let stored: Vec<f32> = weights.get("mask_ip1.beta").unwrap().iter().copied().collect();
        assert_eq!(stored, clamped);
    }

    #[test]
    fn a_mask_stops_where_its_stage_says_as_the_pure_function_does() {
        let network = zoo::lenet_300_100();
        let stop_at = BTreeMap::from([("ip1".to_owned(), 290)]);
        let stage = NodeStage { target: Target::All, stop_at: &stop_at };
        let make = |weights: &Weights| {
            StraightThroughMasks::new(&network, weights, Some(&BETA), Some(stage), Device::Cpu)
                .unwrap()
        };
        let mut masks = make(&Weights::default());
        let (mut alive, mut held) = (vec![true; 300], vec![0.8002_f32; 300]);
        let mut counts = Vec::new();
        for gone in [4, 9, 12, 0, 20] {
            // The first `gone` nodes are pulled below the threshold, the others above it.
            let mut beta: Vec<f32> =
                (0..300).map(|node| if node < gone { 0.79 } else { 0.8015 }).collect();
            for (name, own) in masks.learning() {
                if name == "mask_ip1.beta" {
                    tch::no_grad(|| own.copy_(&Tensor::from_slice(&beta).view([1, 300])));
                }
            }
            masks.update().unwrap();
            node::update_until(&mut alive, &mut beta, &mut held, 290);
            let mut weights = Weights::default();
            masks.store(&mut weights).unwrap();
            let stored = |part: &str| -> Vec<f32> {
                weights.get(&format!("mask_ip1.{part}")).unwrap().iter().copied().collect()
            };
            let flags: Vec<bool> = stored("alpha").iter().map(|&alpha| alpha == 1.0).collect();
            assert_eq!((&flags, stored("beta")), (&alive, beta));
            counts.push(node::count(&flags));
            // A run that was stopped goes on with these.
            masks = make(&weights);
        }
        assert_eq!(counts, [296, 291, 288, 288, 288], "it stops below 290, and nothing comes back");
    }

    #[test]
    fn the_gradients_are_those_of_the_pure_function() {
        let mask_tensors = gates_with(&[1.0, 0.0], &[0.81, 0.79]);
        let x = Tensor::from_slice(&[1.0_f32, 2.0, -3.0, 4.0]).view([2, 2]).set_requires_grad(true);
        let grad_y = Tensor::from_slice(&[0.5_f32, -1.0, 2.0, 0.25]).view([2, 2]);
        let mask_tensor = mask_tensors.tensors().unwrap()["mask_ip1"].narrow(1, 0, 2);
        let y = &x * mask_tensor;
        assert_eq!(Vec::<f32>::try_from(y.view(-1)).unwrap(), [1.0, 0.0, -3.0, 0.0]);
        (&y * grad_y).sum(Kind::Float).backward();

        for (node, alive) in [(0, true), (1, false)] {
            let column = |values: [f32; 4]| [values[node], values[node + 2]];
            let (grad_x, grad_beta) = node::gradients(
                alive,
                &column([1.0, 2.0, -3.0, 4.0]),
                &column([0.5, -1.0, 2.0, 0.25]),
            );
            let column = Vec::<f32>::try_from(x.grad().select(1, node as i64)).unwrap();
            assert_eq!(column, grad_x);
            assert_eq!(
                mask_tensors.masks[0].beta.grad().double_value(&[0, node as i64]) as f32,
                grad_beta
            );
        }
    }

    #[test]
    fn dropout_shrinks_with_its_mask_by_the_networks_law() {
        for (network, mask, layer) in
            [(zoo::nin(), "mask_cccp2", "dropout1"), (zoo::alexnet(), "mask_ip6", "dropout6")]
        {
            let site = network.mask_sites().unwrap().into_iter().find(|site| site.name == mask);
            let nodes = site.unwrap().nodes;
            let alpha: Vec<f32> =
                (0..nodes).map(|node| f32::from(u8::from(node % 4 == 0))).collect();
            let mut weights = Weights::default();
            let row = ndarray::IxDyn(&[1, nodes]);
            weights.insert(format!("{mask}.alpha"), ArrayD::from_shape_vec(row, alpha).unwrap());
            let mask_tensors =
                StraightThroughMasks::new(&network, &weights, Some(&BETA), None, Device::Cpu)
                    .unwrap();
            let rates = mask_tensors.dropout_rates(&network).unwrap();
            let place = network.layers.iter().position(|other| other.name == layer).unwrap();
            let Op::Dropout(dropout) = &network.layers[place].op else { panic!("{layer}") };
            let rate = rates[layer].double_value(&[]);
            approx::assert_abs_diff_eq!(rate, dropout.rate(0.25), epsilon = 1e-6);
            assert_eq!(rates.len(), 1);
        }
    }

    #[test]
    fn only_targeted_masks_learn_and_a_plain_stage_has_none() {
        let network = zoo::lenet_5();
        let stop_at = BTreeMap::new();
        let fresh = |target: Option<Target>| {
            StraightThroughMasks::new(
                &network,
                &Weights::default(),
                Some(&BETA),
                target.map(|target| NodeStage { target, stop_at: &stop_at }),
                Device::Cpu,
            )
            .unwrap()
        };
        let names = |target| fresh(target).learning().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(Some(Target::Conv)), ["mask_conv1.beta", "mask_conv2.beta"]);
        assert_eq!(names(Some(Target::Ip)), ["mask_ip1.beta"]);
        assert!(fresh(None).tensors().unwrap().is_empty());
    }
}

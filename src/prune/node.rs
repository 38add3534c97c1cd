//! Node pruning (the paper's section 3.3): whole neurons or channels are removed, so that what is
//! left is a smaller dense network.
//!
//! Each node has a trained `beta` and a flag `alpha`, 1 where the node lives. `beta` drifts down
//! under a penalty unless the loss holds it up; the flag follows it with hysteresis, so that a node
//! near the threshold does not flicker. The gradient of `beta` is that of `beta * x` at `beta` = 1
//! (straight-through), so a blocked node can come back.
//!
//! The functions here say what happens to one mask; `train` does the same on tensors.

/// A `beta` above this switches its node on.
pub const ON_ABOVE: f32 = 0.8001;

/// A `beta` below this switches its node off.
pub const OFF_BELOW: f32 = 0.8;

/// `beta` as a forward pass sees it: within 0 and `limit`.
pub fn clamp(beta: &mut [f32], limit: f32) {
    for beta in beta {
        *beta = beta.clamp(0.0, limit);
    }
}

/// Lets the flags follow `beta`: on above [`ON_ABOVE`], off below [`OFF_BELOW`], as they were in
/// between.
pub fn update(alive: &mut [bool], beta: &[f32]) {
    for (alive, &beta) in alive.iter_mut().zip(beta) {
        *alive = beta > ON_ABOVE || (*alive && beta >= OFF_BELOW);
    }
}

/// As [`update`], until at most `stop_at` nodes live: from then on the mask stays as it is, `beta` at what it was
/// when the mask was last looked at, `held`.
pub fn update_until(alive: &mut [bool], beta: &mut [f32], held: &mut [f32], stop_at: usize) {
    if count(alive) <= stop_at {
        beta.copy_from_slice(held);
    } else {
        held.copy_from_slice(beta);
        update(alive, beta);
    }
}

/// The gradients that a mask passes on, for one node: that of its input, `alpha * grad_y`, and that
/// of `beta`, the sum of `grad_y * x`. `x` and `grad_y` run over the batch and the pixels.
pub fn gradients(alive: bool, x: &[f32], grad_y: &[f32]) -> (Vec<f32>, f32) {
    let alpha = f32::from(u8::from(alive));
    let grad_x = grad_y.iter().map(|grad| alpha * grad).collect();
    (grad_x, x.iter().zip(grad_y).map(|(x, grad)| x * grad).sum())
}

/// How many nodes live.
pub fn count(alive: &[bool]) -> usize {
    alive.iter().filter(|&&alive| alive).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn between_the_thresholds_a_node_stays_as_it_was(
            nodes in prop::collection::vec((any::<bool>(), 0.7999..0.8002_f32), 1..50),
        ) {
            let (before, beta): (Vec<bool>, Vec<f32>) = nodes.into_iter().unzip();
            let mut after = before.clone();
            update(&mut after, &beta);
            for ((before, after), beta) in before.into_iter().zip(after.iter().copied()).zip(&beta) {
                let expected = match beta {
                    beta if *beta > ON_ABOVE => true,
                    beta if *beta < OFF_BELOW => false,
                    _ => before,
                };
                prop_assert_eq!(after, expected, "beta {}", beta);
            }
            let mut again = after.clone();
            update(&mut again, &beta);
            prop_assert_eq!(again, after, "a second look must change nothing");
        }

        #[test]
        fn the_gradient_of_beta_is_the_slope_of_the_gate_where_it_is_one(
            pairs in prop::collection::vec((-2.0..2.0_f32, -2.0..2.0_f32), 1..20),
        ) {
            // The smooth surrogate: y = beta * x at beta = 1, a loss linear in y.
            let (x, grad_y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let loss = |beta: f64| -> f64 {
                x.iter().zip(&grad_y).map(|(&x, &g)| beta * f64::from(x) * f64::from(g)).sum()
            };
            let step = 1e-3;
            let slope = (loss(1.0 + step) - loss(1.0 - step)) / (2.0 * step);
            for alive in [true, false] {
                let (grad_x, grad_beta) = gradients(alive, &x, &grad_y);
                prop_assert!((f64::from(grad_beta) - slope).abs() <= 1e-4 * (1.0 + slope.abs()));
                let blocked = vec![0.0; x.len()];
                prop_assert_eq!(grad_x, if alive { grad_y.clone() } else { blocked });
            }
        }

        #[test]
        fn a_mask_that_stops_is_updated_until_enough_nodes_are_gone(
            steps in prop::collection::vec(prop::collection::vec(0.7998..0.8003_f32, 12), 1..8),
            stop_at in 0..14_usize,
        ) {
            let (mut alive, mut held) = (vec![true; 12], vec![0.8002; 12]);
            let mut free = alive.clone();
            for step in steps {
                let (before, was_held) = (alive.clone(), held.clone());
                let mut beta = step.clone();
                update_until(&mut alive, &mut beta, &mut held, stop_at);
                update(&mut free, &step);
                if count(&before) <= stop_at {
                    prop_assert_eq!((&alive, &beta), (&before, &was_held));
                } else {
                    prop_assert_eq!((&alive, &beta), (&free, &step));
                }
                prop_assert_eq!(&held, &beta);
            }
        }

        #[test]
        fn a_clamped_beta_is_within_its_limits(beta in prop::collection::vec(-2.0..2.0_f32, 1..20)) {
            let mut clamped = beta.clone();
            clamp(&mut clamped, 0.802);
            for (before, after) in beta.into_iter().zip(clamped) {
                prop_assert!((0.0..=0.802).contains(&after));
                prop_assert!(after == before || !(0.0..=0.802).contains(&before));
            }
        }
    }

    #[test]
    fn the_thresholds_are_apart() {
        const { assert!(OFF_BELOW < ON_ABOVE) };
        let mut alive = [true, true, false];
        update(&mut alive, &[0.8002, 0.8, 0.80005]);
        assert_eq!(alive, [true, true, false]);
        update(&mut alive, &[0.79, 0.79, 0.81]);
        assert_eq!(alive, [false, false, true]);
        assert_eq!(count(&alive), 1);
    }
}

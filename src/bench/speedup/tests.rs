use super::*;
use crate::network::zoo;

fn lenet(seed: u64) -> PrunedModel {
    let network = zoo::lenet_300_100();
    PrunedModel {
        policy: Policy::Dense,
        weights: Weights::random(&network, seed).unwrap(),
        network,
        masks: NodeMasks::new(),
        group_width: 8,
        from: "random".into(),
        card: None,
    }
}

#[test]
fn a_network_that_computes_something_else_is_not_timed() {
    let PrunedModel { network, weights, masks, .. } = lenet(1);
    let request = Request { batch: 2, policy: Policy::Dense, ..Request::new(&network, &weights) };
    let device = crate::engine::Device::Cpu;
    let mut executable =
        compile(&request, device, &mut AutotuneCache::in_memory().untimed()).unwrap();
    verify(&mut executable, &network, &weights, &masks, 2, 1).unwrap();
    // One bias of the last layer more: one class of ten scores otherwise.
    let mut other = weights.clone();
    let mut bias = weights.get("ip3.bias").unwrap().clone();
    bias[7] += 0.5;
    other.insert("ip3.bias", bias);
    let error = verify(&mut executable, &network, &other, &masks, 2, 1).unwrap_err();
    assert!(error.to_string().contains("libtorch's score"), "{error}");
}

#[test]
fn candidates_are_timed_in_turns_each_by_its_own_calls() {
    let model = lenet(1);
    let make = |policy| {
        let request = Request { policy, ..Request::new(&model.network, &model.weights) };
        let device = crate::engine::Device::Cpu;
        let executable =
            compile(&request, device, &mut AutotuneCache::in_memory().untimed()).unwrap();
        ours(policy, &model, executable)
    };
    // Dense weights in compressed rows: about twice the bytes, and slower for it.
    let mut candidates = [make(Policy::Dense), make(Policy::Magnitude)];
    assert!(candidates[1].bytes > candidates[0].bytes);
    let (timings, scaling) = time_in_turns(&mut candidates, 1, None).unwrap();
    assert_eq!(scaling, None, "without a probe");
    assert!(timings[1].median > timings[0].median, "{timings:?}");
    assert!(timings.iter().all(|timing| timing.low <= timing.median), "{timings:?}");
    let probe = Probe::new().unwrap();
    let (timings, scaling) = time_in_turns(&mut candidates[..1], 2, Some(&probe)).unwrap();
    assert_eq!(timings.len(), 1, "of the candidates alone");
    assert!(scaling.is_some_and(|scaling| scaling > 0.0), "{scaling:?}");
}

#[test]
fn images_are_the_same_on_each_call_and_others_for_another_batch() {
    let network = zoo::lenet_5();
    assert_eq!(images(&network, 3), images(&network, 3));
    assert_eq!(images(&network, 3).shape(), [3, 1, 28, 28]);
    assert_ne!(images(&network, 2).iter().next(), images(&network, 3).iter().next());
}

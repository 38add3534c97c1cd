use super::*;
use crate::network::{Weights, zoo};

/// The image steps of a network, and the buffers that they use.
fn built(name: &str) -> (Vec<ImageStep>, Vec<Planned>) {
    let network = zoo::narrow(name).unwrap();
    let weights = Weights::random(&network, 1).unwrap();
    built_by(&Plan::of(&network, &weights).unwrap())
}

/// The image steps of a plan, of dense weights; the floats that each of their buffers needs for an image; and those of
/// what comes of one.
pub(crate) fn image_steps(plan: &Plan<'_>) -> (Vec<ImageStep>, Vec<usize>, usize) {
    let (steps, buffers) = built_by(plan);
    let of_images = plan.steps.iter().take_while(|step| !matches!(step.work, Work::Linear(_)));
    let end = of_images.last().map_or(0, |step| step.output.iter().product());
    (steps, buffers.iter().map(|buffer| buffer.floats).collect(), end)
}

fn built_by(plan: &Plan<'_>) -> (Vec<ImageStep>, Vec<Planned>) {
    let (mut autotune, spinning) =
        (AutotuneCache::in_memory().untimed(), SpinningWorkers::default());
    let formats = [Format::Dense];
    let mut builder =
        Builder::new(plan, &formats, 1, DenseLibraries::default(), &mut autotune, &spinning);
    let first_dense = |step: &Step<'_>| matches!(step.work, Work::Linear(_));
    let end = plan.steps.iter().position(first_dense).unwrap_or(plan.steps.len());
    let steps = builder.image_steps(&plan.steps[..end]).unwrap();
    (steps, builder.buffers)
}

#[test]
fn every_step_reads_what_the_one_before_it_wrote_and_none_writes_what_it_reads() {
    for name in zoo::NAMES {
        let (steps, buffers) = built(name);
        let Some(first) = steps.first() else { continue };
        assert_eq!(first.from, Place::Image, "{name}");
        assert_eq!(steps.last().unwrap().to, Place::End, "{name}");
        for pair in steps.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{name}: {}", pair[1].about.layer);
        }
        for step in &steps {
            assert_ne!(step.from, step.to, "{name}: {}", step.about.layer);
            if let Place::Buffer(place) = step.to {
                assert!(place < buffers.len(), "{name}: {}", step.about.layer);
            }
        }
    }
}

#[test]
fn zeros_around_an_image_are_written_by_nobody() {
    let mut bordered_seen = 0;
    for name in zoo::NAMES {
        let (steps, buffers) = built(name);
        for (place, buffer) in buffers.iter().enumerate().filter(|(_, own)| own.bordered) {
            let writes = steps.iter().filter(|step| step.to == Place::Buffer(place)).count();
            let splits = steps.iter().filter(|step| {
                matches!(&step.work, ImageWork::Conv { split: Some(own), .. } if *own == place)
            });
            // Of its own: one step writes it, at the image's places alone, or splits an image into it.
            assert_eq!(writes + splits.count(), 1, "{name}: buffer {place} of {buffer:?}");
            bordered_seen += 1;
        }
    }
    assert!(bordered_seen > 5, "{bordered_seen}");
}

#[test]
fn plain_values_take_turns_in_two_buffers() {
    // LeNet-5 has no padding: its maps are plain, whatever their number.
    let (steps, buffers) = built("lenet-5");
    assert!(buffers.iter().all(|buffer| !buffer.bordered), "{buffers:?}");
    assert_eq!((steps.len(), buffers.len()), (4, 2), "{buffers:?}");
}

use super::*;
use crate::device::replay::MOST_RECORDED;
use crate::kernels::gpu::devices;

/// Copies between two buffers: what a step does is seen in the bytes that arrive.
#[test]
fn recorded_steps_run_when_they_are_replayed_and_in_order() {
    for gpu in devices() {
        let [a, b, c] = [1.0_f32, 2.0, 3.0].map(|value| upload(gpu, &[value; 8]).unwrap());
        let first = gpu.prepare_copy(&a, &b, 32).unwrap();
        let second = gpu.prepare_copy(&b, &c, 16).unwrap();
        let both = gpu
            .record(&mut || {
                gpu.enqueue(&first)?;
                gpu.enqueue(&second)
            })
            .unwrap();
        let values = |buffer| download(gpu, buffer, 8).unwrap();
        assert_eq!(values(&c), [3.0; 8], "{}: recording ran it", gpu.name());
        gpu.enqueue(&both).unwrap();
        let expected = [1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0];
        assert_eq!(values(&c), expected, "{}", gpu.name());
        // Again, after what it reads has changed.
        gpu.write(&a, bytemuck::cast_slice(&[7.0_f32; 8])).unwrap();
        gpu.enqueue(&both).unwrap();
        assert_eq!(values(&c)[..4], [7.0; 4], "{}", gpu.name());
        // A recording may be part of another one.
        let twice = gpu.record(&mut || gpu.enqueue(&both)).unwrap();
        gpu.write(&a, bytemuck::cast_slice(&[9.0_f32; 8])).unwrap();
        gpu.enqueue(&twice).unwrap();
        assert_eq!(values(&c)[..4], [9.0; 4], "{}", gpu.name());
    }
}

#[test]
fn what_cannot_be_recorded_is_refused_and_leaves_the_device_as_it_was() {
    for gpu in devices() {
        let (a, b) = (upload(gpu, &[1.0_f32]).unwrap(), upload(gpu, &[2.0_f32]).unwrap());
        assert!(gpu.prepare_copy(&a, &b, 8).is_err(), "{}: more than there is", gpu.name());
        let copy = gpu.prepare_copy(&a, &b, 4).unwrap();
        let failed = gpu.record(&mut || {
            gpu.enqueue(&copy)?;
            Err(Error::argument("a test", "success", "failure"))
        });
        assert!(failed.is_err());
        let nested = gpu.record(&mut || gpu.record(&mut || Ok(())).map(|_| ()));
        assert!(nested.unwrap_err().to_string().contains("one recording at a time"));
        gpu.enqueue(&copy).unwrap();
        assert_eq!(download(gpu, &b, 1).unwrap(), [1.0], "{}", gpu.name());
    }
}

#[test]
fn as_many_runs_are_timed_as_are_asked_for() {
    for gpu in devices() {
        let (a, b) = (upload(gpu, &[1.0_f32]).unwrap(), upload(gpu, &[2.0_f32]).unwrap());
        let copy = gpu.prepare_copy(&a, &b, 4).unwrap();
        let mut replay = Replay::default();
        // The first run is as it is.
        for (calls, recorded) in [(1, 1 + 1), (3, 3), (3, 0), (MOST_RECORDED + 3, MOST_RECORDED)] {
            let mut enqueued = 0;
            let seconds = replay.seconds(gpu, calls, &mut || {
                enqueued += 1;
                gpu.enqueue(&copy)
            });
            assert!(seconds.unwrap() >= 0.0);
            assert_eq!(enqueued, recorded, "{}: {calls} runs", gpu.name());
        }
    }
}

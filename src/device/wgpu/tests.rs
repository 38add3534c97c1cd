use super::*;
use crate::device::gpu;
use crate::test_support;

fn source(wgsl: &'static str) -> Source<'static> {
    Source { stem: "test", cuda: None, wgsl: Some(wgsl), entry: "main", constants: &[], threads: 1 }
}

const DOUBLE: &str = "
    @group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @group(0) @binding(1) var<uniform> factor: vec4<u32>;
    @compute @workgroup_size(THREADS)
    fn main(@builtin(workgroup_id) block: vec3<u32>) {
        y[block.x] *= f32(factor.x);
    }";

#[test]
fn what_a_driver_refuses_is_an_error_and_what_follows_runs() {
    let gpu = match Wgpu::shared() {
        Ok(gpu) => gpu,
        Err(error) => return test_support::skip("wgpu", &error.to_string()),
    };
    let error = gpu.program(&source("fn main() {")).unwrap_err().to_string();
    assert!(error.contains("compile shaders/test.wgsl"), "{error}");
    let limits = gpu.limits();
    let error = gpu.allocate(limits.buffer_bytes + 1).unwrap_err().to_string();
    assert!(error.contains("as the device binds"), "{error}");

    let program = gpu.program(&source(DOUBLE)).unwrap();
    let y = gpu::upload(gpu, &[1.0_f32, 2.0, 3.0]).unwrap();
    let launch = |buffers: &[&Buffer], grid| {
        gpu.prepare(&Launch { program: &program, grid, buffers, parameters: &[2] })
    };
    assert!(launch(&[&y], [limits.grid + 1, 1, 1]).is_err());
    assert!(launch(&[&y, &y], [1, 1, 1]).is_err(), "a buffer too many");
    let step = launch(&[&y], [3, 1, 1]).unwrap();
    let seconds = gpu.time(&mut || {
        gpu.enqueue(&step)?;
        gpu.enqueue(&step)
    });
    assert!(seconds.unwrap() > 0.0);
    gpu.enqueue(&launch(&[&y], [0, 1, 1]).unwrap()).unwrap();
    assert_eq!(gpu::download(gpu, &y, 3).unwrap(), [4.0, 8.0, 12.0]);
    assert!(gpu::download(gpu, &y, 5).is_err());
}

#[test]
fn steps_that_are_handed_over_in_several_passes_are_all_timed() {
    let gpu = match Wgpu::shared() {
        Ok(gpu) => gpu,
        Err(error) => return test_support::skip("wgpu", &error.to_string()),
    };
    let program = gpu.program(&source(DOUBLE)).unwrap();
    let y = gpu::upload(gpu, &vec![0.0_f32; 20_000]).unwrap();
    let buffers = [&y];
    let launch =
        Launch { program: &program, grid: [20_000, 1, 1], buffers: &buffers, parameters: &[2] };
    let step = gpu.prepare(&launch).unwrap();
    let time =
        |steps: usize| gpu.time(&mut || (0..steps).try_for_each(|_| gpu.enqueue(&step))).unwrap();
    time(1);
    // Other tests share the device: the best of three is its own.
    let few = (0..3).map(|_| time(PENDING / 4)).fold(f64::INFINITY, f64::min);
    let many = time(4 * PENDING - 20);
    // Fifteen times the work; of the last pass alone it would be less than four times.
    assert!(many > 6.0 * few, "{few} s and {many} s");
}

#[test]
fn threads_that_share_a_device_see_their_own_steps_done() {
    let gpu = match Wgpu::shared() {
        Ok(gpu) => gpu,
        Err(error) => return test_support::skip("wgpu", &error.to_string()),
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let program = gpu.program(&source(DOUBLE)).unwrap();
                for _ in 0..50 {
                    let y = gpu::upload(gpu, &[1.0_f32, 2.0]).unwrap();
                    let buffers = [&y];
                    let launch = Launch {
                        program: &program,
                        grid: [2, 1, 1],
                        buffers: &buffers,
                        parameters: &[2],
                    };
                    // Many steps, so that handing them over takes a while.
                    let step = gpu.prepare(&launch).unwrap();
                    (0..40).for_each(|_| gpu.enqueue(&step).unwrap());
                    let doubled = 2.0_f32.powi(40);
                    assert_eq!(gpu::download(gpu, &y, 2).unwrap(), [doubled, 2.0 * doubled]);
                }
            });
        }
    });
}

#[test]
fn an_adapter_that_is_not_there_is_named() {
    let error = Wgpu::with(Some("no such adapter")).unwrap_err().to_string();
    assert!(error.contains("named no such adapter") && error.contains(VARIABLE), "{error}");
}

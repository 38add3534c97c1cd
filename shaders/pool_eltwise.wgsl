// What lies between products in a network: pooling, response normalisation, scale and shift, and
// copies into another layout, as in cuda/pool_eltwise.cu.

struct Map {
    start: u32,
    image: u32,
    plane: u32,
    pitch: u32,
    step: u32,
}

struct Params {
    channels: u32, // of Y
    height: u32,
    width: u32,
    x_height: u32,
    x_width: u32,
    window: u32,
    stride: u32,
    padding: u32,
    relu: u32,
    alpha: f32,
    beta: f32,
    x_start: u32,
    x_image: u32,
    x_plane: u32,
    x_pitch: u32,
    x_step: u32,
    y_start: u32,
    y_image: u32,
    y_plane: u32,
    y_pitch: u32,
    y_step: u32,
}

struct Pixel {
    channel: u32,
    row: u32,
    column: u32,
    exists: bool,
}

fn own_pixel(place: u32, height: u32, width: u32, channels: u32) -> Pixel {
    let area = height * width;
    return Pixel(place / area, place % area / width, place % width, place < channels * area);
}

fn at(map: Map, image: u32, channel: u32, row: u32, column: u32) -> u32 {
    return map.start + image * map.image + channel * map.plane + row * map.pitch + column * map.step;
}

//:pool
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

// The maximum of each window, in which the border never wins, or its mean, border counted in. A NaN in
// the window wins.
@compute @workgroup_size(THREADS)
fn pool_eltwise_pool(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(num_workgroups) blocks: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let from_map = Map(p.x_start, p.x_image, p.x_plane, p.x_pitch, p.x_step);
    let to_map = Map(p.y_start, p.y_image, p.y_plane, p.y_pitch, p.y_step);
    let own = own_pixel((block.y * blocks.x + block.x) * THREADS + thread, p.height, p.width, p.channels);
    if !own.exists {
        return;
    }
    var result = 0.0;
    var empty = true;
    for (var i = 0u; i < p.window; i++) {
        // Numbers below 0 wrap around and lie outside.
        let row = own.row * p.stride + i - p.padding;
        if row >= p.x_height {
            continue;
        }
        for (var j = 0u; j < p.window; j++) {
            let column = own.column * p.stride + j - p.padding;
            if column >= p.x_width {
                continue;
            }
            let value = x[at(from_map, block.z, own.channel, row, column)];
            if AVERAGE == 1u {
                result += value;
            } else {
                let larger = is_nan(value) || value > result;
                result = select(result, value, empty || (!is_nan(result) && larger));
                empty = false;
            }
        }
    }
    if AVERAGE == 1u {
        result /= f32(p.window * p.window);
    }
    y[at(to_map, block.z, own.channel, own.row, own.column)] = result;
}

//:max_affine
@group(0) @binding(0) var<storage, read> scale: array<f32>;
@group(0) @binding(1) var<storage, read> shift: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

// The maximum of scale x + shift over each window, in which the border never wins: a batch normalisation
// in front of a pooling. A NaN in the window wins.
@compute @workgroup_size(THREADS)
fn pool_eltwise_max_affine(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(num_workgroups) blocks: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let from_map = Map(p.x_start, p.x_image, p.x_plane, p.x_pitch, p.x_step);
    let to_map = Map(p.y_start, p.y_image, p.y_plane, p.y_pitch, p.y_step);
    let own = own_pixel((block.y * blocks.x + block.x) * THREADS + thread, p.height, p.width, p.channels);
    if !own.exists {
        return;
    }
    let factor = scale[own.channel];
    let summand = shift[own.channel];
    var result = 0.0;
    var empty = true;
    for (var i = 0u; i < p.window; i++) {
        let row = own.row * p.stride + i - p.padding;
        if row >= p.x_height {
            continue;
        }
        for (var j = 0u; j < p.window; j++) {
            let column = own.column * p.stride + j - p.padding;
            if column >= p.x_width {
                continue;
            }
            let value = factor * x[at(from_map, block.z, own.channel, row, column)] + summand;
            let larger = is_nan(value) || value > result;
            result = select(result, value, empty || (!is_nan(result) && larger));
            empty = false;
        }
    }
    y[at(to_map, block.z, own.channel, own.row, own.column)] = result;
}

//:norm
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

// x / (1 + alpha mean)^beta, the mean of x^2 over a window of the same channel, border counted in.
@compute @workgroup_size(THREADS)
fn pool_eltwise_norm(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(num_workgroups) blocks: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let from_map = Map(p.x_start, p.x_image, p.x_plane, p.x_pitch, p.x_step);
    let to_map = Map(p.y_start, p.y_image, p.y_plane, p.y_pitch, p.y_step);
    let own = own_pixel((block.y * blocks.x + block.x) * THREADS + thread, p.height, p.width, p.channels);
    if !own.exists {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < p.window; i++) {
        let row = own.row + i - p.padding;
        if row >= p.x_height {
            continue;
        }
        for (var j = 0u; j < p.window; j++) {
            let column = own.column + j - p.padding;
            if column >= p.x_width {
                continue;
            }
            let value = x[at(from_map, block.z, own.channel, row, column)];
            sum += value * value;
        }
    }
    let mean = sum / f32(p.window * p.window);
    // `pow` of a NaN may be anything.
    let scale = select(pow(1.0 + p.alpha * mean, p.beta), mean, is_nan(mean));
    let value = x[at(from_map, block.z, own.channel, own.row, own.column)];
    y[at(to_map, block.z, own.channel, own.row, own.column)] = value / scale;
}

//:affine
@group(0) @binding(0) var<storage, read> scale: array<f32>;
@group(0) @binding(1) var<storage, read> shift: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

// scale x + shift, of each channel: a batch normalisation whose statistics are fixed.
@compute @workgroup_size(THREADS)
fn pool_eltwise_affine(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(num_workgroups) blocks: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let from_map = Map(p.x_start, p.x_image, p.x_plane, p.x_pitch, p.x_step);
    let to_map = Map(p.y_start, p.y_image, p.y_plane, p.y_pitch, p.y_step);
    let own = own_pixel((block.y * blocks.x + block.x) * THREADS + thread, p.height, p.width, p.channels);
    if !own.exists {
        return;
    }
    let value = x[at(from_map, block.z, own.channel, own.row, own.column)];
    y[at(to_map, block.z, own.channel, own.row, own.column)] =
        activate(scale[own.channel] * value + shift[own.channel], p.relu);
}

//:copy
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn pool_eltwise_copy(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(num_workgroups) blocks: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let from_map = Map(p.x_start, p.x_image, p.x_plane, p.x_pitch, p.x_step);
    let to_map = Map(p.y_start, p.y_image, p.y_plane, p.y_pitch, p.y_step);
    let own = own_pixel((block.y * blocks.x + block.x) * THREADS + thread, p.height, p.width, p.channels);
    if !own.exists {
        return;
    }
    let value = x[at(from_map, block.z, own.channel, own.row, own.column)];
    y[at(to_map, block.z, own.channel, own.row, own.column)] = activate(value, p.relu);
}

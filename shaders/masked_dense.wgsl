// A dense layer of which only some nodes live: Y = act(W X + b). The mathematics, the storage and the
// designs are those of cuda/masked_dense.cu, but for tensor cores.

struct Params {
    rows: u32,   // M, of this launch
    inner: u32,  // K
    stride: u32, // of W's rows, a multiple of 4
    splits: u32, // parts of K; more than one: y is [splits, M, n] of sums
    depth: u32,  // K of a part, a multiple of TILE_K
    unused: u32, // what follows is aligned to four words
    columns: u32,
    relu: u32,
    @align(16) x: Lines,
    @align(16) y: Lines,
}

//:n1
@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read> x_rows: array<u32>;
@group(0) @binding(3) var<storage, read> y_rows: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

const TEAM: u32 = 32u * SPLIT;
var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn masked_dense_n1(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = block.x * (THREADS / TEAM) + thread / TEAM;
    let lane = thread % TEAM;
    var sum = 0.0;
    if row < p.rows {
        let own = row * (p.stride / 4u);
        for (var k = lane * 4u; k < p.inner; k += TEAM * 4u) {
            let w = weights[own + k / 4u];
            sum += w.x * x[x_rows[k]];
            if k + 1u < p.inner { sum += w.y * x[x_rows[k + 1u]]; }
            if k + 2u < p.inner { sum += w.z * x[x_rows[k + 2u]]; }
            if k + 3u < p.inner { sum += w.w * x[x_rows[k + 3u]]; }
        }
    }
    partial[thread] = sum;
    for (var distance = TEAM / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if lane < distance {
            partial[thread] += partial[thread + distance];
        }
    }
    if row < p.rows && lane == 0u {
        y[y_rows[row]] = activate(partial[thread] + bias[row], p.relu);
    }
}

//:tile
@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read> x_rows: array<u32>;
@group(0) @binding(3) var<storage, read> y_rows: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

// In vectors of four rows of W, of four columns of X.
const PITCH_W: u32 = TILE_M / 4u + 1u;
const PITCH_X: u32 = TILE_N / 4u;
const FOURS_M: u32 = THREAD_M / 4u;
const FOURS_N: u32 = THREAD_N / 4u;
const THREADS_N: u32 = TILE_N / THREAD_N;
var<workgroup> tile_w: array<vec4<f32>, TILE_K * PITCH_W>;
var<workgroup> tile_x: array<vec4<f32>, TILE_K * PITCH_X>;

@compute @workgroup_size(THREADS)
fn masked_dense_tile(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let down = thread / THREADS_N;
    let right = thread % THREADS_N;
    let split = p.splits > 1u;
    let image = select(block.z * p.x.image, 0u, split);
    let begin = select(0u, block.z * p.depth, split);
    let end = min(p.inner, begin + p.depth);
    var sums: array<array<vec4<f32>, FOURS_N>, THREAD_M>;
    for (var first = begin; first < end; first += TILE_K) {
        // Four rows of W, a vector of each, turned so that a vector holds four rows.
        for (var place = thread; place < TILE_M / 4u * (TILE_K / 4u); place += THREADS) {
            let four = place / (TILE_K / 4u);
            let k = first + place % (TILE_K / 4u) * 4u;
            var rows: array<vec4<f32>, 4>;
            for (var i = 0u; i < 4u; i++) {
                let row = block.y * TILE_M + four * 4u + i;
                if row < p.rows && k < end {
                    rows[i] = weights[(row * p.stride + k) / 4u];
                }
            }
            let to = place % (TILE_K / 4u) * 4u * PITCH_W + four;
            tile_w[to] = vec4(rows[0].x, rows[1].x, rows[2].x, rows[3].x);
            tile_w[to + PITCH_W] = vec4(rows[0].y, rows[1].y, rows[2].y, rows[3].y);
            tile_w[to + 2u * PITCH_W] = vec4(rows[0].z, rows[1].z, rows[2].z, rows[3].z);
            tile_w[to + 3u * PITCH_W] = vec4(rows[0].w, rows[1].w, rows[2].w, rows[3].w);
        }
        for (var place = thread; place < TILE_K * PITCH_X; place += THREADS) {
            let k = first + place / PITCH_X;
            var four = vec4<f32>();
            if k < end {
                let at = image + x_rows[k];
                for (var c = 0u; c < 4u; c++) {
                    let column = block.x * TILE_N + place % PITCH_X + c * PITCH_X;
                    if column < p.columns {
                        four[c] = x[at + along(column, p.x)];
                    }
                }
            }
            tile_x[place] = four;
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
            var xs: array<vec4<f32>, FOURS_N>;
            for (var f = 0u; f < FOURS_N; f++) {
                xs[f] = tile_x[k * PITCH_X + f * (PITCH_X / FOURS_N) + right];
            }
            for (var f = 0u; f < FOURS_M; f++) {
                let w = tile_w[k * PITCH_W + f * (TILE_M / 4u / FOURS_M) + down];
                for (var j = 0u; j < FOURS_N; j++) {
                    sums[4u * f][j] += w.x * xs[j];
                    sums[4u * f + 1u][j] += w.y * xs[j];
                    sums[4u * f + 2u][j] += w.z * xs[j];
                    sums[4u * f + 3u][j] += w.w * xs[j];
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_M; i++) {
        let row = block.y * TILE_M + (i / 4u * (TILE_M / 4u / FOURS_M) + down) * 4u + i % 4u;
        for (var j = 0u; j < THREAD_N; j++) {
            // The columns of a vector are a quarter of the tile apart.
            let column = block.x * TILE_N + j / 4u * (PITCH_X / FOURS_N) + right + j % 4u * PITCH_X;
            if row < p.rows && column < p.columns {
                let sum = sums[i][j / 4u][j % 4u];
                if split {
                    y[(block.z * p.rows + row) * p.columns + column] = sum;
                } else {
                    let to = block.z * p.y.image + y_rows[row];
                    y[to + along(column, p.y)] =
                        activate(sum + bias[row], p.relu);
                }
            }
        }
    }
}

//:sum
@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read> y_rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

// Adds the parts [splits, M, n] up, a thread for each result.
@compute @workgroup_size(THREADS)
fn masked_dense_sum(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let column = block.x * THREADS + thread;
    let row = block.y;
    if column < p.columns {
        var sum = bias[row];
        for (var part = 0u; part < p.splits; part++) {
            sum += parts[(part * p.rows + row) * p.columns + column];
        }
        y[y_rows[row] + along(column, p.y)] = activate(sum, p.relu);
    }
}

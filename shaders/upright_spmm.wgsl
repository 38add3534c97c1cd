// Weights in upright groups times activations: Y = act(W X + b). The mathematics, the storage and the two designs are
// those of cuda/upright_spmm.cu; here a warp's exchange is one through workgroup memory, and `strips` reads weights in
// pairs, since every height is a multiple of two.

@group(0) @binding(1) var<storage, read> x_rows: array<u32>;
@group(0) @binding(2) var<storage, read> strip_ptr: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> y_rows: array<u32>;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<uniform> p: SpmmParams;

//:n1
@group(0) @binding(0) var<storage, read> values: array<f32>;

// A strip is shared by TEAM threads, GROUPS groups at once.
const TEAM: u32 = 32u * SPLIT;
const GROUPS: u32 = TEAM / HEIGHT;
const_assert GROUPS * HEIGHT == TEAM; // they read whole groups
var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn upright_spmm_n1(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let strip = block.x * (THREADS / TEAM) + thread / TEAM;
    let lane = thread % TEAM;
    var sum = 0.0;
    if strip * HEIGHT < p.rows {
        let end = strip_ptr[strip + 1u];
        for (var g = strip_ptr[strip] + lane / HEIGHT; g < end; g += GROUPS) {
            sum += values[g * HEIGHT + lane % HEIGHT] * x[x_rows[g]];
        }
    }
    partial[thread] = sum;
    for (var distance = TEAM / 2u; distance >= HEIGHT; distance /= 2u) {
        workgroupBarrier();
        if lane < distance {
            partial[thread] += partial[thread + distance];
        }
    }
    let row = strip * HEIGHT + lane;
    if lane < HEIGHT && row < p.rows {
        y[y_rows[row]] = activate(partial[thread] + bias[row], p.relu);
    }
}

//:strips
@group(0) @binding(0) var<storage, read> values: array<vec2<f32>>;

const PAIRS: u32 = HEIGHT / 2u;
const TEAMS: u32 = THREADS / LANES;
const_assert TEAMS * LANES == THREADS; // a block holds whole teams
// Sums of a team, in vectors of four columns, LANES apart from each other.
const TEAM_SUMS: u32 = HEIGHT * LANES;
var<workgroup> sums: array<vec4<f32>, TEAMS * TEAM_SUMS>;

@compute @workgroup_size(THREADS)
fn upright_spmm_strips(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let team = thread / LANES;
    let lane = thread % LANES;
    let first_column = block.x * LANES * 4u + lane;
    let image = block.z * p.x.image;
    let own_columns = columns_at(first_column, LANES, p.columns, p.x);

    var sum: array<vec4<f32>, HEIGHT>;
    let end = strip_ptr[block.y + 1u];
    for (var g = strip_ptr[block.y] + team; g < end; g += TEAMS) {
        let at = image + x_rows[g];
        var four = vec4<f32>();
        if own_columns.inside.x { four.x = x[at + own_columns.offsets.x]; }
        if own_columns.inside.y { four.y = x[at + own_columns.offsets.y]; }
        if own_columns.inside.z { four.z = x[at + own_columns.offsets.z]; }
        if own_columns.inside.w { four.w = x[at + own_columns.offsets.w]; }
        for (var pair = 0u; pair < PAIRS; pair++) {
            let w = values[g * PAIRS + pair];
            sum[2u * pair] += w.x * four;
            sum[2u * pair + 1u] += w.y * four;
        }
    }
    for (var i = 0u; i < HEIGHT; i++) {
        sums[team * TEAM_SUMS + i * LANES + lane] = sum[i];
    }
    workgroupBarrier();
    for (var place = thread; place < TEAM_SUMS; place += THREADS) {
        let row = block.y * HEIGHT + place / LANES;
        if row < p.rows {
            var total = sums[place];
            for (var other = 1u; other < TEAMS; other++) {
                total += sums[other * TEAM_SUMS + place];
            }
            let to = block.z * p.y.image + y_rows[row];
            for (var c = 0u; c < 4u; c++) {
                let column = block.x * LANES * 4u + place % LANES + c * LANES;
                if column < p.columns {
                    y[to + along(column, p.y)] = activate(total[c] + bias[row], p.relu);
                }
            }
        }
    }
}

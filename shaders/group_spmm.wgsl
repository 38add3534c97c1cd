// Group-sparse weights times activations: Y = act(W X + b). The mathematics, the storage and the
// ladder of designs are those of cuda/group_spmm.cu; here a warp's exchange is one through workgroup
// memory, and weights are read in pairs, since every width is a multiple of two.

const PAIRS: u32 = WIDTH / 2u;

//:n1
@group(0) @binding(0) var<storage, read> values: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> groups: array<u32>;
@group(0) @binding(2) var<storage, read> row_ptr: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> y_rows: array<u32>;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<uniform> p: SpmmParams;

// A row is shared by TEAM threads.
const TEAM: u32 = 32u * SPLIT;
var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn group_spmm_n1(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = block.x * (THREADS / TEAM) + thread / TEAM;
    let lane = thread % TEAM;
    var sum = 0.0;
    if row < p.rows {
        let end = row_ptr[row + 1u] * PAIRS;
        for (var pair = row_ptr[row] * PAIRS + lane; pair < end; pair += TEAM) {
            let k = groups[pair / PAIRS] * WIDTH + pair % PAIRS * 2u;
            let w = values[pair];
            if k < p.inner {
                sum += w.x * x[k];
            }
            if k + 1u < p.inner {
                sum += w.y * x[k + 1u];
            }
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

//:rows
@group(0) @binding(0) var<storage, read> values: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> groups: array<u32>;
@group(0) @binding(2) var<storage, read> row_ptr: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x_rows: array<u32>;
@group(0) @binding(5) var<storage, read> y_rows: array<u32>;
@group(0) @binding(6) var<storage, read> x: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<uniform> p: SpmmParams;

const_assert THREADS % (LANES * SPLIT) == 0u; // a block holds whole rows of teams
const_assert CHUNK % WIDTH == 0u; // no group lies in two chunks
const_assert CHUNK * LANES >= THREADS; // the teams' sums fit where X was staged
// In vectors of four columns, LANES apart from each other.
var<workgroup> staged: array<vec4<f32>, CHUNK * LANES>;

@compute @workgroup_size(THREADS)
fn group_spmm_rows(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let team = thread / LANES;
    let lane = thread % LANES;
    let row = block.y * (THREADS / LANES / SPLIT) + team / SPLIT;
    let first_column = block.x * LANES * 4u + lane;
    let image = block.z * p.x.image;
    let own_columns = columns_at(first_column, LANES, p.columns, p.x);
    var place = 0u;
    var end = 0u;
    if row < p.rows {
        place = row_ptr[row] + team % SPLIT;
        end = row_ptr[row + 1u];
    }
    var sum = vec4<f32>();
    for (var first = 0u; first < p.inner; first += CHUNK) {
        for (var row_of_x = team; row_of_x < CHUNK; row_of_x += THREADS / LANES) {
            var four = vec4<f32>();
            if first + row_of_x < p.inner {
                let at = image + x_rows[first + row_of_x];
                if own_columns.inside.x { four.x = x[at + own_columns.offsets.x]; }
                if own_columns.inside.y { four.y = x[at + own_columns.offsets.y]; }
                if own_columns.inside.z { four.z = x[at + own_columns.offsets.z]; }
                if own_columns.inside.w { four.w = x[at + own_columns.offsets.w]; }
            }
            staged[row_of_x * LANES + lane] = four;
        }
        workgroupBarrier();
        while place < end {
            let k = groups[place] * WIDTH;
            if k >= first + CHUNK {
                break;
            }
            let at = (k - first) * LANES + lane;
            for (var pair = 0u; pair < PAIRS; pair++) {
                let w = values[place * PAIRS + pair];
                sum += w.x * staged[at + 2u * pair * LANES];
                sum += w.y * staged[at + (2u * pair + 1u) * LANES];
            }
            place += SPLIT;
        }
        workgroupBarrier();
    }
    // The teams of a row add up.
    staged[thread] = sum;
    workgroupBarrier();
    if row < p.rows && team % SPLIT == 0u {
        for (var other = 1u; other < SPLIT; other++) {
            sum += staged[thread + other * LANES];
        }
        let to = block.z * p.y.image + y_rows[row];
        for (var c = 0u; c < 4u; c++) {
            let column = first_column + c * LANES;
            if column < p.columns {
                y[to + along(column, p.y)] =
                    activate(sum[c] + bias[row], p.relu);
            }
        }
    }
}

//:columns
@group(0) @binding(0) var<storage, read> values: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> entry_ptr: array<u32>;
@group(0) @binding(3) var<storage, read> groups: array<u32>;
@group(0) @binding(4) var<storage, read> block_ptr: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read> x_rows: array<u32>;
@group(0) @binding(7) var<storage, read> y_rows: array<u32>;
@group(0) @binding(8) var<storage, read> x: array<f32>;
@group(0) @binding(9) var<storage, read_write> y: array<f32>;
@group(0) @binding(10) var<uniform> p: SpmmParams;

const TEAMS: u32 = THREADS / LANES;
const_assert TEAMS * LANES == THREADS; // a block holds whole teams
// Sums of a team, in vectors of four columns, LANES apart from each other.
const TEAM_SUMS: u32 = BLOCK_ROWS * LANES;
var<workgroup> sums: array<vec4<f32>, TEAMS * TEAM_SUMS>;

@compute @workgroup_size(THREADS)
fn group_spmm_columns(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let team = thread / LANES;
    let lane = thread % LANES;
    let first_column = block.x * LANES * 4u + lane;
    let own = team * TEAM_SUMS + lane;
    let image = block.z * p.x.image;

    let own_columns = columns_at(first_column, LANES, p.columns, p.x);
    for (var row = 0u; row < BLOCK_ROWS; row++) {
        sums[own + row * LANES] = vec4<f32>();
    }
    let end = block_ptr[block.y + 1u];
    for (var group = block_ptr[block.y] + team; group < end; group += TEAMS) {
        let k = groups[group] * WIDTH;
        var xs: array<vec4<f32>, WIDTH>;
        for (var i = 0u; i < WIDTH; i++) {
            var four = vec4<f32>();
            if k + i < p.inner {
                let at = image + x_rows[k + i];
                if own_columns.inside.x { four.x = x[at + own_columns.offsets.x]; }
                if own_columns.inside.y { four.y = x[at + own_columns.offsets.y]; }
                if own_columns.inside.z { four.z = x[at + own_columns.offsets.z]; }
                if own_columns.inside.w { four.w = x[at + own_columns.offsets.w]; }
            }
            xs[i] = four;
        }
        let last = entry_ptr[group + 1u];
        for (var entry = entry_ptr[group]; entry < last; entry++) {
            let to = own + rows[entry] * LANES;
            var sum = sums[to];
            for (var pair = 0u; pair < PAIRS; pair++) {
                let w = values[entry * PAIRS + pair];
                sum += w.x * xs[2u * pair];
                sum += w.y * xs[2u * pair + 1u];
            }
            sums[to] = sum;
        }
    }
    workgroupBarrier();
    for (var place = thread; place < TEAM_SUMS; place += THREADS) {
        let row = block.y * BLOCK_ROWS + place / LANES;
        if row < p.rows {
            var sum = sums[place];
            for (var other = 1u; other < TEAMS; other++) {
                sum += sums[other * TEAM_SUMS + place];
            }
            let to = block.z * p.y.image + y_rows[row];
            for (var c = 0u; c < 4u; c++) {
                let column = block.x * LANES * 4u + place % LANES + c * LANES;
                if column < p.columns {
                    y[to + along(column, p.y)] =
                        activate(sum[c] + bias[row], p.relu);
                }
            }
        }
    }
}

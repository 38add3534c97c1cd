// Compressed sparse rows times activations: Y = act(W X + b), the format of traditional pruning, where
// no vendor's library has it. An index for every weight.
//
// - `n1`: 32 threads share a row of one column's product.
// - `tile`: a thread walks along a row for one column; 32 neighbouring columns share its weights.

//:n1
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> columns: array<u32>;
@group(0) @binding(2) var<storage, read> row_ptr: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x_rows: array<u32>;
@group(0) @binding(5) var<storage, read> y_rows: array<u32>;
@group(0) @binding(6) var<storage, read> x: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<uniform> p: SpmmParams;

var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn csr_spmm_n1(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = block.x * (THREADS / 32u) + thread / 32u;
    let lane = thread % 32u;
    var sum = 0.0;
    if row < p.rows {
        for (var place = row_ptr[row] + lane; place < row_ptr[row + 1u]; place += 32u) {
            sum += values[place] * x[x_rows[columns[place]]];
        }
    }
    partial[thread] = sum;
    for (var distance = 16u; distance > 0u; distance /= 2u) {
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
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> columns: array<u32>;
@group(0) @binding(2) var<storage, read> row_ptr: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x_rows: array<u32>;
@group(0) @binding(5) var<storage, read> y_rows: array<u32>;
@group(0) @binding(6) var<storage, read> x: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<uniform> p: SpmmParams;

@compute @workgroup_size(THREADS)
fn csr_spmm_tile(
    @builtin(workgroup_id) block: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = block.y * (THREADS / 32u) + thread / 32u;
    let column = block.x * 32u + thread % 32u;
    if row >= p.rows || column >= p.columns {
        return;
    }
    let base = block.z * p.x.image + along(column, p.x);
    var sum = bias[row];
    for (var place = row_ptr[row]; place < row_ptr[row + 1u]; place++) {
        sum += values[place] * x[base + x_rows[columns[place]]];
    }
    let to = block.z * p.y.image + y_rows[row];
    y[to + along(column, p.y)] = activate(sum, p.relu);
}

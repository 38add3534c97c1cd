// What precedes every shader: the end of a row, and where columns lie. Constants in capitals come from
// the host, before this.

fn ceil_div(count: u32, size: u32) -> u32 {
    return (count + size - 1u) / size;
}

// By its bits, since a compiler may take it that no comparison sees a NaN.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// max(value, 0) if `relu`; NaN stays NaN.
fn activate(value: f32, relu: u32) -> f32 {
    return select(value, 0.0, relu != 0u && value < 0.0 && !is_nan(value));
}

// Where the columns of a product lie in a row of an operand: `width` of them side by side, `right` floats
// apart, and the next `width` `down` floats further. From one image to the next it is `image` floats.
struct Lines {
    width: u32,
    down: u32,
    right: u32,
    image: u32,
}

fn along(column: u32, lines: Lines) -> u32 {
    return column / lines.width * lines.down + column % lines.width * lines.right;
}

// A sparse product's sizes, and where its operands lie.
struct SpmmParams {
    rows: u32,    // M, of this launch
    inner: u32,   // K
    columns: u32, // n
    relu: u32,
    @align(16) x: Lines,
    @align(16) y: Lines,
}

// Where a thread's four columns lie in a row, and which of them exist.
struct Columns {
    offsets: vec4<u32>,
    inside: vec4<bool>,
}

// The columns `first`, `first + step` and so on, of `count` in all.
fn columns_at(first: u32, step: u32, count: u32, lines: Lines) -> Columns {
    var own: Columns;
    for (var c = 0u; c < 4u; c++) {
        let column = first + c * step;
        own.inside[c] = column < count;
        own.offsets[c] = along(select(0u, column, own.inside[c]), lines);
    }
    return own;
}

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

// Where a column lies in a row of an operand: `width` of them side by side, `right` floats apart, and
// the next `width` `down` floats further.
fn along(column: u32, width: u32, down: u32, right: u32) -> u32 {
    return column / width * down + column % width * right;
}

//! What all sparse formats ask of their row pointers and indices.

use crate::error::{Error, Result};

/// Bytes of a stored index below `count`: two where they suffice.
pub(super) fn bytes_for(count: usize) -> usize {
    if count <= usize::from(u16::MAX) + 1 { 2 } else { 4 }
}

/// Checks that `pointers` cut `indices` into `rows` rows (or what `unit` calls them), and that each one's indices
/// ascend and stay below `count`. After this, no kernel that follows them can leave its arrays.
pub(super) fn check(
    what: &str,
    unit: &str,
    rows: usize,
    count: usize,
    pointers: &[u32],
    indices: &[u32],
) -> Result<()> {
    let bad = |part: &str, expected: String, found: String| {
        Err(Error::malformed(format!("{what}, {part}"), expected, found))
    };
    let pointer = format!("{unit}_ptr");
    if pointers.len() != rows + 1 {
        return bad(&pointer, format!("{} entries", rows + 1), pointers.len().to_string());
    }
    if pointers[0] != 0 || pointers[rows] as usize != indices.len() {
        let expected = format!("0 first and {} last", indices.len());
        return bad(&pointer, expected, format!("{} and {}", pointers[0], pointers[rows]));
    }
    if let Some(pair) = pointers.windows(2).find(|pair| pair[0] > pair[1]) {
        return bad(
            &pointer,
            "ascending entries".into(),
            format!("{} before {}", pair[0], pair[1]),
        );
    }
    for pair in pointers.windows(2) {
        let row = &indices[pair[0] as usize..pair[1] as usize];
        if let Some(&index) = row.iter().find(|&&index| index as usize >= count) {
            return bad("indices", format!("below {count}"), index.to_string());
        }
        if let Some(pair) = row.windows(2).find(|pair| pair[0] >= pair[1]) {
            let found = format!("{} before {}", pair[0], pair[1]);
            return bad("indices", format!("ascending within a {unit}"), found);
        }
    }
    Ok(())
}

//! The IDX format of MNIST: a magic number, the sizes, the bytes.

use crate::error::{Error, Result};

/// Checks the header of an IDX file of unsigned bytes and returns its sizes and its content.
///
/// # Errors
/// Another magic number, another number of dimensions, or more or fewer bytes than the sizes say.
/// `name` is for messages.
pub fn parse<'a, const DIMENSIONS: usize>(
    name: &str,
    bytes: &'a [u8],
) -> Result<([usize; DIMENSIONS], &'a [u8])> {
    let word = |index: usize| -> Result<u32> {
        let place = index * 4..index * 4 + 4;
        let word = bytes.get(place).and_then(|slice| slice.try_into().ok()).ok_or_else(|| {
            let expected = format!("a header of {} bytes", 4 + 4 * DIMENSIONS);
            Error::malformed(name, expected, format!("{} bytes in all", bytes.len()))
        })?;
        Ok(u32::from_be_bytes(word))
    };
    let magic = 0x0000_0800 | DIMENSIONS as u32; // 08: unsigned byte
    let found = word(0)?;
    if found != magic {
        let expected = format!("magic number {magic:#010x} of {DIMENSIONS}-dimensional IDX bytes");
        return Err(Error::malformed(name, expected, format!("{found:#010x}")));
    }
    let mut sizes = [0; DIMENSIONS];
    for (index, size) in sizes.iter_mut().enumerate() {
        *size = word(1 + index)? as usize;
    }
    let content = &bytes[4 + 4 * DIMENSIONS..];
    let expected = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if expected != Some(content.len()) {
        let expected = format!("as many bytes as its sizes {sizes:?} say");
        return Err(Error::malformed(name, expected, format!("{} bytes", content.len())));
    }
    Ok((sizes, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_read_and_a_damaged_one_is_named() {
        let good = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        assert_eq!(parse::<2>("f", &good).unwrap(), ([2, 3], &good[12..]));
        for (bytes, part) in [
            (&good[..17], "sizes [2, 3]"),
            (&good[..9], "header of 12 bytes"),
            (&good[..0], "0 bytes in all"),
        ] {
            let error = parse::<2>("f", bytes).unwrap_err().to_string();
            assert!(error.starts_with("f:") && error.contains(part), "{error}");
        }
        assert!(parse::<1>("f", &good).unwrap_err().to_string().contains("magic"));
        let huge = [0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(parse::<2>("f", &huge).is_err());
    }
}

//! Random streams that depend on a seed and on what they are for, and on nothing else.
//!
//! A run draws every random number from a stream named by its purpose and place (`shuffle`, stage,
//! epoch), so that it can be cut and continued anywhere, and no draw shifts another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The stream of `seed` for `purpose` at `place`.
pub fn stream(seed: u64, purpose: &str, place: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(digest(seed, purpose, place))
}

/// One 63-bit number of `seed` for `purpose` at `place`, for generators seeded by an integer.
pub fn number(seed: u64, purpose: &str, place: &[u64]) -> i64 {
    let digest = digest(seed, purpose, place);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    (u64::from_le_bytes(bytes) >> 1) as i64
}

fn digest(seed: u64, purpose: &str, place: &[u64]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose);
    for number in place {
        hash.update(number.to_le_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_stream_is_named_by_seed_purpose_and_place() {
        let first = |seed, purpose, place: &[u64]| stream(seed, purpose, place).next_u64();
        assert_eq!(first(1, "shuffle", &[0, 2]), first(1, "shuffle", &[0, 2]));
        assert_ne!(first(1, "shuffle", &[0, 2]), first(2, "shuffle", &[0, 2]));
        assert_ne!(first(1, "shuffle", &[0, 2]), first(1, "dropout", &[0, 2]));
        assert_ne!(first(1, "shuffle", &[0, 2]), first(1, "shuffle", &[2, 0]));
        assert!(number(3, "dropout", &[]) >= 0);
    }
}

//! Any bytes are an IDX file, whose content is as long as its sizes say, or an error.
#![no_main]

use scalpel::data::idx;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((sizes, content)) = idx::parse::<3>("file", bytes) {
        assert_eq!(sizes.iter().product::<usize>(), content.len());
    }
    if let Ok(([count], content)) = idx::parse::<1>("file", bytes) {
        assert_eq!(count, content.len());
    }
});

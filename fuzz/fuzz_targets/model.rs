//! Any bytes are a model, dense or sparse, that can be made dense and written again, or an error.
#![no_main]

use scalpel::sparse::Model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes(bytes, "file") else { return };
    // A sparse array says its own shape, which may be far larger than the file: what is made dense is bounded.
    let places: usize =
        model.iter().map(|(_, stored)| stored.shape().iter().product::<usize>()).sum();
    if places < 1 << 20 {
        let _ = model.to_weights();
    }
    let again = model.to_bytes().expect("what was read can be written");
    // By their bytes: a NaN is not equal to itself.
    let read = Model::from_bytes(&again, "file").expect("and read again");
    assert_eq!(read.to_bytes().expect("and written again"), again);
});

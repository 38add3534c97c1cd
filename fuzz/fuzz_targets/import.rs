//! Any bytes are weights or an error: PyTorch's archives and old format, safetensors, indices of shards.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for key in [None, Some("ema")] {
        if let Ok(imported) = scalpel::import::from_bytes(bytes, "file", None, key) {
            let _ = scalpel::prune::whole::unused(&imported.weights);
        }
    }
});

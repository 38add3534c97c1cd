//! Any bytes describe a network whose shapes and parameters can be told, and which is written as it is read, or are an
//! error.
#![no_main]

use scalpel::network::Network;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(network) = Network::parse(bytes, "file") else { return };
    let shapes = network.shapes().expect("what was read has shapes");
    assert_eq!(shapes.len(), network.layers.len());
    let parameters = network.parameters().expect("and parameters");
    assert!(parameters.iter().all(|parameter| !parameter.is_empty()), "{parameters:?}");
    let sites = network.mask_sites().expect("and masks");
    assert!(sites.iter().all(|site| site.producer < network.layers.len()));
    let again = serde_json::to_vec(&network).expect("what was read can be written");
    assert_eq!(Network::parse(&again, "file").expect("and read again"), network);
});

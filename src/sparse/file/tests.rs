use super::*;
use crate::network::zoo;
use proptest::prelude::*;

/// LeNet-5's weights, most of them 0.
fn weights() -> Weights {
    let parameters = zoo::lenet_5().parameters().unwrap();
    let sparse = |shape: &[usize]| {
        let mut count = 0_u32;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            count += 1;
            if count.wrapping_mul(2_654_435_761) >> 28 == 0 { count as f32 } else { 0.0 }
        })
    };
    parameters.into_iter().map(|p| (p.name, sparse(&p.shape))).collect()
}

const FORMATS: [Format; 6] = [
    Format::Dense,
    Format::Csr,
    Format::Groups(8),
    Format::Groups(3),
    Format::Upright(8),
    Format::Upright(3),
];

#[test]
fn every_format_comes_back_to_the_same_weights() {
    for format in FORMATS {
        let model = Model::new(&weights(), None, format).unwrap();
        let read = Model::from_bytes(&model.to_bytes().unwrap(), "file").unwrap();
        assert_eq!(read, model, "{format:?}");
        assert_eq!(read.to_weights().unwrap(), weights(), "{format:?}");
        assert_eq!(model.to_bytes().unwrap(), read.to_bytes().unwrap());
    }
}

#[test]
fn a_described_network_comes_back_with_its_weights() {
    let model = Model::new(&weights(), Some(&zoo::lenet_5()), Format::Groups(8)).unwrap();
    let read = Model::from_bytes(&model.to_bytes().unwrap(), "file").unwrap();
    assert_eq!(read.network(), Some(&zoo::lenet_5()));
}

#[test]
fn the_size_is_that_of_the_arrays_in_the_file() {
    for format in FORMATS {
        let model = Model::new(&weights(), None, format).unwrap();
        let bytes = model.to_bytes().unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(bytes.len() - 8 - header, model.bytes().total(), "{format:?}");
    }
}

proptest! {
    #[test]
    fn damaged_files_are_errors_or_sound_models(
        place in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>(),
        in_header in any::<bool>(),
    ) {
        let mut bytes = Model::new(&weights(), None, Format::Groups(8)).unwrap().to_bytes().unwrap();
        let range = if in_header { bytes.len().min(2500) } else { bytes.len() };
        bytes[place.index(range)] = value;
        if let Ok(model) = Model::from_bytes(&bytes, "file") {
            let _ = model.to_weights();
        }
        prop_assert!(Model::from_bytes(&bytes[..cut.index(bytes.len())], "file").is_err());
    }
}

#[test]
fn a_description_that_lies_is_named() {
    let model = Model::new(&weights(), None, Format::Groups(8)).unwrap();
    let mut bytes = model.to_bytes().unwrap();
    let place = bytes.windows(8).position(|window| window == br#"width\":"#).unwrap() + 8;
    for width in *b"049" {
        bytes[place] = width;
        let error = Model::from_bytes(&bytes, "file").unwrap_err().to_string();
        assert!(error.starts_with("file, array conv1.weight, "), "{error}");
    }
}

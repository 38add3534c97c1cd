use super::*;
use proptest::prelude::*;

/// Written by PyTorch 2.11: see `tests/data/state_dicts.py`.
const FILES: [(&str, &[u8]); 5] = [
    ("state_dict.pth", include_bytes!("../../../tests/data/state_dict.pth")),
    ("checkpoint.pth.tar", include_bytes!("../../../tests/data/checkpoint.pth.tar")),
    ("legacy.pth.tar", include_bytes!("../../../tests/data/legacy.pth.tar")),
    ("parameters.pth", include_bytes!("../../../tests/data/parameters.pth")),
    ("transposed_f64.pth", include_bytes!("../../../tests/data/transposed_f64.pth")),
];

#[test]
fn every_way_of_saving_gives_the_same_weights() {
    for (name, bytes) in FILES {
        assert!(is_one(bytes), "{name}");
        let weights = read(bytes, name, None).unwrap().imported(name).unwrap().weights;
        let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ip1.bias", "ip1.weight", "mask_ip1.alpha"], "{name}");
        let weight = weights.get("ip1.weight").unwrap();
        assert_eq!(weight.shape(), [2, 3], "{name}");
        let values: Vec<f32> = weight.iter().copied().collect();
        assert_eq!(values, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25], "{name}");
        assert_eq!(weights.get("mask_ip1.alpha").unwrap().shape(), [1, 2], "{name}");
    }
}

#[test]
fn a_checkpoint_without_tensors_is_refused() {
    let bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let error = read(bytes, "file", None).unwrap_err();
    assert!(error.to_string().contains("a state dict saved by torch.save"), "{error}");
}

#[test]
fn an_archive_that_was_compressed_again_is_refused_with_what_to_do() {
    use std::io::Write as _;
    let mut archive = zip::ZipArchive::new(Cursor::new(FILES[0].1)).unwrap();
    let mut repacked = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let deflated = zip::CompressionMethod::Deflated;
        let options = zip::write::SimpleFileOptions::default().compression_method(deflated);
        repacked.start_file(entry.name().unwrap(), options).unwrap();
        repacked.write_all(&content).unwrap();
    }
    let bytes = repacked.finish().unwrap().into_inner();
    let error = read(&bytes, "file", None).unwrap_err().to_string();
    assert!(error.contains("compressed (Deflated): repack it with `zip -0`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_are_errors_or_arrays(
        which in 0..5_usize, place in any::<prop::sample::Index>(), value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (name, bytes) = FILES[which];
        let mut damaged = bytes.to_vec();
        damaged[place.index(bytes.len())] = value;
        let _ = read(&damaged, name, None);
        prop_assert!(read(&bytes[..cut.index(bytes.len())], name, None).is_err());
    }
}

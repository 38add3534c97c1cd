//! CIFAR-10, 50,000 + 10,000 colour images of 32x32 pixels in ten classes, from the six files of its
//! binary version, or from the official archive of them.
//!
//! A record is a label byte and then 1024 bytes each of red, green and blue, row by row.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::fetch::{KnownArchive, Places};
use super::{Dataset, Origin, Split};
use crate::error::{Error, Result};
use crate::files;

/// Where the archive is downloaded from, unless `SCALPEL_CIFAR_URL` names another mirror.
pub const MIRROR: &str = "https://www.cs.toronto.edu/~kriz";

const MIRROR_VARIABLE: &str = "SCALPEL_CIFAR_URL";

/// The folder of the files, also in the archive.
const FOLDER: &str = "cifar-10-batches-bin";

const ARCHIVE: KnownArchive = KnownArchive {
    name: "cifar-10-binary.tar.gz",
    sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
};

const TRAIN: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
const TEST: &str = "test_batch.bin";

const CLASSES: usize = 10;
const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];
const RECORD: usize = 1 + PIXELS;
/// Records in each file.
const RECORDS: usize = 10_000;

/// Loads CIFAR-10 from where it lies, or downloads it.
///
/// # Errors
/// A file that is damaged, incomplete or missing; a download that fails.
pub fn load(places: &Places) -> Result<Dataset> {
    let base = std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.into());
    load_from(&places.folder(FOLDER), &base)
}

/// Loads the files in `folder`. Where none is there, unpacks the archive that lies in it or beside
/// it, or downloads that from `base`.
fn load_from(folder: &Path, base: &str) -> Result<Dataset> {
    if !TRAIN.iter().chain([&TEST]).any(|name| folder.join(name).exists()) {
        let beside = folder.parent().unwrap_or(folder);
        let archive = match ARCHIVE.read(folder)? {
            Some(bytes) => Some(bytes),
            None => ARCHIVE.read(beside)?,
        };
        let archive = match archive {
            Some(bytes) => bytes,
            None => {
                eprintln!("downloading {} from {base}", ARCHIVE.name);
                ARCHIVE.download(base)?
            }
        };
        unpack(&archive, folder)?;
    }
    let mut train = Split { shape: SHAPE, pixels: Vec::new(), labels: Vec::new() };
    for name in TRAIN {
        append(&mut train, &folder.join(name))?;
    }
    let mut test = Split { shape: SHAPE, pixels: Vec::new(), labels: Vec::new() };
    append(&mut test, &folder.join(TEST))?;
    check_classes(&train, &folder.join("data_batch_1.bin to data_batch_5.bin"))?;
    check_classes(&test, &folder.join(TEST))?;
    let origin = Origin::Folder(folder.to_owned());
    Ok(Dataset { name: "cifar-10".into(), origin, classes: CLASSES, train, test })
}

/// Appends a file's records.
fn append(split: &mut Split, path: &Path) -> Result<()> {
    if !path.exists() {
        return Err(Error::Unavailable {
            what: path.display().to_string(),
            reason: "other files of CIFAR-10 are there, but not this one".into(),
            remedy: format!("put all six files of its binary version into {FOLDER}/, or none"),
        });
    }
    let bytes = files::read(path)?;
    if bytes.len() != RECORDS * RECORD {
        let expected = format!("{RECORDS} records of {RECORD} bytes");
        let found = format!("{} bytes: the file is incomplete or another one", bytes.len());
        return Err(Error::malformed(path.display().to_string(), expected, found));
    }
    for (place, record) in bytes.chunks_exact(RECORD).enumerate() {
        let (label, pixels) = (record[0], &record[1..]);
        if usize::from(label) >= CLASSES {
            let what = format!("{}, record {place}", path.display());
            let expected = format!("a label below {CLASSES}");
            return Err(Error::malformed(what, expected, label.to_string()));
        }
        split.labels.push(label);
        split.pixels.extend_from_slice(pixels);
    }
    Ok(())
}

/// CIFAR-10 has as many images of one class as of another. The order of the records is not checked:
/// copies in other orders are about, and no result of ours depends on which it is.
fn check_classes(split: &Split, path: &Path) -> Result<()> {
    let mut counts = [0; CLASSES];
    split.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let each = split.len() / CLASSES;
    if counts == [each; CLASSES] {
        return Ok(());
    }
    let expected = format!("{each} images of each of the {CLASSES} classes");
    Err(Error::malformed(path.display().to_string(), expected, format!("{counts:?}")))
}

/// Unpacks the six files into `folder`.
fn unpack(archive: &[u8], folder: &Path) -> Result<()> {
    let broken = |error: std::io::Error| {
        Error::malformed(ARCHIVE.name, "a gzipped tar archive", error.to_string())
    };
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut found = 0;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let known = TRAIN.iter().chain([&TEST]).find(|name| path.ends_with(name));
        if let Some(name) = known {
            let mut bytes = Vec::with_capacity(RECORDS * RECORD);
            // One byte more than it may have, so that a longer file does not pass for this one.
            let most = (RECORDS * RECORD + 1) as u64;
            entry.by_ref().take(most).read_to_end(&mut bytes).map_err(broken)?;
            files::replace(&folder.join(name), bytes)?;
            found += 1;
        }
    }
    if found == TRAIN.len() + 1 {
        return Ok(());
    }
    Err(Error::malformed(ARCHIVE.name, "six files of CIFAR-10", format!("{found} of them")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A file with as many records of each class, each of a pixel value of its own.
    fn file(first: usize) -> Vec<u8> {
        (0..RECORDS)
            .flat_map(|record| {
                let label = (record % CLASSES) as u8;
                std::iter::once(label).chain(std::iter::repeat_n((first + record) as u8, PIXELS))
            })
            .collect()
    }

    fn write_all(folder: &Path) {
        for (place, name) in TRAIN.iter().chain([&TEST]).enumerate() {
            fs::write(folder.join(name), file(place)).unwrap();
        }
    }

    #[test]
    fn files_are_read_in_order_and_what_is_wrong_with_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path());
        let data = load_from(folder.path(), "http://127.0.0.1:1").unwrap();
        assert_eq!((data.train.len(), data.test.len(), data.train.shape), (50_000, 10_000, SHAPE));
        assert_eq!(&data.train.labels[..3], [0, 1, 2]);
        let first_of = |place: usize| data.train.pixels[place * RECORDS * PIXELS];
        assert_eq!([first_of(0), first_of(4), data.test.pixels[0]], [0, 4, 5]);

        let path = folder.path().join("data_batch_3.bin");
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = load_from(folder.path(), "http://127.0.0.1:1").unwrap_err().to_string();
            assert!(error.contains("data_batch_"), "{error}");
            error
        };
        let whole = file(2);
        assert!(refused(&whole[..whole.len() - 1]).contains("incomplete"));
        let mut swapped = whole.clone();
        swapped[5 * RECORD] = 77;
        let error = refused(&swapped);
        assert!(error.contains("record 5") && error.contains("label below 10"), "{error}");
        swapped[5 * RECORD] = 6;
        assert!(refused(&swapped).contains("5000 images of each"));
        fs::remove_file(&path).unwrap();
        let error = load_from(folder.path(), "http://127.0.0.1:1").unwrap_err().to_string();
        assert!(error.contains("data_batch_3.bin is not available"), "{error}");
    }

    #[test]
    fn the_archive_is_unpacked_and_a_foreign_one_is_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, format!("{FOLDER}/{name}"), bytes).unwrap();
        };
        add("readme.html", b"<html>");
        for (place, name) in TRAIN.iter().chain([&TEST]).enumerate() {
            add(name, &file(place));
        }
        let tar = builder.into_inner().unwrap();
        let mut archive = Vec::new();
        flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast())
            .read_to_end(&mut archive)
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join(FOLDER);
        unpack(&archive, &inner).unwrap();
        assert_eq!(load_from(&inner, "http://127.0.0.1:1").unwrap().test.pixels[0], 5);
        assert!(!inner.join("readme.html").exists());
        assert!(unpack(&archive[..1000], &inner).is_err());

        // The right name is not enough: the content must be the official one.
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(ARCHIVE.name), &archive).unwrap();
        let error = load_from(&other.path().join(FOLDER), "http://127.0.0.1:1").unwrap_err();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
    }

    #[test]
    fn without_files_the_archive_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = load_from(&folder.path().join(FOLDER), "http://127.0.0.1:1").unwrap_err();
        assert!(matches!(&error, Error::Download { url, .. } if url.ends_with(ARCHIVE.name)));
    }

    #[test]
    fn the_real_files_have_the_known_means() {
        let Some(folder) = std::env::var_os(super::super::fetch::DATA_DIR_VARIABLE) else {
            return crate::test_support::skip("data", "SCALPEL_DATA_DIR is not set");
        };
        let data = load_from(&PathBuf::from(folder).join(FOLDER), "http://127.0.0.1:1").unwrap();
        let area = SHAPE[1] * SHAPE[2];
        for (channel, known) in [0.4914, 0.4822, 0.4465].into_iter().enumerate() {
            let planes = data.train.pixels.chunks(area).skip(channel).step_by(SHAPE[0]);
            let sum: f64 = planes.flatten().map(|&pixel| f64::from(pixel)).sum();
            let mean = sum / 255.0 / (data.train.len() * area) as f64;
            approx::assert_abs_diff_eq!(mean, known, epsilon = 1e-4);
        }
    }
}

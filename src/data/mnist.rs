//! MNIST, 60,000 + 10,000 handwritten digits of 28x28 pixels, from its four IDX files.

use std::path::{Path, PathBuf};

use super::fetch::{KnownFile, Places};
use super::{Dataset, Origin, Split, SyntheticCounts, idx, synthetic};
use crate::error::{Error, Result};

/// Where the files are downloaded from, unless `SCALPEL_MNIST_URL` names another mirror.
pub const MIRROR: &str = "https://ossci-datasets.s3.amazonaws.com/mnist";

const MIRROR_VARIABLE: &str = "SCALPEL_MNIST_URL";

const TRAIN_IMAGES: KnownFile = KnownFile {
    name: "train-images-idx3-ubyte",
    sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
};
const TRAIN_LABELS: KnownFile = KnownFile {
    name: "train-labels-idx1-ubyte",
    sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
};
const TEST_IMAGES: KnownFile = KnownFile {
    name: "t10k-images-idx3-ubyte",
    sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
};
const TEST_LABELS: KnownFile = KnownFile {
    name: "t10k-labels-idx1-ubyte",
    sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
};

/// The folders below the user's in which MNIST's files lie in people's collections: our own first, then those of
/// torchvision.
const FOLDERS: [&str; 8] =
    ["mnist", "mnist/raw", "mnist/MNIST/raw", "MNIST", "MNIST/raw", "MNIST/processed", "raw", "."];

/// Loads MNIST from where it lies, or downloads it. With no network at all, synthetic digits take its place after a
/// loud line, but only where nothing in the user's folder looks like MNIST.
///
/// # Errors
/// A file that is there but damaged, swapped or incomplete, or that only looks like one of MNIST's: never papered
/// over.
pub fn load(places: &Places) -> Result<Dataset> {
    load_by(places, &std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.into()))
}

/// As [`load`], from a mirror.
fn load_by(places: &Places, base: &str) -> Result<Dataset> {
    let folder = folder_of_user(places).unwrap_or_else(|| places.folder("mnist"));
    match load_from(&folder, base) {
        Err(Error::Download { url, reason }) => {
            let near = near_misses(places);
            if !near.is_empty() {
                return Err(Error::Unavailable {
                    what: "MNIST".into(),
                    reason: format!(
                        "{} may be it, but its four files are not all there, and cannot be downloaded ({url}: \
                         {reason})",
                        near.join(", ")
                    ),
                    remedy: format!(
                        "put {}, {}, {} and {}, or the same with .gz, into $SCALPEL_DATA_DIR/mnist/; --synthetic asks \
                         for drawn digits",
                        TRAIN_IMAGES.name, TRAIN_LABELS.name, TEST_IMAGES.name, TEST_LABELS.name
                    ),
                });
            }
            eprintln!(
                "WARNING: MNIST is in no folder here and cannot be downloaded ({url}: {reason}).\n\
                 WARNING: SYNTHETIC DIGITS take its place; every result says so. For real ones, put \
                 the four files of MNIST into $SCALPEL_DATA_DIR/mnist/."
            );
            Ok(synthetic::digits(SyntheticCounts::LIKE_MNIST, synthetic::SEED))
        }
        other => other,
    }
}

/// The first of [`FOLDERS`] in the user's folder that holds one of MNIST's files.
fn folder_of_user(places: &Places) -> Option<PathBuf> {
    let user = places.user.as_ref()?;
    let mut folders = FOLDERS.iter().map(|folder| user.join(folder));
    folders.find(|folder| names_in(folder).iter().any(|name| is_of_mnist(name)))
}

/// Whether a file's name says that it is one of the four.
fn is_of_mnist(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("idx3-ubyte") || name.contains("idx1-ubyte")
}

/// What lies in the user's folder and looks like MNIST, by its path.
fn near_misses(places: &Places) -> Vec<String> {
    let Some(user) = &places.user else { return Vec::new() };
    let looks_like_it = |name: &str| name.to_lowercase().contains("mnist") || is_of_mnist(name);
    let mut found: Vec<String> = names_in(user)
        .into_iter()
        .filter(|name| looks_like_it(name))
        // An empty folder of that name is none.
        .filter(|name| !user.join(name).is_dir() || !names_in(&user.join(name)).is_empty())
        .map(|name| user.join(name).display().to_string())
        .collect();
    found.sort();
    found
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Loads MNIST from `folder`, downloading into it from `base` what is not there.
fn load_from(folder: &Path, base: &str) -> Result<Dataset> {
    let read = |file: KnownFile| match file.read(folder)? {
        Some(bytes) => Ok(bytes),
        None => {
            eprintln!("downloading {} from {base}", file.name);
            file.download(base, folder)
        }
    };
    Ok(Dataset {
        name: "mnist".into(),
        origin: Origin::Folder(folder.to_owned()),
        classes: 10,
        train: split(
            TRAIN_IMAGES.name,
            &read(TRAIN_IMAGES)?,
            TRAIN_LABELS.name,
            &read(TRAIN_LABELS)?,
        )?,
        test: split(TEST_IMAGES.name, &read(TEST_IMAGES)?, TEST_LABELS.name, &read(TEST_LABELS)?)?,
    })
}

fn split(images_name: &str, images: &[u8], labels_name: &str, labels: &[u8]) -> Result<Split> {
    let ([count, height, width], pixels) = idx::parse::<3>(images_name, images)?;
    let ([labelled], labels) = idx::parse::<1>(labels_name, labels)?;
    if labelled != count {
        let expected = format!("a label for each of the {count} images of {images_name}");
        return Err(Error::malformed(labels_name, expected, format!("{labelled} labels")));
    }
    Ok(Split { shape: [1, height, width], pixels: pixels.to_vec(), labels: labels.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// An IDX file of one label.
    const CONTENT: [u8; 9] = [0, 0, 8, 1, 0, 0, 0, 1, 7];

    fn known() -> KnownFile {
        let sha256 = Box::leak(super::super::fetch::sha256(&CONTENT).into_boxed_str());
        KnownFile { name: "small-idx1-ubyte", sha256 }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A server on this machine that answers `requests` requests with `status` and `body`.
    fn serve(requests: usize, status: &'static str, body: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/mnist", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                let mut stream = stream.unwrap();
                let mut request = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while request.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&body).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_file_is_downloaded_once_checked_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let base = serve(1, "200 OK", gzip(&CONTENT));
        assert_eq!(known().read(folder.path()).unwrap(), None);
        assert_eq!(known().download(&base, folder.path()).unwrap(), CONTENT);
        assert_eq!(known().read(folder.path()).unwrap().unwrap(), CONTENT);
    }

    #[test]
    fn a_download_that_is_another_file_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let base = serve(1, "200 OK", gzip(b"another"));
        let error = known().download(&base, folder.path()).unwrap_err();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_mirror_without_the_file_or_none_at_all_is_a_download_error() {
        let folder = tempfile::tempdir().unwrap();
        let base = serve(1, "404 Not Found", Vec::new());
        let error = known().download(&base, folder.path()).unwrap_err();
        assert!(
            matches!(&error, Error::Download { reason, .. } if reason.contains("404")),
            "{error}"
        );
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = known().download(&format!("http://{closed}"), folder.path()).unwrap_err();
        assert!(matches!(error, Error::Download { .. }), "{error}");
    }

    #[test]
    fn a_truncated_a_swapped_and_a_corrupted_file_are_named_with_both_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small-idx1-ubyte.gz");
        let whole = gzip(&CONTENT);
        let mut corrupted = whole.clone();
        let middle = corrupted.len() / 2;
        corrupted[middle] ^= 0xff;
        for bytes in [whole[..whole.len() - 9].to_vec(), gzip(b"swapped"), corrupted] {
            files::replace(&path, bytes).unwrap();
            let error = known().read(folder.path()).unwrap_err();
            let Error::Checksum { path: named, expected, found } = &error else {
                panic!("{error}");
            };
            assert_eq!(named, &path);
            assert_eq!(expected, known().sha256);
            assert!(found.len() >= 64 && found != expected);
        }
    }

    #[test]
    fn a_file_is_found_under_the_names_that_people_have_and_told_by_its_content() {
        // With a dot, under the name of the compressed one but plain, and the other way round.
        for (name, bytes) in [
            ("small-idx1-ubyte", CONTENT.to_vec()),
            ("small-idx1-ubyte.gz", CONTENT.to_vec()),
            ("small-idx1-ubyte", gzip(&CONTENT)),
            ("small.idx1-ubyte", CONTENT.to_vec()),
            ("small.idx1-ubyte.gz", gzip(&CONTENT)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            files::replace(&folder.path().join(name), bytes).unwrap();
            assert_eq!(known().read(folder.path()).unwrap().unwrap(), CONTENT, "{name}");
        }
    }

    #[test]
    fn a_web_page_under_the_name_of_a_file_is_called_one() {
        let page = b"\n<!DOCTYPE html><html><body>404</body></html>";
        let folder = tempfile::tempdir().unwrap();
        files::replace(&folder.path().join("small-idx1-ubyte.gz"), page).unwrap();
        let error = known().read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("an HTML page") && error.contains("small-idx1"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let base = serve(1, "200 OK", page.to_vec());
        let error = known().download(&base, folder.path()).unwrap_err().to_string();
        assert!(error.contains("an HTML page"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// MNIST as `load` finds it with no network, in a folder of the user with these files.
    fn loaded(files: &[(&str, &[u8])]) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            files::replace(&folder.path().join(name), bytes).unwrap();
        }
        let cache = folder.path().join("cache");
        let places = Places { user: Some(folder.path().to_owned()), cache };
        load_offline(&places)
    }

    fn load_offline(places: &Places) -> Result<Dataset> {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        load_by(places, &format!("http://{closed}"))
    }

    #[test]
    fn drawn_digits_never_take_the_place_of_what_may_be_mnist() {
        for near in ["mnist.npz", "mnist/train-images-idx3-ubyte.gz.part", "MNIST/notes.txt"] {
            let error = loaded(&[(near, b"something")]).unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{near}: {error}");
            let first = near.split('/').next().unwrap();
            let text = error.to_string();
            assert!(text.contains(first) && text.contains("train-labels-idx1-ubyte"), "{text}");
        }
        assert_eq!(loaded(&[("cifar-10/readme", b"")]).unwrap().name, "synthetic-digits");
    }

    #[test]
    fn the_folders_of_other_libraries_are_looked_into() {
        for folder in ["mnist", "MNIST/raw", "mnist/MNIST/raw"] {
            let place = format!("{folder}/t10k-labels.idx1-ubyte");
            let temp = tempfile::tempdir().unwrap();
            files::replace(&temp.path().join(&place), "other").unwrap();
            let places = Places { user: Some(temp.path().to_owned()), cache: temp.path().into() };
            assert_eq!(folder_of_user(&places).unwrap(), temp.path().join(folder));
        }
    }

    #[test]
    fn labels_must_match_the_images() {
        let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..], &[5, 6]].concat();
        let error = split("images", &images, "labels", &CONTENT).unwrap_err().to_string();
        assert!(error.contains("each of the 2 images") && error.contains("1 labels"), "{error}");
    }

    #[test]
    fn the_real_files_hold_all_images() {
        let Some(folder) = std::env::var_os(super::super::fetch::DATA_DIR_VARIABLE) else {
            return crate::test_support::skip("data", "SCALPEL_DATA_DIR is not set");
        };
        let data = load_from(&PathBuf::from(folder).join("mnist"), "http://127.0.0.1:1").unwrap();
        assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
        assert_eq!(data.train.shape, [1, 28, 28]);
        assert_eq!(&data.train.labels[..5], [5, 0, 4, 1, 9]);
        let mean = data.train.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / 255.0;
        approx::assert_abs_diff_eq!(mean / data.train.pixels.len() as f64, 0.1307, epsilon = 1e-4);
    }
}

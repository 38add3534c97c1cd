//! Files of a data set: looked up in the user's folder, then in the cache, then downloaded; trusted
//! only when the SHA-256 of the uncompressed bytes is the known one.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files;

/// The variable that names the user's folder of data sets.
pub const DATA_DIR_VARIABLE: &str = "SCALPEL_DATA_DIR";

/// No file that this module reads is larger than this once uncompressed: a bound on what a damaged
/// or hostile archive can make it allocate.
const LARGEST: u64 = 1 << 30;

/// Where data sets may lie on this machine.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder that the user named, with a folder for each data set.
    pub user: Option<PathBuf>,
    /// Where downloads are kept, likewise.
    pub cache: PathBuf,
}

impl Places {
    /// `SCALPEL_DATA_DIR`, and the cache folder of this system.
    ///
    /// # Errors
    /// A `SCALPEL_DATA_DIR` that is no folder; a system with no cache folder.
    pub fn from_environment() -> Result<Self> {
        let user = std::env::var_os(DATA_DIR_VARIABLE).filter(|name| !name.is_empty());
        let user = user.map(PathBuf::from);
        if let Some(folder) = user.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(Error::Unavailable {
                what: format!("{DATA_DIR_VARIABLE}, {},", folder.display()),
                reason: "it is not a folder".into(),
                remedy: "name the folder that holds mnist/, cifar-10-batches-bin/ or imagenet/, or unset it".into(),
            });
        }
        let cache = dirs::cache_dir().ok_or_else(|| Error::Unavailable {
            what: "a cache folder".into(),
            reason: "this system names none".into(),
            remedy: "set XDG_CACHE_HOME or HOME".into(),
        })?;
        Ok(Self { user, cache: cache.join("scalpel/data") })
    }

    /// The folder for data set `name`: the user's where it exists, else the cache's.
    pub fn folder(&self, name: &str) -> PathBuf {
        let user = self.user.as_ref().map(|folder| folder.join(name));
        user.filter(|folder| folder.is_dir()).unwrap_or_else(|| self.cache.join(name))
    }
}

/// A file of a data set, known by its name and content.
#[derive(Clone, Copy, Debug)]
pub struct KnownFile {
    /// Its name, uncompressed; `<name>.gz` serves as well.
    pub name: &'static str,
    /// SHA-256 of the uncompressed bytes, in hexadecimal.
    pub sha256: &'static str,
}

impl KnownFile {
    /// The uncompressed bytes, from `folder`; `None` where the file is not there.
    ///
    /// # Errors
    /// A file that cannot be read or uncompressed, or that is not the known one.
    pub fn read(&self, folder: &Path) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.names().map(|name| folder.join(name)).find(|path| path.is_file())
        else {
            return Ok(None);
        };
        let bytes = files::read(&path)?;
        // By its content: some unpack a file and leave its name, or the other way round.
        let bytes = if bytes.starts_with(&GZIP) { self.uncompress(&path, &bytes)? } else { bytes };
        check(self.sha256, &path, &bytes)?;
        Ok(Some(bytes))
    }

    /// The names under which it lies in people's folders: with a dash before its type as the original, or with a
    /// dot, as some copies have it, each compressed or not.
    fn names(&self) -> impl Iterator<Item = String> {
        let dotted = self.name.replace("-idx", ".idx");
        let both = [self.name.to_owned(), dotted];
        both.into_iter().flat_map(|name| [format!("{name}.gz"), name])
    }

    /// Downloads `<base>/<name>.gz` into `folder`, checks it and returns the uncompressed bytes.
    /// Nothing is kept that fails the check.
    ///
    /// # Errors
    /// No answer, an answer that is no success, or another file than the known one.
    pub fn download(&self, base: &str, folder: &Path) -> Result<Vec<u8>> {
        let (url, compressed) = get(base, &format!("{}.gz", self.name))?;
        let path = folder.join(format!("{}.gz", self.name));
        not_a_page(Path::new(&url), &compressed)?;
        let bytes = self.uncompress(Path::new(&url), &compressed)?;
        check(self.sha256, Path::new(&url), &bytes)?;
        files::replace(&path, &compressed)?;
        Ok(bytes)
    }

    /// A truncated or damaged archive is reported with both checksums too, over what came out.
    fn uncompress(&self, path: &Path, compressed: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match GzDecoder::new(compressed).take(LARGEST).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(Error::Checksum {
                path: path.to_owned(),
                expected: self.sha256.into(),
                found: format!("{} and then: {error}", sha256(&bytes)),
            }),
        }
    }
}

/// An archive of a data set, known by its name and content as it is downloaded.
#[derive(Clone, Copy, Debug)]
pub struct KnownArchive {
    /// Its name.
    pub name: &'static str,
    /// SHA-256 of the archive itself, in hexadecimal.
    pub sha256: &'static str,
}

impl KnownArchive {
    /// The archive's bytes, from `folder`; `None` where it is not there.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not the known one.
    pub fn read(&self, folder: &Path) -> Result<Option<Vec<u8>>> {
        let path = folder.join(self.name);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = files::read(&path)?;
        check(self.sha256, &path, &bytes)?;
        Ok(Some(bytes))
    }

    /// Downloads `<base>/<name>` and checks it.
    ///
    /// # Errors
    /// No answer, an answer that is no success, or another archive than the known one.
    pub fn download(&self, base: &str) -> Result<Vec<u8>> {
        let (url, bytes) = get(base, self.name)?;
        check(self.sha256, Path::new(&url), &bytes)?;
        Ok(bytes)
    }
}

/// Downloads `<base>/<name>`; returns its whole address too.
fn get(base: &str, name: &str) -> Result<(String, Vec<u8>)> {
    let url = format!("{}/{name}", base.trim_end_matches('/'));
    let failed = |reason: String| Error::Download { url: url.clone(), reason };
    let mut response = ureq::get(&url).call().map_err(|error| failed(error.to_string()))?;
    let body = response.body_mut().with_config().limit(LARGEST).read_to_vec();
    let bytes = body.map_err(|error| failed(error.to_string()))?;
    Ok((url, bytes))
}

/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Refuses a web page under a data file's name: what a mirror that is gone, or that wants a login, answers with.
fn not_a_page(path: &Path, bytes: &[u8]) -> Result<()> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_lowercase();
    let start = start.trim_start();
    if !["<!doctype html", "<html", "<head", "<?xml"].iter().any(|tag| start.starts_with(tag)) {
        return Ok(());
    }
    let expected = "a file of the data set";
    let found = "an HTML page, as a web server answers that has no such file: remove it, and get the file anew";
    Err(Error::malformed(path.display().to_string(), expected, found))
}

/// Refuses bytes with another SHA-256.
fn check(expected: &str, path: &Path, bytes: &[u8]) -> Result<()> {
    let found = sha256(bytes);
    if found == expected {
        return Ok(());
    }
    not_a_page(path, bytes)?;
    Err(Error::Checksum { path: path.to_owned(), expected: expected.into(), found })
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text
}

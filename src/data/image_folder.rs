//! Images as files, a folder per class, as ImageNet is usually laid out.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::fetch::hexadecimal;
use crate::error::{Error, Result};

/// Endings of the files that are taken for images, in lower case.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Files whose sizes a listing's hash looks at: names alone would not tell one drawn set from another,
/// and all of ImageNet's would take long to ask for.
const SIZES_HASHED: usize = 10_000;

/// The image files below one folder, a folder per class.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    files: Vec<ImageFile>,
}

/// One image file.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its class: the place of its folder in alphabetical order.
    pub class: usize,
}

impl ImageFolder {
    /// Drops all images but the first `count`.
    pub fn keep_first(&mut self, count: usize) {
        self.files.truncate(count);
    }

    /// Lists the images below `root`, classes and files in alphabetical order. No image is opened. What begins with
    /// a dot, as the folders of notebooks (`.ipynb_checkpoints`) and macOS' twins of files (`._x.JPEG`) do, is no
    /// class and no image: it is left out, counted and named on stderr.
    ///
    /// # Errors
    /// A folder that cannot be read, without classes or without images.
    pub fn open(root: &Path) -> Result<Self> {
        let mut classes = Vec::new();
        let mut files = Vec::new();
        let mut hidden: Vec<PathBuf> = Vec::new();
        for folder in entries(root)?.into_iter().filter(|path| path.is_dir()) {
            if is_hidden(&folder) {
                hidden.push(folder);
                continue;
            }
            for path in entries(&folder)? {
                if is_hidden(&path) {
                    hidden.push(path);
                    continue;
                }
                let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
                if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
                    files.push(ImageFile { path, class: classes.len() });
                }
            }
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            classes.push(name);
        }
        if let Some(first) = hidden.first() {
            eprintln!(
                "{}: {} entries that begin with a dot are left out, such as {}",
                root.display(),
                hidden.len(),
                first.display()
            );
        }
        if files.is_empty() {
            let found = format!("{} class folders and no image", classes.len());
            let expected = "a folder per class with .JPEG, .jpg or .png files in it";
            return Err(Error::malformed(root.display().to_string(), expected, found));
        }
        Ok(Self { root: root.to_owned(), classes, files })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the classes, in order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, class by class.
    pub fn files(&self) -> &[ImageFile] {
        &self.files
    }

    /// The same folder with only some of its images, by place.
    pub fn select(&self, places: impl IntoIterator<Item = usize>) -> Self {
        let files = places.into_iter().filter_map(|place| self.files.get(place).cloned()).collect();
        Self { root: self.root.clone(), classes: self.classes.clone(), files }
    }

    /// A hash of the names of all files and of the sizes of some thousands: folders with the same files
    /// below them have the same, wherever they lie.
    pub fn listing_hash(&self) -> String {
        let mut hash = Sha256::new();
        let step = self.files.len().div_ceil(SIZES_HASHED).max(1);
        for (place, file) in self.files.iter().enumerate() {
            let name = file.path.strip_prefix(&self.root).unwrap_or(&file.path);
            hash.update(name.to_string_lossy().as_bytes());
            hash.update([0]);
            if place % step == 0 {
                let size = fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
                hash.update(size.to_le_bytes());
            }
        }
        hexadecimal(&hash.finalize())[..32].to_owned()
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// What a folder holds, in order of name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        paths.push(entry.map_err(Error::io("read the folder", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_folders_in_order_and_other_files_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (class, name) in
            [("n02", "b.JPEG"), ("n02", "a.jpeg"), ("n01", "c.png"), ("n01", "notes.txt")]
                .into_iter()
                .chain([("n01", "._c.png"), (".ipynb_checkpoints", "a.jpeg")])
        {
            fs::create_dir_all(folder.path().join(class)).unwrap();
            fs::write(folder.path().join(class).join(name), "").unwrap();
        }
        fs::write(folder.path().join("README.md"), "").unwrap();
        let images = ImageFolder::open(folder.path()).unwrap();
        assert_eq!(images.classes(), ["n01", "n02"]);
        let found: Vec<(usize, String)> = images
            .files()
            .iter()
            .map(|file| (file.class, file.path.file_name().unwrap().to_string_lossy().into_owned()))
            .collect();
        assert_eq!(found, [(0, "c.png".into()), (1, "a.jpeg".into()), (1, "b.JPEG".into())]);
        let last = images.select([2, 7]);
        assert_eq!((last.files().len(), last.classes().len()), (1, 2));
        assert_ne!(last.listing_hash(), images.listing_hash());
        let before = images.listing_hash();
        assert_eq!(before, ImageFolder::open(folder.path()).unwrap().listing_hash());
        fs::write(folder.path().join("n01/c.png"), "another image").unwrap();
        assert_ne!(before, images.listing_hash());

        let empty = tempfile::tempdir().unwrap();
        let error = ImageFolder::open(empty.path()).unwrap_err().to_string();
        assert!(error.contains("a folder per class") && error.contains("no image"), "{error}");
    }
}

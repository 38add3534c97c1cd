//! ImageNet (ILSVRC-2012), as its user has it: `imagenet/train/<class>/*.JPEG` and
//! `imagenet/val/<class>/*.JPEG`. It may not be redistributed, so nothing is downloaded.

use std::path::Path;

use super::fetch::Places;
use super::image_folder::ImageFolder;
use super::{ImageFolders, Origin, SyntheticCounts, synthetic};
use crate::error::{Error, Result};

/// Opens the data set where the user has put it.
///
/// # Errors
/// Folders that are not there, or whose classes differ.
pub fn load(places: &Places) -> Result<ImageFolders> {
    open("imagenet", &places.folder("imagenet"))
}

/// Digits in colour, as files in the cache: they show the pipeline at work, and nothing else.
///
/// # Errors
/// A cache that cannot be written.
pub fn synthetic(places: &Places) -> Result<ImageFolders> {
    let folder = places.cache.join("synthetic-images");
    synthetic::image_folder(&folder, SyntheticCounts::FEW, synthetic::SEED)?;
    open("synthetic-images", &folder)
}

fn open(name: &str, folder: &Path) -> Result<ImageFolders> {
    for part in ["train", "val"] {
        if !folder.join(part).is_dir() {
            return Err(Error::Unavailable {
                what: format!("the data set {name}"),
                reason: format!("{} is no folder", folder.join(part).display()),
                remedy: "get ILSVRC-2012 from image-net.org and put its images into \
                         $SCALPEL_DATA_DIR/imagenet/train/<class>/ and .../imagenet/val/<class>/ (1000 \
                         class folders each, 138 and 6.3 GB), or try the pipeline on drawn digits with \
                         --synthetic --quick"
                    .into(),
            });
        }
    }
    let (train, test) =
        (ImageFolder::open(&folder.join("train"))?, ImageFolder::open(&folder.join("val"))?);
    let differs = |a: &ImageFolder, b: &ImageFolder| {
        a.classes().iter().find(|class| !b.classes().contains(class)).cloned()
    };
    if let Some(class) = differs(&train, &test).or_else(|| differs(&test, &train)) {
        let expected = "the same class folders in train/ and val/";
        let found = format!("{class} in one of them only");
        return Err(Error::malformed(folder.display().to_string(), expected, found));
    }
    Ok(ImageFolders { name: name.into(), origin: Origin::Folder(folder.to_owned()), train, test })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_missing_and_where_it_goes_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = open("imagenet", folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("imagenet/train/<class>/") && error.contains("--synthetic"),
            "{error}"
        );

        for path in ["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let error = open("imagenet", folder.path()).unwrap_err().to_string();
        assert!(error.contains("b in one of them only"), "{error}");
        fs::create_dir_all(folder.path().join("val/b")).unwrap();
        assert_eq!(open("imagenet", folder.path()).unwrap().train.files().len(), 2);
    }
}

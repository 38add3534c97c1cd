//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Replaces `path` by what `write` writes, or leaves it as it was: a temporary file beside it,
/// `fsync`, rename, `fsync` of the folder. Missing folders are created.
///
/// # Errors
/// What the file system refuses, or what `write` returns; the temporary file is then removed.
pub fn replace_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".partial")
        .tempfile_in(folder)
        .map_err(Error::io("create a file in", folder))?;
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    let file = writer.into_inner().map_err(|error| Error::io("write", path)(error.into_error()))?;
    file.as_file().sync_all().map_err(Error::io("write", path))?;
    readable_by_all(file.as_file()).map_err(Error::io("set the permissions of", path))?;
    file.persist(path).map_err(|error| Error::io("replace", path)(error.error))?;
    // The rename itself must survive a power cut too. Not every file system can do this.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// As [`replace_with`], for content that is at hand.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    replace_with(path, |writer| {
        writer.write_all(content.as_ref()).map_err(Error::io("write", path))
    })
}

/// Removes a file, where there is one.
///
/// # Errors
/// What the file system refuses.
pub fn forget(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a folder could be made and written to, found out without leaving anything behind.
///
/// # Errors
/// What the file system refuses.
pub fn check_folder(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    tempfile::tempdir_in(there).map_err(Error::io("create the folder", path))?;
    Ok(())
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("read", path))
}

/// Reads a whole file of UTF-8 text.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}

/// Gives a temporary file the permissions of an ordinary one.
fn readable_by_all(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_content_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file");
        replace(&path, "old").unwrap();
        let failed = replace_with(&path, |writer| {
            writer.write_all(b"half").unwrap();
            Err(Error::argument("write", "all", "half"))
        });
        assert!(failed.is_err());
        assert_eq!(read_text(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        replace(&file, "").unwrap();
        let below = file.join("below");
        for refused in [replace(&below, ""), check_folder(&below)] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("create the folder") && error.contains("file"), "{error}");
        }
        check_folder(&folder.path().join("deep/er")).unwrap();
        assert!(!folder.path().join("deep").exists());
    }
}

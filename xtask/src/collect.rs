//! Merges what came back from a GPU host into the results tree. All of an archive is looked at before anything is
//! written: what is not of the tree is refused by name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;

/// Bytes of the largest file of the tree, far above any that there is.
const MOST_BYTES: u64 = 16 << 20;

/// The files of one folder of the tree, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What the folders of a kind hold.
struct Kind {
    /// How many folders deep they lie below the one that names them.
    depth: usize,
    /// What may lie in them; the last one is written last, since a folder without it is none yet.
    files: &'static [&'static str],
    /// What must: all files of one of these.
    whole: &'static [&'static [&'static str]],
    /// Whether one that is there is kept, unless it is asked to be replaced.
    kept: bool,
}

const SWEEP: Kind = Kind {
    depth: 2,
    files: &["part.json", "points.json", "environment.json", "sweep.json"],
    whole: &[&["points.json", "environment.json", "sweep.json"], &["part.json"]],
    kept: false,
};
const SPEEDUP: Kind = Kind {
    depth: 3,
    files: &["environment.json", "rows.json"],
    whole: &[&["environment.json", "rows.json"]],
    kept: false,
};
const RUN: Kind = Kind {
    depth: 3,
    files: &[
        "recipe.toml",
        "metrics.csv",
        "environment.json",
        "latency.json",
        "durations.json",
        "summary.json",
    ],
    whole: &[&["recipe.toml", "metrics.csv", "environment.json", "summary.json"]],
    kept: true,
};

impl Kind {
    /// That of the folders below one of that name.
    fn of(name: &str) -> Option<&'static Self> {
        match name {
            "breakeven" => Some(&SWEEP),
            "speedup" => Some(&SPEEDUP),
            "node_pruning" | "simd_pruning" | "combined_pruning" | "magnitude_pruning"
            | "random_pruning" => Some(&RUN),
            _ => None,
        }
    }

    fn is_whole(&self, has: impl Fn(&str) -> bool) -> bool {
        self.whole.iter().any(|files| files.iter().all(|file| has(file)))
    }
}

/// What became of the folders of an archive.
#[derive(Debug, Default, PartialEq)]
pub struct Merged {
    /// Where nothing was.
    pub new: Vec<PathBuf>,
    /// In the place of an earlier measurement.
    pub replaced: Vec<PathBuf>,
    /// The same bytes were there.
    pub same: Vec<PathBuf>,
    /// Something else is there, and stays.
    pub kept: Vec<PathBuf>,
    /// Cut before they were of use.
    pub unfinished: Vec<PathBuf>,
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = "kept as it was (an older or unfinished measurement came, or another run of the same recipe and \
                    seed: --replace-runs takes those)";
        let all = [
            ("new", &self.new),
            ("replaced", &self.replaced),
            ("the same", &self.same),
            (kept, &self.kept),
            ("unfinished, not taken", &self.unfinished),
        ];
        for (what, folders) in all {
            for folder in folders {
                writeln!(f, "{what}: {}", folder.display())?;
            }
        }
        let count = self.new.len() + self.replaced.len();
        write!(f, "{count} folders of results were merged")
    }
}

/// Merges an archive into the results tree at `tree`. A measurement takes the place of an older one of the same
/// name; a trained run takes the place of another one only with `replace_runs`.
pub fn merge(archive: &Path, tree: &Path, replace_runs: bool) -> Result<Merged> {
    let folders = read(archive)?;
    ensure!(!folders.is_empty(), "{} holds no results", archive.display());
    let mut merged = Merged::default();
    for (folder, files) in folders {
        let kind = kind_of(&folder)?;
        let target = tree.join(&folder);
        if !kind.is_whole(|file| files.contains_key(file)) {
            merged.unfinished.push(folder);
            continue;
        }
        let there = target.is_dir();
        let same = |(file, bytes): (&String, &Vec<u8>)| {
            fs::read(target.join(file)).is_ok_and(|own| own == *bytes)
        };
        if there && files.iter().all(same) {
            merged.same.push(folder);
            continue;
        }
        if there && !may_replace(kind, &target, &files, replace_runs)? {
            merged.kept.push(folder);
            continue;
        }
        write(kind, &target, &files)?;
        if there { &mut merged.replaced } else { &mut merged.new }.push(folder);
    }
    Ok(merged)
}

/// The kind of a folder, by its place in the tree.
fn kind_of(folder: &Path) -> Result<&'static Kind> {
    let mut parts = folder.iter();
    let first = parts.next().and_then(|part| part.to_str()).unwrap_or_default();
    match Kind::of(first) {
        Some(kind) if parts.count() == kind.depth => Ok(kind),
        _ => bail!("{} is no folder of the results tree", folder.display()),
    }
}

/// The results in an archive, by folder of the tree.
fn read(archive: &Path) -> Result<BTreeMap<PathBuf, Files>> {
    let context = || format!("cannot read {}", archive.display());
    let file = File::open(archive).with_context(context)?;
    let mut folders: BTreeMap<PathBuf, Files> = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(file)).entries().with_context(context)? {
        let mut entry = entry.with_context(context)?;
        let path = entry.path().with_context(context)?.into_owned();
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let refuse = |why: &str| -> Result<()> {
            bail!("{}: {} {why}; nothing was merged", archive.display(), path.display())
        };
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            refuse("is no plain file")?;
        }
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            refuse("leads out of the archive")?;
        }
        if path == Path::new("REHEARSAL") {
            bail!("{} is of a rehearsal: its numbers are no GPU's", archive.display());
        }
        let Ok(inside) = path.strip_prefix("results") else {
            let known = ["COMMIT", "page.md"].iter().any(|name| path == Path::new(name));
            if !known && !path.starts_with("logs") {
                refuse("is not what run.sh packs")?;
            }
            continue;
        };
        if inside.starts_with("plots") {
            continue; // drawn anew
        }
        let (Some(folder), Some(name)) =
            (inside.parent(), inside.file_name().and_then(|name| name.to_str()))
        else {
            refuse("has no name")?;
            continue;
        };
        let kind = kind_of(folder)
            .with_context(|| format!("{}: nothing was merged", archive.display()))?;
        if !kind.files.contains(&name) {
            refuse("is no file of the results tree")?;
        }
        if entry.size() > MOST_BYTES {
            refuse("is larger than any result")?;
        }
        let mut bytes = Vec::new();
        entry.by_ref().take(MOST_BYTES).read_to_end(&mut bytes).with_context(context)?;
        if name.ends_with(".json") && serde_json::from_slice::<Value>(&bytes).is_err() {
            refuse("is no JSON")?;
        }
        folders.entry(folder.to_owned()).or_default().insert(name.to_owned(), bytes);
    }
    Ok(folders)
}

/// Whether what came may take the place of what is there.
fn may_replace(kind: &Kind, target: &Path, files: &Files, replace_runs: bool) -> Result<bool> {
    if kind.kept {
        return Ok(replace_runs);
    }
    let there = |file: &str| target.join(file).is_file();
    // A whole measurement stays where a cut one came.
    let last = kind.files[kind.files.len() - 1];
    if there(last) && !files.contains_key(last) {
        return Ok(false);
    }
    let date = |bytes: &[u8]| {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let own = value.get("environment").unwrap_or(&value);
        own.get("date")?.as_str().map(str::to_owned)
    };
    let came = ["environment.json", "part.json"].iter().find_map(|file| date(files.get(*file)?));
    let own = fs::read(target.join("environment.json")).ok().and_then(|bytes| date(&bytes));
    Ok(own.is_none() || came >= own)
}

/// Writes a folder's files, each aside and then renamed, and removes what is of an earlier measurement.
fn write(kind: &Kind, target: &Path, files: &Files) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    for name in kind.files {
        let path = target.join(name);
        let Some(bytes) = files.get(*name) else {
            if path.is_file() {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
            continue;
        };
        let context = || format!("cannot write {}", path.display());
        let aside = target.join(format!(".{name}.partial"));
        let mut file = File::create(&aside).with_context(context)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).with_context(context)?;
        fs::rename(&aside, &path).with_context(context)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    /// An archive of these files.
    fn archive(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("results.tgz");
        let file = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        let mut archive = tar::Builder::new(file);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // As it stands: `append_data` would refuse what leads out of the archive.
            let bytes = name.as_bytes();
            header.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            archive.append(&header, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        path
    }

    const ROWS: &str = "./results/speedup/nvidia-h200-cuda/lenet-5/batch-1/rows.json";
    const WHERE: &str = "./results/speedup/nvidia-h200-cuda/lenet-5/batch-1/environment.json";

    fn dated(date: &str) -> String {
        format!("{{\"date\": \"{date}\"}}")
    }

    #[test]
    fn what_came_is_merged_and_an_older_measurement_takes_no_ones_place() {
        let (folder, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let measured = |date: &str, rows: &str| {
            let environment = dated(date);
            let path = archive(
                folder.path(),
                &[("COMMIT", "abc"), ("logs/card.log", "?"), (WHERE, &environment), (ROWS, rows)],
            );
            merge(&path, tree.path(), false).unwrap()
        };
        let place = PathBuf::from("speedup/nvidia-h200-cuda/lenet-5/batch-1");
        assert_eq!(measured("2026-11-28", "[1]").new, std::slice::from_ref(&place));
        let rows = || fs::read_to_string(tree.path().join(&place).join("rows.json")).unwrap();
        assert_eq!(rows(), "[1]");
        assert_eq!(measured("2026-11-28", "[1]").same, std::slice::from_ref(&place));
        assert_eq!(measured("2026-11-27", "[2]").kept, std::slice::from_ref(&place));
        assert_eq!(rows(), "[1]");
        assert_eq!(measured("2026-11-29", "[3]").replaced, std::slice::from_ref(&place));
        assert_eq!(rows(), "[3]");
        let rest: Vec<_> = fs::read_dir(tree.path().join(&place)).unwrap().collect();
        assert_eq!(rest.len(), 2, "nothing half-written is left");
    }

    #[test]
    fn what_is_not_of_the_tree_is_refused_by_name_and_nothing_is_merged() {
        for (name, text, expected) in [
            ("results/speedup/../../escaped/rows.json", "[]", "leads out"),
            ("results/gossip/a/b/c/rows.json", "[]", "no folder of the results tree"),
            ("results/speedup/a/rows.json", "[]", "no folder of the results tree"),
            ("results/speedup/a/b/c/program.sh", "[]", "no file of the results tree"),
            ("results/speedup/a/b/c/rows.json", "[", "is no JSON"),
            ("somewhere/else", "", "not what run.sh packs"),
            ("REHEARSAL", "", "of a rehearsal"),
        ] {
            let (folder, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let environment = dated("2026-11-28");
            let path = archive(folder.path(), &[(WHERE, &environment), (ROWS, "[]"), (name, text)]);
            let error = format!("{:#}", merge(&path, tree.path(), false).unwrap_err());
            assert!(error.contains(expected), "{name}: {error}");
            assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = merge(&archive(folder.path(), &[]), folder.path(), false).unwrap_err();
        assert!(error.to_string().contains("holds no results"));
    }

    #[test]
    fn a_trained_run_stays_unless_it_is_asked_to_go_and_a_cut_one_is_not_taken() {
        let (folder, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = "results/node_pruning/nin/0123456789ab/seed-1";
        let path = |file: &str| format!("{place}/{file}");
        let run = |accuracy: &str, whole: bool| {
            let environment = dated("2026-11-28");
            let names =
                ["recipe.toml", "metrics.csv", "environment.json", "summary.json"].map(path);
            let texts = ["", "", &environment, accuracy];
            let files: Vec<(&str, &str)> = names
                .iter()
                .map(String::as_str)
                .zip(texts)
                .take(if whole { 4 } else { 3 })
                .collect();
            archive(folder.path(), &files)
        };
        let place = PathBuf::from("node_pruning/nin/0123456789ab/seed-1");
        assert_eq!(
            merge(&run("80", false), tree.path(), false).unwrap().unfinished,
            std::slice::from_ref(&place)
        );
        assert!(!tree.path().join(&place).exists());
        assert_eq!(
            merge(&run("80", true), tree.path(), false).unwrap().new,
            std::slice::from_ref(&place)
        );
        assert_eq!(
            merge(&run("81", true), tree.path(), false).unwrap().kept,
            std::slice::from_ref(&place)
        );
        let summary = || fs::read_to_string(tree.path().join(&place).join("summary.json")).unwrap();
        assert_eq!(summary(), "80");
        let merged = merge(&run("81", true), tree.path(), true).unwrap();
        assert_eq!((merged.replaced, summary().as_str()), (vec![place], "81"));
    }

    #[test]
    fn a_part_of_a_sweep_is_taken_where_there_is_no_whole_one() {
        let (folder, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = PathBuf::from("breakeven/nvidia-h200/0123456789ab");
        let path = |file: &str| format!("results/breakeven/nvidia-h200/0123456789ab/{file}");
        let part = format!("{{\"environment\": {}}}", dated("2026-11-28"));
        let cut = || archive(folder.path(), &[(&path("part.json"), &part)]);
        assert_eq!(merge(&cut(), tree.path(), false).unwrap().new, std::slice::from_ref(&place));
        let environment = dated("2026-11-28");
        let names = ["points.json", "environment.json", "sweep.json"].map(path);
        let whole: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(["[]", &environment, "{}"]).collect();
        let whole = archive(folder.path(), &whole);
        assert_eq!(
            merge(&whole, tree.path(), false).unwrap().replaced,
            std::slice::from_ref(&place)
        );
        assert!(!tree.path().join(&place).join("part.json").exists());
        assert_eq!(merge(&cut(), tree.path(), false).unwrap().kept, std::slice::from_ref(&place));
    }
}

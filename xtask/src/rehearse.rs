//! Lets a bundle do on this machine what it would do on a GPU host: unpacked in an empty folder, with nothing of
//! the checkout, of Rust or of the network at hand, in tiny sizes, on the stand-in for CUDA and a software Vulkan.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::collect;

/// The steps that must be done for a rehearsal to have been one.
const STEPS: [&str; 12] = [
    "card",
    "smoke",
    "conformance",
    "memcheck",
    "breakeven-1",
    "breakeven-128",
    "breakeven-16",
    "breakeven-1024",
    "speedup",
    "training",
    "wgpu",
    "benches",
];

/// Rehearses `bundle`, and prints the page that it leaves. libtorch is the one that the checkout at `root` has.
pub fn run(root: &Path, bundle: &Path) -> Result<()> {
    let place = tempfile::tempdir().context("cannot create a folder")?;
    let (host, out) = (place.path().join("host"), place.path().join("out"));
    copy(bundle, &host)?;
    let libtorch = fs::canonicalize(root.join(".libtorch")).context("no .libtorch: run setup")?;
    let status = Command::new("bash")
        .arg(host.join("run.sh"))
        .args(["first", "--rehearse", "--out"])
        .arg(&out)
        .current_dir(place.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place.path())
        .env("TMPDIR", place.path())
        .env("SCALPEL_LIBTORCH", &libtorch)
        // No server is reached through it.
        .env("https_proxy", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .status()
        .context("cannot run run.sh")?;
    let page = fs::read_to_string(out.join("page.md")).context("the rehearsal left no page")?;
    for step in STEPS {
        let done = format!("| {step} | done |");
        if !page.contains(&done) {
            let log = log_of(&out.join("results.tgz"), step).unwrap_or_default();
            anyhow::bail!("the step {step} was not done; its log ends:\n{log}\n{page}");
        }
    }
    ensure!(status.success(), "run.sh ended with {status}, though its page says that all was done");
    let archive = out.join("results.tgz");
    let bytes = fs::metadata(&archive).context("the rehearsal left no archive")?.len();
    ensure!(bytes < 16 << 20, "the archive has {bytes} bytes: 16 MiB are carried home");
    let refused = collect::merge(&archive, &place.path().join("results"), false);
    let told = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(told.contains("of a rehearsal"), "collect took the numbers of a rehearsal: {told}");
    println!("rehearsed; results.tgz has {:.1} kB", bytes as f64 / 1e3);
    Ok(())
}

/// The end of a step's log, out of an archive.
fn log_of(archive: &Path, step: &str) -> Option<String> {
    let output = Command::new("tar")
        .args(["-xzOf"])
        .arg(archive)
        .arg(format!("./logs/{step}.log"))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Some(lines[lines.len().saturating_sub(40)..].join("\n"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status =
        Command::new("cp").arg("-r").arg(from).arg(to).status().context("cannot run cp")?;
    ensure!(status.success(), "cannot copy {}: make a bundle first", from.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    /// A bundle whose programs are scripts, and the folders of a host.
    struct Host {
        place: tempfile::TempDir,
    }

    impl Host {
        fn new(programs: &[(&str, &str)]) -> Self {
            let place = tempfile::tempdir().unwrap();
            let bundle = place.path().join("bundle");
            let bin = bundle.join("bin");
            fs::create_dir_all(&bin).unwrap();
            for (name, script) in programs {
                let path = bin.join(name);
                fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let packed = Command::new("tar")
                .args(["-cJf", "bin.tar.xz", "bin"])
                .current_dir(&bundle)
                .status()
                .unwrap();
            assert!(packed.success());
            fs::remove_dir_all(&bin).unwrap();
            fs::write(bundle.join("run.sh"), include_str!("../bundle/run.sh")).unwrap();
            fs::write(bundle.join("COMMIT"), "0123456789ab").unwrap();
            Self { place }
        }

        fn out(&self) -> PathBuf {
            self.place.path().join("out")
        }

        fn command(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new("bash");
            command
                .arg(self.place.path().join("bundle/run.sh"))
                .args(arguments)
                .arg("--out")
                .arg(self.out())
                .env("TMPDIR", self.place.path())
                .env("SCALPEL_LIBTORCH", self.place.path())
                .env_remove("SCALPEL_DATA_DIR")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        }

        fn page(&self) -> String {
            fs::read_to_string(self.out().join("page.md")).unwrap()
        }

        /// What a file of the archive says, if it is there.
        fn packed(&self, file: &str) -> Option<String> {
            let output = Command::new("tar")
                .arg("-xzOf")
                .arg(self.out().join("results.tgz"))
                .arg(format!("./{file}"))
                .output()
                .unwrap();
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        }
    }

    /// A `breakeven` that leaves a result named after its --columns.
    const MEASURES: &str = r#"
        while [ $# -gt 0 ]; do
          [ "$1" = --results ] && results=$2
          [ "$1" = --columns ] && columns=$2
          shift
        done
        mkdir -p "$results/breakeven/x/$columns" && echo '{}' > "$results/breakeven/x/$columns/part.json""#;

    /// A program that says which process it is and takes no notice of being told to end.
    const HANGS: &str = "echo \"launched $$\"; trap '' TERM; while true; do sleep 1; done";

    /// Panics if the process that [`HANGS`] named in a log still runs.
    fn assert_has_ended(log: &str) {
        let process = log.lines().find_map(|line| line.strip_prefix("launched ")).unwrap();
        // Of one that has ended and that nobody has waited for, this is empty.
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "it still runs: {process}");
    }

    #[test]
    fn a_step_that_fails_ends_itself_alone() {
        let host = Host::new(&[
            ("breakeven", MEASURES),
            ("speedup", "echo 'no kernel image is available'; exit 3"),
        ]);
        let status = host.command(&["breakeven-1", "smoke", "breakeven-16"]).status().unwrap();
        assert_eq!(status.code(), Some(1), "the whole says that something failed");
        let page = host.page();
        assert!(page.contains("| smoke | failed (3) |"), "{page}");
        assert!(page.contains("no kernel image is available"), "{page}");
        for n in ["1", "16"] {
            assert!(page.contains(&format!("| breakeven-{n} | done |")), "{page}");
            assert!(host.packed(&format!("results/breakeven/x/{n}/part.json")).is_some());
        }
        assert!(host.packed("logs/smoke.log").unwrap().contains("no kernel image"));
    }

    #[test]
    fn a_step_that_hangs_is_cut_and_the_others_are_done() {
        let host = Host::new(&[("breakeven", MEASURES), ("speedup", HANGS)]);
        // Of ten seconds, the hanging step takes what the budget leaves of its own limit.
        let start = Instant::now();
        host.command(&["breakeven-1", "smoke", "--budget", "6"]).status().unwrap();
        assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
        let page = host.page();
        assert!(page.contains("| breakeven-1 | done |"), "{page}");
        assert!(page.contains("| smoke | cut after"), "{page}");
        assert_has_ended(&host.packed("logs/smoke.log").unwrap());
        assert!(host.packed("results/breakeven/x/1/part.json").is_some());
    }

    #[test]
    fn told_to_end_it_packs_and_leaves_no_step_behind() {
        let host = Host::new(&[("breakeven", MEASURES), ("speedup", HANGS)]);
        let mut run = host.command(&["breakeven-1", "smoke", "breakeven-16"]).spawn().unwrap();
        // The log is not packed yet: it is looked at where it is written.
        let log = host.place.path().join("scalpel-0123456789ab/logs/smoke.log");
        let start = Instant::now();
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains("launched")) {
            assert!(start.elapsed() < Duration::from_secs(20), "no step was begun");
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = Command::new("kill").arg(run.id().to_string()).status().unwrap();
        assert!(told.success());
        assert_eq!(run.wait().unwrap().code(), Some(143));
        assert_has_ended(&host.packed("logs/smoke.log").unwrap());
        assert!(host.packed("page.md").unwrap().contains("| breakeven-1 | done |"));
        assert!(host.packed("results/breakeven/x/16/part.json").is_none(), "it was not begun");
    }

    #[test]
    fn what_is_killed_half_way_has_left_an_archive_of_what_was_done() {
        let host = Host::new(&[("breakeven", MEASURES), ("speedup", "sleep 5")]);
        let mut run = host.command(&["breakeven-1", "smoke", "breakeven-16"]).spawn().unwrap();
        let start = Instant::now();
        while !host.out().join("page.md").exists() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill().unwrap(); // SIGKILL
        run.wait().unwrap();
        assert!(host.packed("results/breakeven/x/1/part.json").is_some());
        assert!(host.packed("page.md").unwrap().contains("| breakeven-1 | done |"));
        assert!(host.packed("results/breakeven/x/16/part.json").is_none(), "it was not done");
        let merged = collect::merge(
            &host.out().join("results.tgz"),
            &host.place.path().join("results"),
            false,
        );
        assert_eq!(merged.unwrap().new, [PathBuf::from("breakeven/x/1")]);
    }

    #[test]
    fn data_that_came_in_parts_is_put_together() {
        let host = Host::new(&[("campaign", "cat \"$SCALPEL_DATA_DIR/cifar/data\"")]);
        let folder = host.place.path();
        fs::create_dir_all(folder.join("cifar")).unwrap();
        fs::write(folder.join("cifar/data"), "pixels").unwrap();
        let packed =
            Command::new("tar").args(["-czf", "-", "cifar"]).current_dir(folder).output().unwrap();
        let (first, second) = packed.stdout.split_at(packed.stdout.len() / 2);
        for (name, part) in [("c.tar.gz.1-of-2", first), ("c.tar.gz.2-of-2", second)] {
            let path = folder.join(name);
            fs::write(&path, part).unwrap();
            let taken = host.command(&["data", path.to_str().unwrap()]).status().unwrap();
            assert!(taken.success());
        }
        fs::write(folder.join("plan.toml"), "").unwrap();
        let plan = folder.join("plan.toml");
        let trained = host.command(&["train", plan.to_str().unwrap()]).status().unwrap();
        assert!(trained.success(), "{}", host.page());
        assert!(host.packed("logs/train.log").unwrap().contains("pixels"));
    }

    #[test]
    fn what_is_no_step_is_refused_before_anything_runs() {
        let host = Host::new(&[("breakeven", MEASURES)]);
        let status = host.command(&["breakeven-1", "brakeven-16"]).status().unwrap();
        assert_eq!(status.code(), Some(2));
        assert!(!host.out().join("page.md").exists());
    }
}

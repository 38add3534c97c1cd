//! What the documents say holds: commands parse, links lead somewhere, README's example is one that compiles, and the
//! page of results works in a browser.

#![cfg(feature = "experiments")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use scalpel::options::BenchArgs;
use scalpel::report::{ResultsTree, Tables};
use scalpel::{cli, models, test_support};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, generated ones too, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    for folder in ["docs", "docs/results"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            if path.extension().is_some_and(|end| end == "md") {
                paths.push(path);
            }
        }
    }
    let read = |path: PathBuf| (fs::read_to_string(root().join(&path)).unwrap(), path);
    paths.into_iter().map(read).map(|(text, path)| (path, text)).collect()
}

/// The lines of a document's code blocks that are commands of cargo.
fn cargo_commands(text: &str) -> Vec<&str> {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        inside ^= line.starts_with("```");
        inside
    });
    lines.filter(|line| line.starts_with("cargo ")).collect()
}

#[test]
fn every_command_in_the_documents_is_one() {
    let commands: BTreeMap<String, clap::Command> =
        cli::commands().into_iter().map(|one| (one.get_name().to_owned(), one)).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut parsed = 0;
    for (path, text) in documents() {
        for line in cargo_commands(&text) {
            let place = format!("{}: {line}", path.display());
            // A comment may follow.
            let line = line.split(" #").next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[1..] {
                ["run", "--release", "--bin", name, ref rest @ ..] => {
                    let command = commands.get(name).unwrap_or_else(|| panic!("{place}"));
                    let arguments = rest.strip_prefix(&["--"]).unwrap_or(rest);
                    assert!(rest.is_empty() || rest[0] == "--", "{place}");
                    let all = std::iter::once(name).chain(arguments.iter().copied());
                    if let Err(error) = command.clone().try_get_matches_from(all) {
                        panic!("{place}: {error}");
                    }
                }
                ["bench", "--bench", name, ref rest @ ..] => {
                    assert!(manifest.contains(&format!("[[bench]]\nname = \"{name}\"")), "{place}");
                    // The others are Criterion's.
                    let source = root().join("benches").join(name).with_extension("rs");
                    if fs::read_to_string(source).unwrap().contains("BenchArgs") {
                        let arguments = rest.strip_prefix(&["--"]).unwrap_or(rest);
                        let all = std::iter::once(name).chain(arguments.iter().copied());
                        BenchArgs::try_parse_from(all).unwrap_or_else(|e| panic!("{place}: {e}"));
                    }
                }
                // Those of xtask are parsed by its own test.
                ["xtask" | "build" | "test" | "fmt" | "clippy", ..] => {}
                _ => panic!("{place}: neither a binary, a bench nor xtask"),
            }
            parsed += 1;
        }
    }
    assert!(parsed > 40, "{parsed} commands");
}

#[test]
fn links_lead_to_files_that_are_there() {
    let mut seen = 0;
    for (path, text) in documents() {
        let folder = root().join(path.parent().unwrap());
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            assert!(folder.join(target).exists(), "{}: {target}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen} links");
}

/// All files and folders below a place, as they are named from the top of the checkout.
fn below(place: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(place)).unwrap() {
        let path = place.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            below(&path, found);
        }
        found.push(path);
    }
}

#[test]
fn files_that_documents_and_comments_name_are_there() {
    let mut files = Vec::new();
    for folder in
        ["src", "xtask/src", "benches", "examples", "experiments", "tests", "cuda", "shaders"]
    {
        files.push(PathBuf::from(folder));
        below(Path::new(folder), &mut files);
    }
    let sources = files.iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let read = |path: &PathBuf| (path.clone(), fs::read_to_string(root().join(path)).unwrap());
    let mut named = 0;
    for (path, text) in documents().into_iter().chain(sources.map(read)) {
        let is_source = path.extension().is_some_and(|end| end == "rs");
        let lines = text.lines().filter(|line| !is_source || line.trim_start().starts_with("//"));
        // Every other piece stands between two backticks.
        for name in lines.flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_path = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let of_ours = name.ends_with(".rs") || name.starts_with("src/");
            if is_path && of_ours {
                let found = files.iter().any(|file| file.ends_with(name));
                assert!(found, "{} names {name}, which is not there", path.display());
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named} names");
}

#[test]
fn readme_is_a_page_and_its_example_is_the_one_that_compiles() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 110, "{} lines", readme.lines().count());
    for (number, line) in readme.lines().enumerate() {
        assert!(line.chars().count() <= 110, "line {}: {line}", number + 1);
    }
    let example = fs::read_to_string(root().join("examples/run_pruned.rs")).unwrap();
    let code = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(code.contains("compile(") && example.ends_with(code), "{code}");
}

/// The page of results in a browser: it is drawn, nothing is wrong in its console, and a click sorts a table.
#[test]
fn the_page_of_results_works_in_a_browser() {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let found = browsers.iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(browser) = found else {
        return test_support::skip("chromium", "no Chromium on the PATH");
    };
    let folder = tempfile::tempdir().unwrap();
    let kept = models::kept_shares(&root().join("zoo")).unwrap();
    let tables = Tables::build(&ResultsTree::at(root().join("results")), &kept).unwrap();
    let page = folder.path().join("page.html");
    let picture = folder.path().join("page.png");
    // What a reader would do, when the page is there: the second click turns the order round.
    let click = "<script>\
        const tables = document.querySelectorAll('#techniques table');\
        const head = [...tables].at(-1).querySelector('th');\
        head.click(); head.click();\
        document.title = [...head.closest('table').tBodies[0].rows].map(row => row.cells[0].textContent).join();\
        </script></body>";
    fs::write(&page, tables.html().replace("</body>", click)).unwrap();
    let browse = |arguments: &[&str]| {
        let output = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
            .args(["--window-size=1300,1600", "--virtual-time-budget=5000"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        assert!(!log.contains("CONSOLE"), "nothing is said in the console: {log}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    browse(&[&format!("--screenshot={}", picture.display())]);
    let drawn = image::open(&picture).unwrap().into_luma8();
    let dark = drawn.pixels().filter(|pixel| pixel.0[0] < 100).count();
    assert!(dark > 5_000 && dark < drawn.len() / 2, "{dark} of {} pixels are dark", drawn.len());

    let dom = browse(&["--dump-dom"]);
    let title = dom.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    let order: Vec<&str> = title.split(',').collect();
    assert!(order.len() > 20, "{title}");
    let mut sorted = order.clone();
    sorted.sort_by_key(|name| std::cmp::Reverse(number(name)));
    assert_eq!(
        order.iter().map(|n| number(n)).collect::<Vec<_>>(),
        sorted.iter().map(|n| number(n)).collect::<Vec<_>>()
    );
}

/// The first number in a text, which a table is sorted by; texts without one come last.
fn number(text: &str) -> i64 {
    let digits: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let sign = if text.contains(&format!("-{digits}")) { -1 } else { 1 };
    digits.parse::<i64>().map_or(i64::MIN, |number| sign * number)
}

/// A program that was built here and runs in another checkout speaks of the commit it was built from.
#[test]
fn a_program_names_the_commit_that_it_was_built_from_wherever_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"];
        let done =
            Command::new("git").args(identity).args(arguments).current_dir(folder.path()).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !(git(&["init"]) && git(&["commit", "--allow-empty", "-m", "another"])) {
        return test_support::skip("git", "git makes no repository");
    }
    let version = |place: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakeven"));
        let output = command.arg("--version").current_dir(place).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let here = version(root());
    assert_eq!(here, version(folder.path()));
    assert_eq!(here.trim(), format!("breakeven {}", cli::VERSION));
}

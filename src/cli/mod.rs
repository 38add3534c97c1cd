//! The command lines of the experiment binaries: their arguments, over one shared set of options ([`options`](crate::options)), and how
//! they end. A binary is `cli::main::<Command>(run)`.
//!
//! An error of the user is one line that says what to do, whatever `RUST_BACKTRACE` says. Backtraces are for faults
//! of the program, which are panics.

mod breakeven;
#[cfg(feature = "torch")]
mod campaign;
#[cfg(feature = "torch")]
mod evaluate;
mod prune;
mod publish;
#[cfg(feature = "torch")]
mod speedup;
mod tables;
#[cfg(feature = "torch")]
mod technique;

use std::process::{ExitCode, Termination};

use clap::{Arg, ArgAction, Command, Parser, value_parser};
use clap_complete::Shell;

pub use breakeven::Breakeven;
#[cfg(feature = "torch")]
pub use campaign::Campaign;
#[cfg(feature = "torch")]
pub use evaluate::Evaluate;
pub use prune::{Files, How, Prune, Storage};
pub use publish::Publish;
#[cfg(feature = "torch")]
pub use speedup::Speedup;
pub use tables::Tables;
#[cfg(feature = "torch")]
pub use technique::{Reproduce, TechniqueCommand, technique_command};

/// The version of the package, and the commit that it was built from.
pub const VERSION: &str = env!("SCALPEL_VERSION");

/// The whole of a binary: reads its arguments, runs it, and ends as it ended.
pub fn main<C: Parser, T: Termination>(run: impl FnOnce(C) -> anyhow::Result<T>) -> ExitCode {
    exit(run(parse()))
}

/// The whole of a technique's binary: reads its arguments, runs it and prints the result.
#[cfg(feature = "torch")]
pub fn technique(technique: crate::train::recipe::Technique) -> ExitCode {
    let TechniqueCommand { recipe, options } = parse_as(technique_command(technique));
    let report = crate::experiment::run(&recipe, technique, &options);
    exit(
        report
            .and_then(|report| crate::experiment::print(&[report], options.run.json.json))
            .map_err(Into::into),
    )
}

/// The arguments of this process; ends it where they are none, or where help, the version or completions were
/// asked for.
pub fn parse<C: Parser>() -> C {
    parse_as(C::command())
}

/// As [`parse`], by a command that was given another name or text.
pub fn parse_as<C: Parser>(command: Command) -> C {
    let mut command = finished(command);
    let matches = command.clone().get_matches();
    if let Some(&shell) = matches.get_one::<Shell>("completions") {
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
        std::process::exit(0);
    }
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// A command with what all of them have: a version, and completions for shells.
fn finished(command: Command) -> Command {
    let completions = Arg::new("completions")
        .long("completions")
        .value_name("SHELL")
        .help("Print completions for a shell, such as bash")
        .value_parser(value_parser!(Shell))
        .action(ArgAction::Set)
        .exclusive(true);
    // A command of several shows its help where none is named, and needs none for completions.
    let several = command.has_subcommands();
    let command = command.subcommand_required(false).arg_required_else_help(several);
    command.version(VERSION).arg(completions)
}

/// Every binary's command by its name: what documentation is checked with.
pub fn commands() -> Vec<Command> {
    use clap::CommandFactory as _;
    #[cfg_attr(not(feature = "torch"), expect(unused_mut, reason = "more with libtorch"))]
    let mut all =
        vec![Breakeven::command(), Prune::command(), Publish::command(), Tables::command()];
    #[cfg(feature = "torch")]
    {
        use crate::train::recipe::Technique;
        all.extend([
            Campaign::command(),
            Evaluate::command(),
            Reproduce::command(),
            Speedup::command(),
        ]);
        all.extend(Technique::ALL.map(technique_command));
    }
    all.into_iter().map(finished).collect()
}

/// The exit code of what a binary came to. An error goes to stderr, in one line.
fn exit(result: anyhow::Result<impl Termination>) -> ExitCode {
    match result {
        Ok(done) => done.report(),
        Err(error) => {
            eprintln!("error: {}", one_line(&message(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, but for those whose words are in it already.
fn message(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// A text in one line; what a compiler or a parser says in several keeps its lines.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    match &lines[..] {
        [] => String::new(),
        [only] => (*only).to_owned(),
        // A log, which would be unreadable in one.
        lines if lines.len() > 4 => lines.join("\n"),
        lines => lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_well_formed_and_each_has_two_examples_that_it_accepts() {
        for command in commands() {
            command.clone().debug_assert();
            let name = command.get_name().to_owned();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.trim().strip_prefix(&*name)).collect();
            assert!(examples.len() >= 2, "{name}: {help}");
            for example in examples {
                let words = std::iter::once(&*name).chain(example.split_whitespace());
                if let Err(error) = command.clone().try_get_matches_from(words) {
                    panic!("{name}{example}: {error}");
                }
            }
            let version = command.get_version().unwrap_or_default();
            assert!(version.starts_with(env!("CARGO_PKG_VERSION")), "{version}");
            for shell in ["bash", "zsh", "fish", "powershell"] {
                let asked = [&*name, "--completions", shell];
                let matches = command.clone().try_get_matches_from(asked).unwrap();
                let &shell = matches.get_one::<Shell>("completions").unwrap();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
                assert!(String::from_utf8(script).unwrap().contains(&name), "{shell}");
            }
        }
    }

    #[test]
    fn one_name_means_one_thing_in_all_commands() {
        let mut helps = std::collections::BTreeMap::new();
        for command in commands() {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long() else { continue };
                let shared = ["device", "threads", "results", "json", "zoo-dir", "checkpoints"];
                if !shared.contains(&long) {
                    continue;
                }
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let first = helps.entry(long.to_owned()).or_insert_with(|| help.clone());
                assert_eq!(*first, help, "--{long} of {}", command.get_name());
            }
        }
        assert!(helps.len() >= 6, "{helps:?}");
    }

    #[test]
    fn help_is_plain_text() {
        fn check(command: &mut Command) {
            let help = command.render_long_help().to_string();
            let marks: Vec<&str> = help.lines().filter(|line| line.contains('`')).collect();
            assert!(marks.is_empty(), "{} quotes code: {marks:?}", command.get_name());
            command.get_subcommands_mut().for_each(check);
        }
        commands().iter_mut().for_each(check);
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = crate::error::Error::io("read", "w")(std::io::Error::other("no room"));
        assert_eq!(message(&cause.into()), "cannot read w: no room");
        let outer = anyhow::Error::msg("no file").context("the tables are not complete");
        assert_eq!(message(&outer), "the tables are not complete: no file");
    }

    #[test]
    fn few_lines_become_one_and_a_log_keeps_its_own() {
        assert_eq!(one_line("a\n  b\n"), "a b");
        let log = "a\nb\nc\nd\ne";
        assert_eq!(one_line(log), log);
        assert_eq!(one_line("plain"), "plain");
    }
}

//! The command line: a thin shell around the library's public interface, a file a command.
//!
//! Results go to stdout, everything else to stderr. Exit code 0: all done; 1: something failed, the rest was done;
//! 2: the call is wrong; 130: interrupted.

mod bench;
mod completions;
mod doctor;
mod failure;
mod figure;
mod files;
mod import;
mod info;
mod init;
mod options;
mod output;
mod plan;
mod predict;
mod run;
mod sharing;
mod svg;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use failure::{Failure, Outcome, one_line};

/// Emotions and facial action units from face images, with AWS-Net.
///
/// A model file holds two networks, one for emotions and one for action units, that borrow from one another. Results
/// go to stdout, everything else to stderr. Exit code 0: all done; 1: something failed, the rest was done; 2: the
/// call is wrong.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Say nothing on stderr but what fails
    #[arg(long, global = true)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Predict(predict::Args),
    Run(run::Args),
    Info(info::Args),
    Plan(plan::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Tune(tune::Args),
    Init(init::Args),
    Import(import::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return end(usage(&error));
        }
    };
    if cli.quiet {
        output::be_quiet();
    }
    end(run(cli.command))
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Predict(args) => predict::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Info(args) => info::main(&args),
        Command::Plan(args) => plan::main(&args),
        Command::Verify(args) => verify::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Tune(args) => tune::main(&args),
        Command::Init(args) => init::main(&args),
        Command::Import(args) => import::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Completions(args) => completions::main(&args, Cli::command()),
    }
}

/// What clap has instead of a command: help that was asked for, or a wrong call, which becomes one line.
fn usage(error: &clap::Error) -> Outcome {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return output::Results::new().line(text.trim_end());
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure::usage(format!("expected a command, found none\n\n{}", text.trim_end())));
    }
    let words = text.trim_start_matches("error: ").lines().map(str::trim).filter(|line| !line.is_empty());
    let message: Vec<&str> = words
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    Err(Failure::usage(format!("{} (--help tells more)", one_line(&message.join(" ")))))
}

fn end(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::note(message);
            }
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn failures_have_the_contracts_exit_codes() {
        let error = || "reference".parse::<awsnet::Precision>().expect_err("no precision");
        assert_eq!(Failure::from(error()).code(), 1);
        assert_eq!(Failure::usage("x").code(), 2);
        assert_eq!(Failure::interrupted("x").code(), 130);
    }
}

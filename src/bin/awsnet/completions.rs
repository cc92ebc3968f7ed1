//! `awsnet completions`: what a shell needs to complete the command's words.

use clap::Command;
use clap_complete::Shell;

use crate::failure::Outcome;
use crate::output::Results;

/// Completion for a shell, to be put where it looks
///
/// bash: awsnet completions bash > /etc/bash_completion.d/awsnet. fish: > ~/.config/fish/completions/awsnet.fish. zsh: > _awsnet in
/// a folder of its fpath.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the completion for a definition of the command line.
pub fn main(args: &Args, mut command: Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "awsnet", &mut script);
    Results::new().line(String::from_utf8_lossy(&script).trim_end())
}

//! The command line, run as users run it: arguments in; stdout, stderr, files and an exit code out.

#[path = "cli/harness.rs"]
mod harness;

#[path = "cli/commands.rs"]
mod commands;

#[path = "cli/faces.rs"]
mod faces;

#[path = "cli/faults.rs"]
mod faults;

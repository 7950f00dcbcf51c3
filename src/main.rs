//! The program: hands the command line to the library.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom::cli::run(std::env::args_os())
}

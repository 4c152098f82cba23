//! The `herald` binary: parse, start, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald::cli::main()
}

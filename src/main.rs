//! waybill's command line.

use std::process::ExitCode;

/// The system's allocator keeps much of what a change frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    waybill::cli::main()
}

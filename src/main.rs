//! waybill's command line.

use std::process::ExitCode;

/// The system's allocator keeps much of the memory that a change frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator requests huge pages, and some systems give them without a request: two megabytes in memory for a
    // single remaining object. If this can't be switched off, it only costs memory.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    waybill::cli::main()
}

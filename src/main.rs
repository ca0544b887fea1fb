//! waybill's command line.

use std::process::ExitCode;

/// The system's allocator keeps much of what a change frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, and some systems give them unasked: two megabytes in memory for a single object
    // that is left in them. Where it can't be had, memory is all that it costs.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    waybill::cli::main()
}

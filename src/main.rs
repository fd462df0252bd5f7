//! The command line: parses, dispatches, prints errors once.

use std::process::ExitCode;

use clap::Parser;

mod cli;

/// Tensors are allocated and freed by the thousand: pages given back to the kernel come back zeroed,
/// which was a quarter of all time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Turns off mimalloc's return of freed pages to the kernel.
fn keep_pages() {
    /// `mi_option_purge_delay`; -1 is "never".
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets an integer option of the allocator, before any other thread runs.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

//! The `postrider` program: hands over to [`postrider::cli`], with mimalloc as its allocator — many small allocations of
//! mixed lifetimes on many threads are what it is good at. Pages stay small: among short-lived messages, huge ones are
//! never quite empty, and held a quarter more memory without being faster.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A kernel that knows no huge pages is as well.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    postrider::cli::run()
}

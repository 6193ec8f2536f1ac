//! The `postrider` program: hands over to [`postrider::cli`], with mimalloc as its allocator — many small allocations of
//! mixed lifetimes on many threads are what it is good at.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postrider::cli::run()
}

//! One contender, one run: 64 writers that each wait for their durable yes, a consumer that reads, checks and deletes each
//! message about a second later. Prints one JSON object. `run` beside this package starts the contenders in turn, each in a
//! process and a directory of its own; `rocksdb.c` speaks the same protocol.
//!
//! ```text
//! postrider-bench-storage postrider|fjall run    DIR MESSAGES SIZE WRITERS   the whole life of MESSAGES messages
//! postrider-bench-storage postrider|fjall fill   DIR MESSAGES SIZE WRITERS   take them, delete none, exit without closing
//! postrider-bench-storage postrider|fjall reopen DIR                         how long opening takes, and what is there
//! ```
//!
//! **Fails how.** Any error, wrong content included, ends the process with a panic: there is no figure then.

mod fjall_store;
mod postrider_log;
mod workload;

use std::path::PathBuf;

use workload::{Plan, Store};

/// The relay's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["postrider", ref rest @ ..] => contend::<postrider_log::PostriderLog>(rest),
        ["fjall", ref rest @ ..] => contend::<fjall_store::FjallStore>(rest),
        _ => panic!("the contender: postrider or fjall"),
    }
}

fn contend<S: Store>(words: &[&str]) {
    match *words {
        ["run" | "fill", dir, messages, size, writers] => {
            let number = |word: &str| word.parse::<usize>().expect("a number");
            let plan = Plan {
                dir: PathBuf::from(dir),
                messages: number(messages),
                size: number(size),
                writers: number(writers),
                consumed: words[0] == "run",
            };
            workload::run::<S>(plan);
        }
        ["reopen", dir] => workload::reopen::<S>(&PathBuf::from(dir)),
        _ => panic!("run DIR MESSAGES SIZE WRITERS, fill DIR MESSAGES SIZE WRITERS or reopen DIR"),
    }
}

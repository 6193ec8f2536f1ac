//! Faults in system calls, put in by `strace`.
//!
//! One thread of a running relay is traced, not the process: strace counts calls for each thread, so that "the n-th" is the
//! n-th of this thread since it was attached, and no other thread is touched or slowed. A path could not do that: `strace -P`
//! knows whole names only, and those of bodies are not known beforehand.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, eventually};

/// An `strace` at work; it lets go when dropped.
#[derive(Debug)]
pub struct Trace(Child);

impl Trace {
    /// Attaches to these threads of a process; `faults` are values of `-e inject=`, what was traced goes to `log`.
    pub fn attach(pid: u32, threads: &[u32], faults: &[String], log: &Path) -> Self {
        assert!(!threads.is_empty(), "no thread to attach to");
        let mut command = Command::new("strace");
        command.args(arguments(faults, log));
        for thread in threads {
            command.arg("-p").arg(thread.to_string());
        }
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let strace = strace.unwrap_or_else(|e| panic!("strace: {e} (tests/run installs it)"));
        let trace = Self(strace);
        let tracer = trace.0.id().to_string();
        for thread in threads {
            eventually("strace is attached", PATIENCE, || {
                let status = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap_or_default();
                let by = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).map(str::trim);
                (by == Some(&tracer)).then_some(())
            });
        }
        trace
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Not SIGKILL: it detaches in good order.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// strace's arguments for these faults.
pub fn arguments(faults: &[String], log: &Path) -> Vec<String> {
    let calls: Vec<_> = faults.iter().map(|f| f.split(':').next().unwrap()).collect();
    let mut arguments = vec!["-q".to_owned(), "-y".to_owned(), "-s0".to_owned(), "-o".to_owned()];
    arguments.push(log.display().to_string());
    arguments.extend(["-e".to_owned(), format!("trace={}", calls.join(","))]);
    for fault in faults {
        arguments.extend(["-e".to_owned(), format!("inject={fault}")]);
    }
    arguments
}

/// The calls that were made to fail, in a log of strace's.
pub fn hits(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
}

/// The threads of a process, with their names.
pub fn threads(pid: u32) -> Vec<(u32, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    let named = ids.filter_map(|id: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{id}/comm")).ok()?;
        Some((id, name.trim_end().to_owned()))
    });
    named.collect()
}

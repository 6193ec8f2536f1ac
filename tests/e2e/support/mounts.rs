//! File systems of a test's own, on loop devices or in memory, taken down when dropped.
//!
//! Needs root and a kernel with loop devices; a test that cannot mount fails. Loop devices are made by `mount -o loop`, which
//! has the kernel free them with the last user of the mount, so none is left behind even where only a lazy unmount works.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run;

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// A file system in memory of that many bytes.
    pub fn tmpfs(at: &Path, bytes: u64) -> Self {
        Self::new(at, &["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700")], OsStr::new("tmpfs"))
    }

    /// The file system in an image file.
    pub fn image(image: &Path, kind: &str, at: &Path) -> Self {
        Self::new(at, &["-t", kind, "-o", "loop,noatime"], image.as_os_str())
    }

    fn new(at: &Path, arguments: &[&str], what: &OsStr) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        arguments.extend([what, at.as_os_str()]);
        run("mount", &arguments);
        Self { at: at.to_owned() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = |arguments: &[&str]| {
            let mut command = Command::new("umount");
            let status = command.args(arguments).arg(&self.at).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        // Lazily where somebody still holds a file open, as when a test fails with its relay running.
        if !unmounted(&[]) && !unmounted(&["-l"]) {
            super::account(&format!("{} could not be unmounted", self.at.display()));
        }
    }
}

/// Makes an image file of that size, sparse, and a file system in it by `mkfs.KIND`.
pub fn make_image(image: &Path, bytes: u64, kind: &str, arguments: &[&str]) {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    arguments.push(image.as_os_str());
    run(&format!("mkfs.{kind}"), &arguments);
}

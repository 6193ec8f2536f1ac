//! A cell: a mail server among processes and below mounts of its own, so that it finds its users, its configuration and its
//! spool where it was built to look for them, and nothing of this machine's is touched.
//!
//! In the cell `/etc` and `/var` are directories of the test's, `/run` is empty, `/mnt` is the unpacked package and `/srv` has
//! a certificate. Loopback is everybody's. The first process ends when the cell is dropped or the test's thread goes, and the
//! kernel ends all others with it, whatever users they are.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::keys;

/// The users that the servers run as, with the numbers of their groups.
const USERS: [(&str, u32); 5] =
    [("nobody", 65_534), ("postfix", 901), ("Debian-exim", 902), ("opensmtpd", 903), ("opensmtpq", 904)];
const POSTDROP: u32 = 905;

/// Mounts, then runs the server. Arguments: the cell's directory, the package's, and a line for a shell. The shell stays: the
/// kernel forgets to end a process with its parent once it has changed its user, as servers do.
const ENTER: &str = "mount --bind \"$0/etc\" /etc && mount --bind \"$0/var\" /var && mount --bind \"$0/srv\" /srv && \
                     mount --bind \"$1\" /mnt && mount -t tmpfs tmpfs /run && { eval \"$2\" & wait $!; }";

/// A directory of the cell, made if it is missing, or a file that every cell has; and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned(pub &'static str, pub &'static str);

/// The server in its cell.
#[derive(Debug)]
pub(super) struct Cell {
    dir: tempfile::TempDir,
    process: Child,
}

impl Cell {
    /// Starts what `line` says, for a shell.
    pub(super) fn start(package: &Path, owned: &[Owned], files: &[(&str, String)], line: &str) -> Self {
        assert!(package.exists(), "{} is missing: run tests/setup", package.display());
        let dir = tempfile::Builder::new().prefix("postrider-interop-").tempdir().unwrap();
        furnish(dir.path());
        for Owned(name, owner) in owned {
            let path = dir.path().join(name);
            if !path.exists() {
                std::fs::create_dir_all(&path).unwrap();
            }
            let id = USERS.iter().find(|(user, _)| user == owner).map_or(0, |(_, id)| *id);
            chown(&path, Some(id), Some(id)).unwrap();
        }
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let said = std::fs::File::create(dir.path().join("said")).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", ENTER])
            .args([dir.path(), package])
            .arg(line)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap_or_else(|e| panic!("setpriv: {e} (run tests/setup)"));
        Self { dir, process }
    }

    /// A file of the cell.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where it lies.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// True while its first process lives.
    pub(super) fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Nobody tells when the last of the others has gone; until then the directory cannot be removed for good.
        for _ in 0..1_000 {
            if inmates(self.dir.path()).is_empty() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// The processes below the mounts of the cell that lies there.
pub(super) fn inmates(dir: &Path) -> Vec<String> {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let inside = processes
        .filter(|process| std::fs::read_to_string(process.join("mountinfo")).is_ok_and(|mounts| mounts.contains(name)));
    inside.map(|process| std::fs::read_to_string(process.join("comm")).unwrap_or_default()).collect()
}

/// What every cell has.
fn furnish(dir: &Path) {
    // The servers' users must be able to pass.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["etc", "var", "srv"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    symlink("/run", dir.join("var/run")).unwrap();
    let users = USERS.map(|(name, id)| format!("{name}:x:{id}:{id}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"));
    let groups = USERS.map(|(name, id)| format!("{name}:x:{id}:\n"));
    let (certificate, private_key) = keys::certificate("mx.interop.example");
    for (name, content) in [
        ("etc/passwd", format!("root:x:0:0::/:/bin/sh\n{}", users.concat())),
        ("etc/group", format!("root:x:0:\n{}postdrop:x:{POSTDROP}:\n", groups.concat())),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nservices: files\n".to_owned()),
        ("etc/hosts", "127.0.0.1 localhost\n".to_owned()),
        ("etc/services", "smtp 25/tcp\n".to_owned()),
        ("srv/mx.crt", certificate),
        ("srv/mx.key", private_key),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    std::fs::set_permissions(dir.join("srv/mx.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::copy("/etc/ld.so.cache", dir.join("etc/ld.so.cache")).unwrap();
}

//! Small files that are replaced as a whole, and the sealed line that some of them are.
//!
//! ```text
//! {"version":1,…}        one line of JSON
//! crc32 1a2b3c4d         of that line, without its end
//! ```
//!
//! **Promises.** After a crash there is the old file or the new one; what [`replace`] has returned is on stable storage. A line
//! that is not as it was written is not taken for one.
//!
//! **Does not know** what a file says, nor its version.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Disk;

/// Writes a file beside this one, under its name and `.new`, syncs it, and puts it in its place. Blocks.
///
/// # Errors
/// The disk's; then the old file may still be there, or the new one.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_added_extension("new");
    match disk.remove(&unfinished) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = disk.create(&unfinished)?;
    file.write_at(&mut [IoSlice::new(bytes)], 0)?;
    file.sync()?;
    disk.rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

/// A sealed line that says this.
///
/// # Errors
/// It cannot be written as JSON.
pub fn sealed(what: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(what)?;
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(format!("\ncrc32 {checksum:08x}\n").as_bytes());
    Ok(bytes)
}

/// The JSON of a sealed line.
///
/// # Errors
/// What is wrong with it, in words.
pub fn unsealed(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
    let (line, rest) = text.split_once('\n').ok_or("its end is missing")?;
    if rest != format!("crc32 {:08x}\n", crc32fast::hash(line.as_bytes())) {
        return Err("its checksum does not match");
    }
    Ok(line)
}

/// What stands in a file that is a sealed line of this version and no longer than that.
///
/// # Errors
/// The disk's; `InvalidData` if it is not as it was written, `Unsupported` if it is of another version.
pub fn read<T: DeserializeOwned>(path: &Path, version: u32, bytes_max: u64) -> io::Result<T> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    versioned(&bytes, version)
}

/// What a sealed line of this version says.
///
/// # Errors
/// As [`read`].
pub fn versioned<T: DeserializeOwned>(bytes: &[u8], version: u32) -> io::Result<T> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let line = unsealed(bytes).map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
    let Version { version: found } = serde_json::from_str(line)?;
    if found != version {
        let why = format!("it is of version {found}, and this program reads {version}");
        return Err(io::Error::new(ErrorKind::Unsupported, why));
    }
    Ok(serde_json::from_str(line)?)
}

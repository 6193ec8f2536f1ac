//! The faulty disk's calls.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::super::disk::{Disk, File};
use super::{Call, Change, FaultyDisk, Handle, Inode, Lies, Lock, World, done, set_name, write};

impl FaultyDisk {
    fn handle(&self, inode: u64, life: u64) -> Arc<dyn File> {
        Arc::new(Handle { world: self.0.clone(), inode, life })
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        if self.0.lock().powered { Ok(()) } else { Err(io::Error::other("no power")) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.0.lock();
        let own = world.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(own.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = self.0.lock();
        if world.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let cut = world.call(Call::Create)?;
        let inode = world.next_inode;
        world.next_inode += 1;
        world.files.insert(inode, Inode::default());
        world.name(path, Some(inode));
        done(cut)?;
        Ok(self.handle(inode, world.life))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let world = self.0.lock();
        let inode = *world.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.handle(inode, world.life))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let world = &mut *self.0.lock();
        let inode = *world.names.get(from).ok_or(ErrorKind::NotFound)?;
        let cut = world.call(Call::Rename)?;
        let together = vec![(to.to_owned(), Some(inode)), (from.to_owned(), None)];
        together.iter().cloned().for_each(|(path, inode)| set_name(&mut world.names, path, inode));
        world.name_changes.push(together);
        done(cut)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        if !world.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let cut = world.call(Call::Remove)?;
        world.name(path, None);
        done(cut)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let world = &mut *self.0.lock();
        done(world.call(Call::SyncDir)?)?;
        for together in std::mem::take(&mut world.name_changes) {
            if together.iter().any(|(path, _)| path.parent() != Some(dir)) {
                world.name_changes.push(together);
                continue;
            }
            together.into_iter().for_each(|(path, inode)| set_name(&mut world.durable_names, path, inode));
        }
        Ok(())
    }

    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.0.lock().available)
    }

    fn may_block(&self) -> bool {
        false
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn std::fmt::Debug + Send + Sync>>> {
        let mut world = self.0.lock();
        if world.locked.contains_key(path) {
            return Ok(None);
        }
        let life = world.life;
        world.locked.insert(path.to_owned(), life);
        Ok(Some(Box::new(Lock { world: self.0.clone(), path: path.to_owned(), life })))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut world = self.world.lock();
        if world.locked.get(&self.path) == Some(&self.life) {
            world.locked.remove(&self.path);
        }
    }
}

impl Handle {
    /// The world, if there is power and this handle is of this life.
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world.lock();
        if !world.powered || world.life != self.life {
            return Err(io::Error::other("no power, or a handle from before it went"));
        }
        Ok(world)
    }

    fn change(&self, call: Call, change: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut world = self.world()?;
        let cut = world.call(call)?;
        world.files.get_mut(&self.inode).map(change);
        done(cut)
    }
}

impl File for Handle {
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        parts.iter().for_each(|p| bytes.extend_from_slice(p));
        let mut world = self.world()?;
        let result = world.call(Call::Write);
        if result.is_err() {
            bytes.truncate(world.random.usize(..=bytes.len().saturating_sub(1)));
        }
        world.catch_up();
        if world.lies == Lies::AboutWrites && result.is_ok() {
            world.late = Some((self.inode, offset as usize, bytes));
        } else if let Some(inode) = world.files.get_mut(&self.inode) {
            write(&mut inode.now, offset as usize, &bytes);
            inode.pending.push(Change::Write(offset as usize, bytes));
        }
        done(result?)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        world.catch_up();
        let Some(inode) = world.files.get(&self.inode) else { return Ok(0) };
        let from = inode.now.len().min(offset as usize);
        let n = buffer.len().min(inode.now.len() - from);
        buffer[..n].copy_from_slice(&inode.now[from..from + n]);
        Ok(n)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.world.lock().files.get(&self.inode).map_or(0, |f| f.now.len() as u64))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change(Call::SetLength, |inode| {
            inode.now.resize(length as usize, 0);
            inode.pending.push(Change::Length(length as usize));
        })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        {
            let world = self.world.lock();
            if !world.can_allocate {
                return Err(ErrorKind::Unsupported.into());
            }
            let own = world.files.get(&self.inode).map_or(0, |f| f.now.len() as u64);
            if length.saturating_sub(own) > world.available {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        self.change(Call::Allocate, |inode| {
            inode.now.resize(length as usize, 0);
            inode.pending.push(Change::Length(length as usize));
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        done(world.call(Call::Sync)?)?;
        let lies = world.lies;
        let Some(inode) = world.files.get_mut(&self.inode) else { return Ok(()) };
        let cut = matches!(inode.pending.last(), Some(Change::Length(length)) if *length == inode.now.len());
        match lies {
            Lies::Always | Lies::AboutWrites => {}
            Lies::AboutCuts if cut => {}
            Lies::Never | Lies::AboutCuts => inode.sync(),
        }
        Ok(())
    }
}

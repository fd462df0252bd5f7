//! A file that one process at a time has open.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// A file that only this process writes, until it is dropped. The lock ends with the process, however
/// that ends.
#[derive(Debug)]
pub(crate) struct LockedFile(pub File);

impl LockedFile {
    /// Opens the file at `path` to read and to append; `None` while another process has it.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Closing it is not enough: a child between its fork and its exec has the file open too.
        let _ = self.0.unlock();
    }
}

//! Files mapped into memory: floats in a file without a name, which take no more memory than the system can spare and are
//! gone with the program; and files of others to read.

use crate::error::{Error, Result};
#[cfg(unix)]
use memmap2::{Advice, UncheckedAdvice};
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Room for blocks of one length.
pub struct BlockFile {
    folder: PathBuf,
    file: Mutex<File>,
    map: Arc<Mmap>,
    /// Values of a block.
    len: usize,
}

/// A block that was stored.
#[derive(Clone)]
pub struct Block {
    map: Arc<Mmap>,
    bytes: Range<usize>,
}

impl BlockFile {
    /// Room for `blocks` blocks of `len` values, on the volume of `folder`.
    pub fn new(folder: &Path, blocks: usize, len: usize) -> Result<Self> {
        let wrong = |error: std::io::Error| no_room(folder, blocks * len, &error);
        let file = tempfile::tempfile_in(folder).map_err(wrong)?;
        file.set_len((blocks * len * size_of::<f32>()) as u64).map_err(wrong)?;
        // SAFETY: the file has no name, so that nobody else writes to it; `store` writes blocks that nobody has been
        // given yet, once each.
        let map = unsafe { Mmap::map(&file) }.map_err(wrong)?;
        Ok(Self { folder: folder.to_path_buf(), file: Mutex::new(file), map: Arc::new(map), len })
    }

    /// Writes block `index`, which must be new. What does not fit the volume is an error here, not a fault when it
    /// is read.
    ///
    /// # Panics
    /// Where the block is not as long as the others.
    pub fn store(&self, index: usize, values: &[f32]) -> Result<Block> {
        assert_eq!(values.len(), self.len, "blocks of one file have one length");
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let start = index * bytes.len();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start as u64))
            .and_then(|_| file.write_all(bytes))
            .map_err(|error| no_room(&self.folder, self.len, &error))?;
        Ok(Block { map: self.map.clone(), bytes: start..start + bytes.len() })
    }
}

impl Deref for Block {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let len = self.bytes.len() / size_of::<f32>();
        // SAFETY: the range lies inside the map, begins at a multiple of four bytes and was written before `self` was
        // made; others may be written meanwhile, so that no slice of the whole map may exist.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.bytes.start).cast(), len) }
    }
}

/// The first bytes of a file that is only ever appended to, for reading in place.
pub struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps the first `len` bytes of the file at `path`, which must have them. Whoever cuts the file shorter while it is
    /// mapped ends the program (SIGBUS), as with any mapped file.
    ///
    /// # Errors
    /// Those of the file, and one that is shorter.
    pub fn open(path: &Path, len: usize) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io(path, &error);
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found < len as u64 {
            let problem = format!("{found} bytes, {len} expected");
            return Err(Error::new(path.display(), problem, "the file is cut short: get it again"));
        }
        // SAFETY: its owner appends to the file and never writes to bytes that are there, so that what is mapped does
        // not change; the length was looked at.
        let map = unsafe { MmapOptions::new().len(len).map(&file) }.map_err(failed)?;
        Ok(Self { map })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Asks the system to read a part ahead of its use.
    pub fn prefetch(&self, range: Range<usize>) {
        // A hint: what it cannot do comes when it is read.
        #[cfg(unix)]
        let _ = self.map.advise_range(Advice::WillNeed, range.start, range.len());
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Gives the pages back that were read so far, so that they do not count as memory of the program; they stay in the
    /// system's cache as long as it likes.
    pub fn release(&self) {
        // SAFETY: a shared map of a file that nobody writes to through it: a page that is needed again is read from the
        // file, with the bytes that it had.
        #[cfg(unix)]
        let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}

fn no_room(folder: &Path, values: usize, error: &std::io::Error) -> Error {
    let mega = (values * size_of::<f32>()).div_ceil(1 << 20);
    let problem = format!("{mega} MiB of planes cannot be kept there ({error})");
    Error::new(folder.display(), problem, "make room, or name another place with --out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_was_stored_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = BlockFile::new(folder.path(), 3, 5000).unwrap();
        let block = |seed: usize| -> Vec<f32> { (0..5000).map(|i| (i * seed) as f32).collect() };
        let stored: Vec<Block> = [2, 0, 1].iter().map(|&i| file.store(i, &block(i)).unwrap()).collect();
        drop(file);
        for (stored, i) in stored.iter().zip([2, 0, 1]) {
            assert_eq!(stored[..], block(i));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_read_in_place_also_after_its_pages_were_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let bytes: Vec<u8> = (0..100_000).map(|i| (i * i / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = MappedFile::open(&path, 90_000).unwrap();
        map.prefetch(10..5000);
        assert_eq!(map.bytes(), &bytes[..90_000]);
        map.release();
        assert_eq!(map.bytes(), &bytes[..90_000]);
        let error = MappedFile::open(&path, 100_001).err().unwrap().to_string();
        assert!(error.contains("100000 bytes, 100001 expected"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_one_line() {
        let error = BlockFile::new(Path::new("no/such/folder"), 1, 16).err().unwrap().to_string();
        assert!(error.starts_with("no/such/folder: ") && error.contains("--out"), "{error}");
    }
}

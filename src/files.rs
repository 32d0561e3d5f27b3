//! Output files: written whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes `path` through a temporary file in the same folder that takes the name only when it is
/// complete and on the disk, so that a crash or a full disk leaves what was there before.
///
/// A link is followed, an existing file keeps its permissions, a new one gets those of the umask. What
/// is no regular file (a pipe, a device) is written to directly, because a rename would replace it.
///
/// # Errors
/// One line that names `path`: a missing folder, a folder in the way, no permission, a full disk, or
/// what `write` returned.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = fs::metadata(&target).ok();
    match &existing {
        Some(metadata) if metadata.is_dir() => {
            Err(Error::io(path, &io::Error::from(io::ErrorKind::IsADirectory)))
        }
        Some(metadata) if !metadata.is_file() => {
            let opened = File::options().write(true).open(&target);
            opened.and_then(|file| fill(&file, write)).map_err(|error| Error::io(path, &error))
        }
        _ => replace(path, &target, existing.map(|metadata| metadata.permissions()), write),
    }
}

fn replace(
    path: &Path,
    target: &Path,
    permissions: Option<fs::Permissions>,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let failed = |error: &io::Error| Error::io(path, error);
    let folder = folder_of(target);
    if !folder.is_dir() {
        return Err(Error::new(
            path.display(),
            format_args!("the folder {} does not exist", folder.display()),
            "create it or name another",
        ));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hexcuda-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // The kind alone: the message would name the temporary file.
    let temporary = builder.tempfile_in(&folder).map_err(|error| failed(&io::Error::from(error.kind())))?;
    fill(temporary.as_file(), write).map_err(|error| failed(&error))?;
    if let Some(permissions) = permissions {
        temporary.as_file().set_permissions(permissions).map_err(|error| failed(&error))?;
    }
    temporary.as_file().sync_all().map_err(|error| failed(&error))?;
    temporary.persist(target).map_err(|error| failed(&error.error))?;
    Ok(())
}

fn fill(file: &File, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    write(&mut writer)?;
    writer.flush()
}

fn folder_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        write_atomic(&path, |writer| writer.write_all(b"old")).unwrap();
        let error = write_atomic(&path, |writer| {
            writer.write_all(&[0; 1 << 17])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("out.txt") && message.contains("free some space"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["out.txt"]);
    }

    #[test]
    fn a_writer_can_go_back_to_mend_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        write_atomic(&path, |writer| {
            writer.write_all(b"?bc")?;
            writer.seek(SeekFrom::Start(0))?;
            writer.write_all(b"a")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn folders_and_missing_folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = write_atomic(folder.path(), |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("name a file, not a folder"), "{message}");
        let missing = folder.path().join("missing/out.txt");
        let message = write_atomic(&missing, |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("missing does not exist; create it"), "{message}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error_and_stays_a_device() {
        use std::os::unix::fs::FileTypeExt;
        let full = Path::new("/dev/full");
        let message = write_atomic(full, |writer| writer.write_all(b"x")).unwrap_err().to_string();
        assert!(message.contains("/dev/full") && message.contains("free some space"), "{message}");
        assert!(fs::metadata(full).unwrap().file_type().is_char_device());
    }

    #[cfg(unix)]
    #[test]
    fn new_files_get_the_permissions_that_a_plain_create_gives() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        File::create(folder.path().join("plain")).unwrap();
        write_atomic(&folder.path().join("ours"), |_| Ok(())).unwrap();
        assert_eq!(mode("ours"), mode("plain"));

        fs::set_permissions(folder.path().join("ours"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink(folder.path().join("ours"), folder.path().join("link")).unwrap();
        write_atomic(&folder.path().join("link"), |writer| writer.write_all(b"through")).unwrap();
        assert_eq!(mode("ours") & 0o777, 0o640);
        assert_eq!(fs::read(folder.path().join("ours")).unwrap(), b"through");
        assert!(folder.path().join("link").is_symlink());
    }
}

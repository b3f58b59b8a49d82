//! Secrets come from files that nobody else can read, and from nowhere else (S-97).

use rustix::fs::{FileType, fstat};
use std::{fs::File, io::Read as _, path::Path};
use zeroize::Zeroizing;

/// No secret of ours is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a secret. A pipe will do: `<(pass show sessiond)`.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let name = path.display();
    let unreadable = |error: std::io::Error| format!("names {name}, which cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that it cannot be another one by the time it is read.
    let about = fstat(&file).map_err(|errno| unreadable(errno.into()))?;
    if FileType::from_raw_mode(about.st_mode) == FileType::Directory {
        return Err(format!("names {name}, which is a directory"));
    }
    if about.st_mode & 0o077 != 0 {
        let mode = about.st_mode & 0o777;
        return Err(format!(
            "names {name}, which others may read or write (mode {mode:04o}): run chmod 600 {name}"
        ));
    }
    let us = rustix::process::geteuid();
    if about.st_uid != us.as_raw() && about.st_uid != 0 {
        return Err(format!("names {name}, which belongs to another user"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= MAX_BYTES => Ok(text),
        Ok(_) | Err(_) => Err(format!("names {name}, which is larger than {MAX_BYTES} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn secret_with_mode(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "s3cret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn s_97_a_secret_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let (_dir, path) = secret_with_mode(mode);
            let reason = read(&path).unwrap_err();
            assert!(reason.contains("chmod 600"), "{reason}");
            assert!(!reason.contains("s3cret"));
        }
    }

    #[test]
    fn s_97_a_secret_of_ones_own_is_read() {
        for mode in [0o600, 0o400] {
            let (_dir, path) = secret_with_mode(mode);
            assert_eq!(*read(&path).unwrap(), "s3cret");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err());
        assert!(read(&dir.path().join("missing")).is_err());
    }
}

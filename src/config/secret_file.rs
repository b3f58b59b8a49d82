//! Secrets come from files that nobody else can read, and from nowhere else (S-97).

use super::value::Value;
use rustix::{
    fs::{FileType, fstat},
    process::geteuid,
};
use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};
use zeroize::Zeroizing;

/// No secret of ours is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// A file that holds a secret. A pipe will do: `<(pass show sessiond)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The file at this path, which is not looked at before it is read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Reads the secret and makes something of it.
    ///
    /// # Errors
    /// If the file cannot be read, if others than its owner may, if the owner is neither this process's user nor root, or what is
    /// wrong with the secret. The sentence follows on the name of a flag or a setting, and quotes nothing of the secret unless
    /// `parse` does.
    pub fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        let name = self.0.display();
        let text = self.text().map_err(|reason| format!("names {name}, {reason}"))?;
        parse(&text).map_err(|reason| format!("names {name}: {reason}"))
    }

    fn text(&self) -> Result<Zeroizing<String>, String> {
        let unreadable = |error: io::Error| format!("which cannot be read: {error}");
        let file = File::open(&self.0).map_err(unreadable)?;
        // The open file is examined, so that it cannot be another one by the time it is read.
        let about = fstat(&file).map_err(|errno| unreadable(errno.into()))?;
        if FileType::from_raw_mode(about.st_mode) == FileType::Directory {
            return Err("which is a directory".to_owned());
        }
        if about.st_mode & 0o077 != 0 {
            let mode = about.st_mode & 0o777;
            let name = self.0.display();
            return Err(format!(
                "which others may read or write (mode {mode:04o}): run chmod 600 {name}"
            ));
        }
        if about.st_uid != geteuid().as_raw() && about.st_uid != 0 {
            return Err("which belongs to another user".to_owned());
        }
        let mut text = Zeroizing::new(String::new());
        let length = file
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        match u64::try_from(length).is_ok_and(|length| length <= MAX_BYTES) {
            true => Ok(text),
            false => Err(format!("which is larger than {MAX_BYTES} bytes")),
        }
    }
}

#[cfg(feature = "server")]
impl super::sources::Given<Option<SecretFile>> {
    /// What the file holds, if one is named and nothing is wrong with it; what is wrong is noted.
    pub(super) fn read<T>(
        &self,
        values: &mut super::sources::Values,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let read = self.as_ref()?.read(|text| {
            values.note_content(self, text.as_bytes());
            parse(text)
        });
        read.map_err(|reason| values.reject(self, &reason)).ok()
    }
}

impl Value for SecretFile {
    const KIND: &'static str = "FILE";

    fn parse(text: &str) -> Result<Self, String> {
        PathBuf::parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn read(path: &Path) -> Result<String, String> {
        SecretFile::new(path).read(|text| Ok(text.to_owned()))
    }

    fn secret_with_mode(mode: u32) -> (tempfile::TempDir, PathBuf) {
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
            assert_eq!(read(&path).unwrap(), "s3cret");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err());
        assert!(read(&dir.path().join("missing")).is_err());
    }
}

//! A wall clock for programs under test that can be set while they run. All other clocks, such as the time since boot, go on.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::OnceLock,
};

/// How far a wall clock is wrong, in milliseconds; positive if it is ahead.
pub type Error = i64;

/// An hour ahead.
pub const HOUR: Error = 3_600_000;

/// See `wall_clock.c`.
const FILE: &str = "WALL_CLOCK_FILE";

/// What programs live by that were started under it.
pub struct WallClock {
    path: PathBuf,
    file: File,
}

impl WallClock {
    /// A clock that is right.
    pub fn right_in(dir: &Path) -> Self {
        Self::at(&dir.join("wall-clock"))
    }

    /// The clock that this file keeps; if there is none, one that is right.
    pub fn at(path: &Path) -> Self {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.unwrap();
        file.set_len(size_of::<Error>() as u64).unwrap();
        Self {
            path: path.to_owned(),
            file,
        }
    }

    /// The file that it is kept in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has a program live by this clock, which is to be started.
    pub fn govern(&self, command: &mut Command) {
        command.env(FILE, &self.path).env("LD_PRELOAD", library());
    }

    /// Sets it, for every process that uses it.
    pub fn set_wrong_by(&self, error: Error) {
        let nanos = error * 1_000_000;
        self.file.write_all_at(&nanos.to_ne_bytes(), 0).unwrap();
    }
}

/// What stands between a program and the system's clock.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wall_clock.c");
        let built = std::env::current_exe()
            .unwrap()
            .with_file_name("libwall_clock.so");
        // Another run of these tests may use the one that is there.
        let new = built.with_extension(process::id().to_string());
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&new)
            .arg(source);
        assert!(compiler.status().unwrap().success(), "cc cannot compile {source}");
        fs::rename(&new, &built).unwrap();
        built
    })
}

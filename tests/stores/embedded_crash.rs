//! The embedded store, killed in the middle of its work again and again: what was acknowledged is what is found.
use sessiond::{
    domain::{Timestamp, TokenDigest, UserId},
    store::{Created, EmbeddedStore, NewSession, Rotation, SessionKey, SessionStore},
};
use std::{
    collections::HashMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};
use testkit::{
    samples::{bare_session, digest, user_id},
    waiting::PATIENCE,
};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// Where the killed process finds its directory; only it has this.
const DATA_DIR: &str = "SESSIOND_CRASH_TEST_DIR";

const ROUNDS: usize = 12;

/// What the killed process said of a session last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Its creation was acknowledged.
    Lives,
    /// Its end, or its beginning, has been asked for.
    Unknown,
    /// Its end was acknowledged.
    Dead,
}

fn say(said: Said, digest: &TokenDigest) {
    let letter = match said {
        Said::Lives => 'l',
        Said::Unknown => 'u',
        Said::Dead => 'd',
    };
    let hex: String = digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Straight to the pipe, in one piece: what was said is said when the kill comes.
    let line = format!("\nsaid {letter} {hex}\n");
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

fn heard(line: &str) -> Option<(TokenDigest, Said)> {
    let (letter, hex) = line.strip_prefix("said ")?.split_once(' ')?;
    let said = match letter {
        "l" => Said::Lives,
        "u" => Said::Unknown,
        "d" => Said::Dead,
        _ => return None,
    };
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[place..place + 2], 16).ok()?;
    }
    Some((TokenDigest::from_bytes(bytes), said))
}

async fn log_in(store: &EmbeddedStore, user: UserId) -> TokenDigest {
    let new = NewSession {
        max_per_user: 1000,
        ..bare_session(user, store.epoch(user).await.unwrap(), START)
    };
    let digest = new.digest;
    say(Said::Unknown, &digest);
    assert_eq!(store.create(new, START).await.unwrap(), Created::Yes);
    say(Said::Lives, &digest);
    digest
}

/// Logs users in and out in every way there is, for ever.
async fn use_without_end(store: Arc<EmbeddedStore>) {
    loop {
        let user = user_id();
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(log_in(&store, user).await);
        }
        let destroyed = sessions.remove(0);
        say(Said::Unknown, &destroyed);
        store
            .destroy(SessionKey::Token(destroyed), START)
            .await
            .unwrap()
            .unwrap();
        say(Said::Dead, &destroyed);

        let rotation = Rotation {
            from: sessions.remove(0),
            to: digest(),
            grace_until: START,
            authenticated_at: None,
        };
        say(Said::Unknown, &rotation.from);
        say(Said::Unknown, &rotation.to);
        store.rotate(rotation, START).await.unwrap().unwrap();
        say(Said::Dead, &rotation.from);
        say(Said::Lives, &rotation.to);
        sessions.push(rotation.to);

        // Every second user's end all at once; the others' stay.
        if sessions[0].as_bytes()[0] % 2 == 0 {
            for ended in &sessions {
                say(Said::Unknown, ended);
            }
            assert_eq!(store.revoke_user(user, None, START).await.unwrap(), 3);
            for ended in &sessions {
                say(Said::Dead, ended);
            }
        }
    }
}

/// The life of the process that gets killed.
fn be_killed(data_dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(EmbeddedStore::open(data_dir).unwrap());
        let tasks = (0..16).map(|_| tokio::spawn(use_without_end(Arc::clone(&store))));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

/// This very test, in a process of its own.
fn start(data_dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "embedded_crash::f_01_what_was_acknowledged_survives_every_kill",
        ])
        .env(DATA_DIR, data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a process work until it has printed so much, kills it, and reads the rest of its output.
fn kill_after(lines: usize, data_dir: &Path, said: &mut HashMap<TokenDigest, Said>) {
    let mut child = start(data_dir);
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Some((digest, is)) = heard(&line.unwrap()) else {
            continue;
        };
        said.insert(digest, is);
        count += 1;
        if count == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= lines, "it ended by itself after {count} lines");
}

#[test]
fn f_01_what_was_acknowledged_survives_every_kill() {
    if let Some(data_dir) = env::var_os(DATA_DIR) {
        return be_killed(Path::new(&data_dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut said = HashMap::new();
    for round in 0..ROUNDS {
        // At all sorts of places, from the first commit on.
        kill_after(1 + round * round * 37, dir.path(), &mut said);
        let opened_at = Instant::now();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        assert!(
            opened_at.elapsed() < PATIENCE,
            "ready after {:?}",
            opened_at.elapsed()
        );
        for (digest, said) in &mut said {
            let is_alive = runtime
                .block_on(store.check(digest, START).wait())
                .unwrap()
                .is_some();
            match said {
                Said::Lives => assert!(is_alive, "round {round}: an acknowledged session is gone"),
                Said::Dead => assert!(!is_alive, "round {round}: an acknowledged end is undone"),
                // From now on it must stay what it is.
                Said::Unknown => *said = if is_alive { Said::Lives } else { Said::Dead },
            }
        }
    }
    let of = |wanted| said.values().filter(|said| **said == wanted).count();
    assert!(
        of(Said::Lives) > 100 && of(Said::Dead) > 100,
        "{} sessions are too few",
        said.len()
    );
}

//! Data that earlier releases wrote still opens. `tests/fixtures/README.md` says what is kept, and how a release adds its own.

mod known;
mod proof;
mod written;

use known::Manifest;
use sessiond::store::{EmbeddedStore, PostgresConfig, PostgresStore, PostgresUrl};
use std::{
    env, fs,
    path::{Path, PathBuf},
};
use testkit::postgres::{self, PostgresServer};
use written::Content;

const DATABASE_FILE: &str = "sessiond.db";
const DUMP: &str = "postgres.sql";
const MANIFEST: &str = "manifest.json";

/// Names the release as which the fixtures that this version writes are to be kept.
const KEEP: &str = "KEEP_FIXTURES_AS";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// One directory for each release that is kept.
fn releases() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let releases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(releases.iter().any(|release| release.ends_with("0.1.0")));
    releases
}

fn manifest_in(release: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(release.join(MANIFEST)).unwrap()).unwrap()
}

/// Opens a copy of the release's data file.
async fn prove_embedded(release: &Path) {
    let data_dir = tempfile::tempdir().unwrap();
    fs::copy(release.join(DATABASE_FILE), data_dir.path().join(DATABASE_FILE)).unwrap();
    let store = EmbeddedStore::open(data_dir.path()).unwrap();
    proof::prove(&manifest_in(release), &store, &store).await;
    drop(store);
    // What it wrote meanwhile did no harm either.
    EmbeddedStore::open(data_dir.path()).unwrap();
}

/// Loads the release's dump into a database of its own.
async fn prove_postgres(release: &Path) {
    let server = PostgresServer::shared();
    let url = server.new_database();
    let dump = fs::read_to_string(release.join(DUMP)).unwrap();
    server.sql(postgres::database(&url), &dump);
    let store = connected_to(&url).await;
    proof::prove(&manifest_in(release), &store, &store).await;
}

async fn connected_to(url: &str) -> PostgresStore {
    let config = PostgresConfig::new(PostgresUrl::new(url.to_owned()));
    PostgresStore::connect(config).await.unwrap()
}

/// Writes down in `release` what this version makes of one content.
async fn write_fixtures(release: &Path) {
    let content = Content::new().await;
    fs::write(
        release.join(MANIFEST),
        serde_json::to_string_pretty(&content.manifest()).unwrap() + "\n",
    )
    .unwrap();

    let data_dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(data_dir.path()).unwrap();
    content.write(&store, &store).await;
    store.close();
    fs::copy(data_dir.path().join(DATABASE_FILE), release.join(DATABASE_FILE)).unwrap();

    let server = PostgresServer::shared();
    let url = server.new_database();
    let store = connected_to(&url).await;
    content.write(&store, &store).await;
    drop(store);
    fs::write(release.join(DUMP), server.dump(&url)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f_23_the_data_file_of_every_release_still_opens() {
    for release in releases() {
        prove_embedded(&release).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_23_the_postgres_schema_and_rows_of_every_release_still_serve() {
    for release in releases() {
        prove_postgres(&release).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_version_writes_can_be_kept_for_the_versions_to_come() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = env::var(KEEP).ok().map(|name| fixtures().join(name));
    if let Some(kept) = &kept {
        fs::create_dir(kept).unwrap();
    }
    let release = kept.as_deref().unwrap_or(scratch.path());
    write_fixtures(release).await;
    prove_embedded(release).await;
    prove_postgres(release).await;
}

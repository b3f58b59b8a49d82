//! Checks over a store that has to be waited for, with the fast path and without it.

use super::remote_store::{CAUSE, RemoteStore};
use crate::gateway::logs;
use sessiond::pb::{self, ErrorReason, session_check::Result as Found};
use std::sync::Arc;
use testkit::{
    service::Service,
    stores::{self, Opened},
};
use tonic::{Code, Request};

async fn service_over(store: &Arc<RemoteStore>, has_fast_path: bool) -> Service {
    let sessions = Opened::alone(Arc::clone(store) as Arc<_>);
    Service::start(stores::memory::users().await, sessions, has_fast_path).await
}

#[tokio::test]
async fn a_check_looks_its_token_up_once() {
    for has_fast_path in [true, false] {
        let store = RemoteStore::open();
        let service = service_over(&store, has_fast_path).await;
        let user = service.here.quick_user("ann@example.com").await;
        let token = service.here.session_of(&user).await.session_token;
        let before = store.lookups();
        assert_eq!(service.here.check(&token).await.unwrap().user_id, user.id);
        assert_eq!(store.lookups() - before, 1, "fast path: {has_fast_path}");
    }
}

fn named<T>(message: T, request_id: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-request-id", request_id.parse().unwrap());
    request
}

fn lines_of(request_id: &str) -> Vec<String> {
    let written = logs::written();
    let lines = written.lines().filter(|line| line.contains(request_id));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_failed_batch_logs_one_line_with_cause_and_count() {
    logs::capture();
    for has_fast_path in [true, false] {
        let store = RemoteStore::open();
        let service = service_over(&store, has_fast_path).await;
        let user = service.here.quick_user("ann@example.com").await;
        let token = service.here.session_of(&user).await.session_token;
        store.cut_off();
        let mut session_tokens = vec![token; 300];
        session_tokens.push("not a token".into());
        let request_id = format!("a-failed-batch-{has_fast_path}");
        let request = named(pb::BatchUserIdForSessionRequest { session_tokens }, &request_id);
        let mut sessions = service.here.sessions.clone();
        let checks = sessions.batch_user_id_for_session(request).await.unwrap();
        let reasons = checks
            .into_inner()
            .checks
            .into_iter()
            .map(|check| match check.result {
                Some(Found::Failure(reason)) => ErrorReason::try_from(reason).unwrap(),
                found => panic!("{found:?}"),
            });
        let (dead, failed): (Vec<_>, Vec<_>) =
            reasons.partition(|reason| *reason == ErrorReason::InvalidSession);
        assert_eq!((dead.len(), failed.len()), (1, 300));
        assert!(
            failed
                .iter()
                .all(|reason| *reason == ErrorReason::StoreUnavailable)
        );

        let lines = lines_of(&request_id);
        let [line] = lines.as_slice() else {
            panic!("fast path: {has_fast_path}: {lines:#?}");
        };
        assert!(line.contains("checks=300") && line.contains(CAUSE), "{line}");
    }
}

#[tokio::test]
async fn a_failed_check_logs_its_cause_under_the_request_id() {
    logs::capture();
    for has_fast_path in [true, false] {
        let store = RemoteStore::open();
        let service = service_over(&store, has_fast_path).await;
        let user = service.here.quick_user("ann@example.com").await;
        let session_token = service.here.session_of(&user).await.session_token;
        store.cut_off();
        let request_id = format!("a-failed-check-{has_fast_path}");
        let request = named(pb::UserIdForSessionRequest { session_token }, &request_id);
        let refused = service.here.sessions.clone().user_id_for_session(request).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
        let lines = lines_of(&request_id);
        assert!(matches!(&lines[..], [line] if line.contains(CAUSE)), "{lines:#?}");
    }
}

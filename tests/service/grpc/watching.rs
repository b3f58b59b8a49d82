//! Watch what is revoked.

use sessiond::pb::{self, watch_revocations_response::Event};
use std::time::Duration;
use testkit::{
    service::{Process, Service, bad_fields, by_user_id},
    waiting::in_time,
};
use tonic::Streaming;

type Watching = Streaming<pb::WatchRevocationsResponse>;

async fn watch(process: &Process, cursor: &str) -> Watching {
    let request = pb::WatchRevocationsRequest {
        cursor: cursor.into(),
    };
    process
        .sessions
        .clone()
        .watch_revocations(request)
        .await
        .unwrap()
        .into_inner()
}

/// The next message that is no heartbeat.
async fn told(watching: &mut Watching, patience: Duration) -> pb::WatchRevocationsResponse {
    let next = async {
        loop {
            let message = watching.message().await.unwrap().unwrap();
            if !matches!(message.event, Some(Event::Heartbeat(_))) {
                return message;
            }
        }
    };
    tokio::time::timeout(patience, next)
        .await
        .expect("nothing was told in time")
}

async fn event(watching: &mut Watching, service: &Service) -> Event {
    told(watching, service.telling_lag()).await.event.unwrap()
}

fn session_revoked(session: &pb::Session) -> Event {
    Event::Session(pb::SessionRevoked {
        session_id: session.id.clone(),
        user_id: session.user_id.clone(),
    })
}

pub(crate) async fn a_watcher_without_a_cursor_is_told_to_forget_first(service: Service) {
    let mut watching = watch(&service.here, "").await;
    assert_eq!(
        event(&mut watching, &service).await,
        Event::ForgetEverything(pb::ForgetEverything {})
    );
}

pub(crate) async fn s_13_every_end_of_a_session_is_told(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let mut watching = watch(&service.there, "").await;
    event(&mut watching, &service).await;

    let destroyed = service.here.session_of(&user).await;
    service.here.destroy(&destroyed.session_token).await;
    assert_eq!(
        event(&mut watching, &service).await,
        session_revoked(&destroyed.session.unwrap())
    );

    let replaced = service.here.session_of(&user).await;
    let request = pb::CreateSessionRequest {
        replaces_session_token: replaced.session_token,
        ..by_user_id(&user.id)
    };
    let rotated = service.here.create(request).await.unwrap();
    assert_eq!(
        event(&mut watching, &service).await,
        session_revoked(&replaced.session.unwrap())
    );

    let request = pb::RotateSessionRequest {
        session_token: rotated.session_token,
        grace: None,
    };
    service
        .here
        .sessions
        .clone()
        .rotate_session(request)
        .await
        .unwrap();
    let rotated = rotated.session.unwrap();
    assert_eq!(event(&mut watching, &service).await, session_revoked(&rotated));

    service.here.revoke_user(&user.id, &rotated.id).await;
    let spared = pb::UserRevoked {
        user_id: user.id.clone(),
        except_session_id: rotated.id,
    };
    assert_eq!(event(&mut watching, &service).await, Event::User(spared));

    let request = pb::DisableUserRequest {
        user_id: user.id.clone(),
    };
    service.here.users.clone().disable_user(request).await.unwrap();
    let disabled = pb::UserRevoked {
        user_id: user.id,
        except_session_id: String::new(),
    };
    assert_eq!(event(&mut watching, &service).await, Event::User(disabled));

    let everyone = pb::RevokeSessionsRequest {
        target: Some(pb::revoke_sessions_request::Target::Everyone(pb::Everyone {})),
        ..Default::default()
    };
    service
        .here
        .sessions
        .clone()
        .revoke_sessions(everyone)
        .await
        .unwrap();
    assert_eq!(
        event(&mut watching, &service).await,
        Event::Everyone(pb::EveryoneRevoked {})
    );
}

pub(crate) async fn a_watcher_that_comes_back_is_told_what_it_missed(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let sessions = [
        service.here.session_of(&user).await,
        service.here.session_of(&user).await,
    ];
    let mut watching = watch(&service.there, "").await;
    let cursor = told(&mut watching, service.telling_lag()).await.cursor;
    drop(watching);
    for session in &sessions {
        service.here.destroy(&session.session_token).await;
    }
    let mut watching = watch(&service.there, &cursor).await;
    for session in sessions {
        assert_eq!(
            event(&mut watching, &service).await,
            session_revoked(&session.session.unwrap())
        );
    }
}

pub(crate) async fn heartbeats_say_how_far_the_stream_is_complete(service: Service) {
    let mut watching = watch(&service.there, "").await;
    let mut last = Duration::ZERO;
    let mut heartbeats = 0;
    while heartbeats < 4 {
        let next = in_time(watching.message()).await;
        let message = next.unwrap().unwrap();
        if let Some(Event::Heartbeat(pb::Heartbeat {
            complete_until: Some(complete_until),
        })) = message.event
        {
            let complete_until = Duration::try_from(complete_until).unwrap();
            assert!(complete_until >= last);
            last = complete_until;
            heartbeats += 1;
        }
    }
    assert!(last >= Duration::from_millis(500), "{last:?}");
}

pub(crate) async fn a_wrong_cursor_is_refused(service: Service) {
    let request = pb::WatchRevocationsRequest { cursor: "x".into() };
    let refused = service
        .here
        .sessions
        .clone()
        .watch_revocations(request)
        .await
        .unwrap_err();
    assert_eq!(bad_fields(&refused), ["cursor"]);
    let mut watching = watch(&service.here, "ffff-1").await;
    assert_eq!(
        event(&mut watching, &service).await,
        Event::ForgetEverything(pb::ForgetEverything {})
    );
}

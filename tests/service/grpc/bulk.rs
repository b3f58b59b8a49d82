//! Many checks at once.

use sessiond::pb::{self, ErrorReason, session_check::Result as Checked};
use testkit::service::{Service, bad_fields};

fn owners(checks: Vec<pb::SessionCheck>) -> Vec<Result<String, ErrorReason>> {
    let owner = |check: pb::SessionCheck| match check.result.unwrap() {
        Checked::Found(found) => Ok(found.user_id),
        Checked::Failure(reason) => Err(ErrorReason::try_from(reason).unwrap()),
    };
    checks.into_iter().map(owner).collect()
}

pub(crate) async fn a_batch_answers_each_token_in_order(service: Service) {
    let mut tokens = Vec::new();
    let mut expected = Vec::new();
    for n in 0..20 {
        let user = service.here.quick_user(&format!("user{n}@example.com")).await;
        tokens.push(service.here.session_of(&user).await.session_token);
        expected.push(Ok(user.id));
    }
    service.here.destroy(&tokens[7]).await;
    expected[7] = Err(ErrorReason::InvalidSession);
    tokens.insert(3, "not a token".into());
    expected.insert(3, Err(ErrorReason::InvalidSession));
    let request = pb::BatchUserIdForSessionRequest {
        session_tokens: tokens,
    };
    let checks = service
        .there
        .sessions
        .clone()
        .batch_user_id_for_session(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(owners(checks.checks), expected);
}

/// A message that is not announced as plain takes another way through the service.
pub(crate) async fn a_batch_has_the_same_response_on_both_paths(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    let long = "x".repeat(200);
    for tokens in [vec![token, "x".into(), String::new()], vec![long], Vec::new()] {
        let request = || {
            tonic::Request::new(pb::BatchUserIdForSessionRequest {
                session_tokens: tokens.clone(),
            })
        };
        let mut announced = request();
        announced
            .metadata_mut()
            .insert("grpc-encoding", "identity".parse().unwrap());
        let mut sessions = service.there.sessions.clone();
        let generated = sessions.batch_user_id_for_session(announced).await;
        let by_hand = sessions.batch_user_id_for_session(request()).await;
        match (by_hand, generated) {
            (Ok(by_hand), Ok(generated)) => assert_eq!(by_hand.into_inner(), generated.into_inner()),
            (Err(by_hand), Err(generated)) => {
                assert_eq!(by_hand.code(), generated.code());
                assert_eq!(by_hand.details(), generated.details());
            }
            (by_hand, generated) => panic!("{by_hand:?} and {generated:?}"),
        }
    }
}

pub(crate) async fn a_batch_is_bounded(service: Service) {
    for count in [0, 4097] {
        let request = pb::BatchUserIdForSessionRequest {
            session_tokens: vec!["x".into(); count],
        };
        let refused = service
            .here
            .sessions
            .clone()
            .batch_user_id_for_session(request)
            .await
            .unwrap_err();
        assert_eq!(bad_fields(&refused), ["session_tokens"]);
    }
    let token = service
        .here
        .session_of(&service.here.quick_user("ann@example.com").await)
        .await
        .session_token;
    let request = pb::BatchUserIdForSessionRequest {
        session_tokens: vec![token; 4096],
    };
    let mut sessions = service.there.sessions.clone().max_decoding_message_size(2 << 20);
    let checks = sessions
        .batch_user_id_for_session(request)
        .await
        .unwrap()
        .into_inner()
        .checks;
    assert_eq!(
        owners(checks).iter().filter(|checked| checked.is_ok()).count(),
        4096
    );
}

pub(crate) async fn a_stream_answers_message_by_message(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answers = service
        .there
        .sessions
        .clone()
        .stream_user_id_for_session(receiver)
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    for _ in 0..3 {
        let session_tokens = vec![token.clone(), "x".into()];
        requests
            .send(pb::StreamUserIdForSessionRequest { session_tokens })
            .await
            .unwrap();
        let checks = answers.message().await.unwrap().unwrap().checks;
        assert_eq!(
            owners(checks),
            [Ok(user.id.clone()), Err(ErrorReason::InvalidSession)]
        );
    }
    service.here.destroy(&token).await;
    requests
        .send(pb::StreamUserIdForSessionRequest {
            session_tokens: vec![token],
        })
        .await
        .unwrap();
    let checks = answers.message().await.unwrap().unwrap().checks;
    assert_eq!(owners(checks), [Err(ErrorReason::InvalidSession)]);
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
}

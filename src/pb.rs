//! The wire types of the contract, generated from `proto/auth/v1/auth.proto`; its comments are the reference.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("auth.v1");

/// The compiled contract, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/auth_descriptor.bin"));

macro_rules! debug_by_name {
    ($($message:ty),* $(,)?) => {$(
        /// Shows the message's name only: its fields hold a secret.
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        }
    )*};
}

debug_by_name!(
    PasswordCredential,
    CreateSessionRequest,
    create_session_request::Credential,
    CreateSessionResponse,
    UserIdForSessionRequest,
    CurrentUserRequest,
    DestroySessionRequest,
    destroy_session_request::Session,
    ListSessionsRequest,
    list_sessions_request::Owner,
    RotateSessionRequest,
    RotateSessionResponse,
    BatchUserIdForSessionRequest,
    StreamUserIdForSessionRequest,
    CreateUserRequest,
    create_user_request::Credential,
    ChangePasswordRequest,
    change_password_request::Subject,
    ChangePasswordResponse,
    SetPasswordRequest,
    set_password_request::Credential,
);

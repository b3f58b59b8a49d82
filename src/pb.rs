//! The wire types of the contract, generated from `proto/auth/v1/auth.proto`; its comments are the reference.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

mod codec;

#[cfg(feature = "server")]
pub(crate) use codec::decode;
pub use codec::{MessageCodec, MessageDecoder};

use zeroize::Zeroize as _;

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

// Passwords are wiped when their message is dropped, on both ends. Whoever takes one out of its message leaves an empty text
// behind and wipes what was taken. Responses have no such wiping: a destructor would keep their fields from being moved out.

impl Drop for PasswordCredential {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl Drop for create_user_request::Credential {
    fn drop(&mut self) {
        match self {
            Self::Password(secret) | Self::PasswordHash(secret) => secret.zeroize(),
        }
    }
}

impl Drop for set_password_request::Credential {
    fn drop(&mut self) {
        match self {
            Self::Password(secret) | Self::PasswordHash(secret) => secret.zeroize(),
        }
    }
}

impl Drop for ChangePasswordRequest {
    fn drop(&mut self) {
        self.current_password.zeroize();
        self.new_password.zeroize();
    }
}

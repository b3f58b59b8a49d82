//! Compiles the contract with protox, so that nobody needs protoc.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

/// Messages that carry a secret: their `Debug` is written by hand in `src/pb.rs`, where it shows none.
const SECRET_MESSAGES: &[&str] = &[
    "PasswordCredential",
    "CreateSessionRequest",
    "CreateSessionResponse",
    "UserIdForSessionRequest",
    "CurrentUserRequest",
    "DestroySessionRequest",
    "ListSessionsRequest",
    "RotateSessionRequest",
    "RotateSessionResponse",
    "BatchUserIdForSessionRequest",
    "StreamUserIdForSessionRequest",
    "CreateUserRequest",
    "ChangePasswordRequest",
    "ChangePasswordResponse",
    "SetPasswordRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["auth/v1/auth.proto"], ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("auth_descriptor.bin"), descriptors.encode_to_vec())?;

    let secret_paths: Vec<String> = SECRET_MESSAGES
        .iter()
        .map(|name| format!(".auth.v1.{name}"))
        .collect();
    tonic_prost_build::configure()
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .codec_path("crate::pb::MessageCodec")
        .skip_debug(secret_paths)
        .compile_fds(descriptors)?;
    Ok(())
}

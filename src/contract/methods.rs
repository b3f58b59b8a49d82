//! Services, methods and field names, as they are spelled on the wire.

/// The service of sessions.
pub const AUTH_SERVICE: &str = "auth.v1.AuthService";
/// The service of users.
pub const USER_SERVICE: &str = "auth.v1.UserService";

/// The path of the hot call.
pub const USER_ID_FOR_SESSION: &str = "/auth.v1.AuthService/UserIdForSession";
/// The path of the call with many tokens.
pub const BATCH_USER_ID_FOR_SESSION: &str = "/auth.v1.AuthService/BatchUserIdForSession";
/// The path of the stream of calls with many tokens.
pub const STREAM_USER_ID_FOR_SESSION: &str = "/auth.v1.AuthService/StreamUserIdForSession";
/// The path of the stream of revocations.
pub const WATCH_REVOCATIONS: &str = "/auth.v1.AuthService/WatchRevocations";

/// Whether the path is that of a method of [`AUTH_SERVICE`].
#[must_use]
pub fn is_of_auth_service(path: &str) -> bool {
    let method = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(AUTH_SERVICE));
    method.is_some_and(|method| method.starts_with('/'))
}

/// The name that the health service is asked for to know whether anybody can log in. While the session store has no room, nobody
/// can, and the service as a whole serves.
pub const LOG_IN_HEALTH: &str = "auth.v1.AuthService/CreateSession";

/// Whether the method at this path answers with a stream, which no deadline of the server bounds. Health and reflection count.
#[must_use]
pub fn is_streaming(path: &str) -> bool {
    matches!(
        path,
        STREAM_USER_ID_FOR_SESSION
            | WATCH_REVOCATIONS
            | "/grpc.health.v1.Health/Watch"
            | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
}

/// The fields of a user that `UpdateUser` changes, as its mask names them.
pub mod user_field {
    /// The email.
    pub const EMAIL: &str = "email";
    /// The first name.
    pub const FIRST_NAME: &str = "first_name";
    /// The last name.
    pub const LAST_NAME: &str = "last_name";
    /// The roles.
    pub const ROLES: &str = "roles";
    /// All of them.
    pub const ALL: [&str; 4] = [EMAIL, FIRST_NAME, LAST_NAME, ROLES];
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pb;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    #[test]
    fn the_paths_are_those_of_the_proto() {
        let described = FileDescriptorSet::decode(pb::DESCRIPTOR_SET).unwrap();
        let mut services = Vec::new();
        let mut paths = Vec::new();
        for file in &described.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    let path = format!("/{name}/{}", method.name());
                    assert_eq!(is_streaming(&path), method.server_streaming(), "{path}");
                    paths.push(path);
                }
                services.push(name);
            }
        }
        assert_eq!(services, [AUTH_SERVICE, USER_SERVICE]);
        for path in [
            USER_ID_FOR_SESSION,
            BATCH_USER_ID_FOR_SESSION,
            STREAM_USER_ID_FOR_SESSION,
            WATCH_REVOCATIONS,
        ] {
            assert!(paths.iter().any(|known| known == path), "{path}");
        }
    }
}

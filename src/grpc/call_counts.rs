//! What an answered call counts as.

use crate::{metrics::Calls, pb::DESCRIPTOR_SET};
use http::Response;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};

/// Counts for every method of the contract; health and reflection are among the others.
pub(super) fn calls() -> Calls {
    // The descriptors are part of this program; if they did not parse, its tests would have said so.
    let described = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap_or_default();
    let mut methods = Vec::new();
    for file in &described.file {
        for service in &file.service {
            let method = service.method.iter();
            methods.extend(
                method.map(|method| format!("{}.{}/{}", file.package(), service.name(), method.name())),
            );
        }
    }
    Calls::of(methods)
}

/// The code of an answer. One that begins with a message and ends otherwise, as a stream may, counts as it began.
pub(super) fn code_of<B>(response: &Response<B>) -> Code {
    let status = response.headers().get(Status::GRPC_STATUS);
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

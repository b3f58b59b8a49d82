//! The service as the gateway beside it and the commands reach it: over a pipe in memory, through the same client code as over
//! a network.

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use sessiond::grpc::Api;
use std::io;
use tonic::transport::{Channel, Endpoint};

/// What may be under way in one direction.
const PIPE_BYTES: usize = 256 * 1024;

/// Calls at once: the gateway's listener has its own limits.
const STREAMS: u32 = 100_000;

/// A channel to the service in this process. Must be called inside a tokio runtime.
pub(crate) fn channel(api: Api) -> Channel {
    let connect = tower::service_fn(move |_: http::Uri| {
        let api = api.clone();
        async move {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            tokio::spawn(async move {
                let mut server = http2::Builder::new(TokioExecutor::new());
                server.auto_date_header(false).max_concurrent_streams(STREAMS);
                // It ends when the channel is dropped, and then no call waits for it.
                let _ = server
                    .serve_connection(TokioIo::new(far), TowerToHyperService::new(api))
                    .await;
            });
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    Endpoint::from_static("http://in-process").connect_with_connector_lazy(connect)
}

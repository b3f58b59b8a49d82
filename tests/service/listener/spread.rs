//! How connections are spread over the workers.

use super::{Server, clients::Http2, options};
use sessiond::listener::{Options, Protocol};
use std::{collections::HashMap, num::NonZeroUsize};
use testkit::waiting::in_time;

async fn worker_of(client: &Http2) -> String {
    let answer = client.get("/").await.unwrap();
    answer.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn few_connections_spread_evenly() {
    let server = Server::start(Options {
        workers: NonZeroUsize::new(4).unwrap(),
        ..options(Protocol::Rpc)
    });
    let mut clients = Vec::new();
    let mut connections: HashMap<String, usize> = HashMap::new();
    for _ in 0..8 {
        let client = Http2::connect(server.address).await;
        *connections.entry(worker_of(&client).await).or_default() += 1;
        clients.push(client);
    }
    let mut counts: Vec<_> = connections.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 2, 2]);
}

#[tokio::test]
async fn the_worker_that_lost_its_connection_gets_the_next() {
    let server = Server::start(options(Protocol::Rpc));
    let first = Http2::connect(server.address).await;
    let of_first = worker_of(&first).await;
    let second = Http2::connect(server.address).await;
    assert_ne!(worker_of(&second).await, of_first);
    drop(first.requests);
    in_time(first.connection).await.unwrap().unwrap();
    // The server may notice the close after it has accepted the next connection, but not for ever.
    in_time(async {
        loop {
            let next = Http2::connect(server.address).await;
            if worker_of(&next).await == of_first {
                break;
            }
            drop(next.requests);
            next.connection.await.unwrap().unwrap();
        }
    })
    .await;
}

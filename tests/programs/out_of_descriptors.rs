//! The accept loop without file descriptors. In a process of its own: the limit is the process's.
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sessiond::{
    listener::{Listener, Options, Protocol, RequestBody},
    shutdown,
};
use socket2::{Domain, Socket, Type};
use std::{
    convert::Infallible,
    env,
    future::ready,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    process::Command,
    time::{Duration, Instant},
};

/// Only the process of its own has this.
const ALONE: &str = "SESSIOND_TEST_WITHOUT_DESCRIPTORS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_26_without_descriptors_the_accept_loop_neither_ends_nor_spins() {
    if env::var_os(ALONE).is_none() {
        let this = "out_of_descriptors::f_26_without_descriptors_the_accept_loop_neither_ends_nor_spins";
        let mut alone = Command::new(env::current_exe().unwrap());
        let output = alone
            .args(["--exact", "--nocapture", this])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_address();
    let (_trigger, shutdown) = shutdown::channel();
    let options = Options {
        workers: NonZeroUsize::MIN,
        ..Options::new(Protocol::Web)
    };
    let make_service = || {
        tower::service_fn(|_: Request<RequestBody>| {
            ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
        })
    };
    let _serving = listener.serve(options, shutdown, make_service).unwrap();
    // Its descriptor is there already, so it can connect when there are no others to be had.
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, none).unwrap();
    client.connect(&address.into()).unwrap();

    let (started, before) = (Instant::now(), cpu_time());
    std::thread::sleep(Duration::from_secs(1));
    let busy = cpu_time().saturating_sub(before);
    assert!(busy < started.elapsed() / 5, "{busy:?}");

    setrlimit(Resource::Nofile, limit).unwrap();
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn cpu_time() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(clock.tv_sec).unwrap(),
        u32::try_from(clock.tv_nsec).unwrap(),
    )
}

//! The proxy itself on trial: a fault that does not happen proves nothing.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};
use testkit::proxy::{Conduct, Proxy};

const SOON: Duration = Duration::from_millis(200);

/// A server that answers each byte with the next one, behind a proxy.
fn echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    let _ = stream.write_all(&[byte[0] + 1]);
                }
            });
        }
    });
    proxy
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// What comes back for a byte: it, silence, or the end.
fn answer(stream: &mut TcpStream, byte: u8) -> Option<u8> {
    stream.write_all(&[byte]).unwrap();
    hear(stream)
}

/// What comes; `None` for silence, 0 for the end.
fn hear(stream: &mut TcpStream) -> Option<u8> {
    let mut heard = [0];
    match stream.read(&mut heard) {
        Ok(1) => Some(heard[0]),
        Ok(_) => Some(0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some(0),
    }
}

#[test]
fn what_is_held_arrives_late_and_nothing_is_lost() {
    for conduct in [Conduct::HoldAll, Conduct::HoldReplies, Conduct::HoldRequests] {
        let proxy = echo();
        let mut stream = connect(&proxy);
        assert_eq!(answer(&mut stream, 1), Some(2));
        proxy.set(conduct);
        assert_eq!(answer(&mut stream, 3), None, "{conduct:?}");
        proxy.set(Conduct::Pass);
        stream.set_read_timeout(Some(SOON * 50)).unwrap();
        assert_eq!(hear(&mut stream), Some(4), "{conduct:?}");
    }
}

#[test]
fn delayed_bytes_take_as_long_as_told() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    assert_eq!(answer(&mut stream, 1), Some(2));
    proxy.set(Conduct::Delay(Duration::from_millis(100)));
    let asked_at = Instant::now();
    assert_eq!(answer(&mut stream, 3), Some(4));
    assert!(
        asked_at.elapsed() >= Duration::from_millis(200),
        "{:?}",
        asked_at.elapsed()
    );
}

#[test]
fn a_refusing_proxy_resets_old_and_new_connections() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    assert_eq!(answer(&mut stream, 1), Some(2));
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    proxy.set(Conduct::Refuse);
    assert_eq!(hear(&mut stream), Some(0));
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    assert_eq!(hear(&mut stream), Some(0));
    proxy.set(Conduct::Pass);
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    assert_eq!(answer(&mut stream, 1), Some(2));
    assert_eq!(proxy.opened(), 3);
}

#[test]
fn replies_are_cut_where_told() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    proxy.set(Conduct::CutReplies { after: 1 });
    assert_eq!(answer(&mut stream, 1), Some(2));
    assert_eq!(answer(&mut stream, 3), Some(0));
}

#[test]
fn a_cut_or_a_new_target_resets_what_is_open() {
    let (proxy, elsewhere) = (echo(), echo());
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    assert_eq!(answer(&mut stream, 1), Some(2));
    proxy.retarget(elsewhere.address());
    assert_eq!(hear(&mut stream), Some(0));
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(SOON * 50)).unwrap();
    assert_eq!(answer(&mut stream, 1), Some(2));
    assert_eq!(elsewhere.opened(), 1);
    proxy.cut();
    assert_eq!(hear(&mut stream), Some(0));
}

//! A client that sends given bytes, and a browser's cookie jar.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr};
use testkit::waiting::in_time;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

pub(crate) fn ask(method: &str, path: &str) -> Ask {
    Ask {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

pub(crate) fn get(path: &str) -> Ask {
    ask("GET", path)
}

pub(crate) fn post(path: &str) -> Ask {
    ask("POST", path)
}

pub(crate) fn delete(path: &str) -> Ask {
    ask("DELETE", path)
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_owned();
        match content_type {
            "" => self,
            _ => self.header("Content-Type", content_type),
        }
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn form(self, body: &str) -> Self {
        self.body("application/x-www-form-urlencoded", body)
    }

    pub(crate) fn basic(self, email: &str, password: &str) -> Self {
        let encoded = STANDARD.encode(format!("{email}:{password}"));
        self.header("Authorization", format!("Basic {encoded}"))
    }

    pub(crate) fn cookies(self, jar: &Jar) -> Self {
        match jar.header() {
            Some(value) => self.header("Cookie", value),
            None => self,
        }
    }

    /// Sends it and reads the answer to its end.
    pub(crate) async fn send(&self, address: SocketAddr) -> Reply {
        in_time(self.exchange(address)).await
    }

    async fn exchange(&self, address: SocketAddr) -> Reply {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        let mut add = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        };
        if !has("host") {
            add("Host", address.to_string().as_bytes());
        }
        add("Connection", b"close");
        if !self.body.is_empty() || self.method == "POST" {
            add("Content-Length", self.body.len().to_string().as_bytes());
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        let mut stream = TcpStream::connect(address).await.unwrap();
        // An early refusal may close the connection before all is written; the answer is there to be read even so.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Reply::parse(&answer)
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(given, value): &'_ (String, String)| (given == name).then_some(value.len());
        self.headers
            .iter()
            .filter(|header| same(header).is_some())
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} is there {} times", values.len());
        values.first().copied()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The `error` member, as the old application's clients read it.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts the status, showing the whole answer if it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// All that could distinguish one refusal from another: status, headers, body, without what names this one request.
    pub(crate) fn without_request_id(&self) -> String {
        let id = self.header("x-request-id").unwrap_or_default();
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| name != "date");
        format!("{} {headers:?} {}", self.status, self.body).replace(id, "ID")
    }
}

/// A browser's cookies for one host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jar(BTreeMap<String, String>);

impl Jar {
    pub(crate) fn with(name: &str, value: &str) -> Self {
        Self(BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    /// Takes over what an answer sets and clears.
    pub(crate) fn keep(&mut self, reply: &Reply) {
        for cookie in reply.all("set-cookie") {
            let (pair, attributes) = cookie.split_once("; ").unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').unwrap();
            match attributes.contains("Max-Age=0") {
                true => self.0.remove(name),
                false => self.0.insert(name.to_owned(), value.to_owned()),
            };
        }
    }

    /// The one cookie's value.
    pub(crate) fn token(&self) -> &str {
        assert_eq!(self.0.len(), 1, "{self:?}");
        self.0.values().next().unwrap()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn header(&self) -> Option<String> {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

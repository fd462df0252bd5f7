//! A server on loopback that behaves like GitHub's API, in good times and in bad ones.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::DateTime;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, HeaderName};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::github::GitHub;

/// How likely each misfortune is for a request, between 0 and 1.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// 502, 500, a connection that is cut before or within the answer: what makes the client back off.
    pub trouble: f64,
    /// Rate limits of both kinds, which are over at once.
    pub limits: f64,
    /// Secondary limits that do not say for how long.
    pub vague_limits: f64,
    /// Some milliseconds of thinking.
    pub slow: f64,
    /// Something changes just before the answer.
    pub change: f64,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub authorization: Option<String>,
    pub status: StatusCode,
}

pub struct Inner {
    pub github: GitHub,
    pub faults: Faults,
    pub seen: Vec<Seen>,
    /// Called with the number of each request.
    pub on_request: Box<dyn FnMut(usize) + Send>,
    random: ChaCha8Rng,
}

pub struct Server {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
}

impl Server {
    pub fn start(mut github: GitHub, seed: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        github.url.clone_from(&url);
        let inner = Arc::new(Mutex::new(Inner {
            github,
            faults: Faults::default(),
            seen: Vec::new(),
            on_request: Box::new(|_| {}),
            random: ChaCha8Rng::seed_from_u64(seed),
        }));
        let served = inner.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let inner = served.clone();
                    let service = service_fn(move |request| answer(inner.clone(), request));
                    let serve = hyper::server::conn::http1::Builder::new();
                    tokio::spawn(serve.serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { url, inner }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn requests(&self) -> usize {
        self.lock().seen.len()
    }
}

/// An answer's body, which may end in an error where the connection is to be cut.
pub struct Reply {
    bytes: Option<Bytes>,
    cut: bool,
}

impl Reply {
    pub fn empty() -> Self {
        Self {
            bytes: None,
            cut: false,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.bytes.take() {
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            None if self.cut => Some(Err(io::Error::other("cut"))),
            None => None,
        })
    }
}

async fn answer(
    inner: Arc<Mutex<Inner>>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (plan, slow) = {
        let mut inner = inner.lock().unwrap();
        let number = inner.seen.len() + 1;
        (inner.on_request)(number);
        let likely = inner.faults.slow;
        let slow = inner.random.random_bool(likely);
        let slow = slow.then(|| Duration::from_millis(inner.random.random_range(1..8)));
        (inner.respond(&head, &body), slow)
    };
    if let Some(slow) = slow {
        tokio::time::sleep(slow).await;
    }
    plan
}

impl Inner {
    fn respond(&mut self, head: &Parts, body: &[u8]) -> Result<Response<Reply>, io::Error> {
        let authorization = head.headers.get(AUTHORIZATION);
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        if self.random.random_bool(self.faults.change) {
            self.github.change(&mut self.random);
        }
        let response = if self.random.random_bool(self.faults.limits) {
            let kind = self.random.random_range(0..3);
            Ok(self.limited(kind))
        } else if self.random.random_bool(self.faults.vague_limits) {
            let kind = self.random.random_range(3..5);
            Ok(self.limited(kind))
        } else {
            let response = self.github.respond(head, body, authorization.is_some());
            if self.random.random_bool(self.faults.trouble) {
                self.trouble(response)
            } else {
                Ok(response)
            }
        };
        self.seen.push(Seen {
            authorization,
            status: response
                .as_ref()
                .map_or(StatusCode::IM_A_TEAPOT, Response::status),
        });
        response
    }

    fn limited(&self, kind: u8) -> Response<Reply> {
        let secondary = "You have exceeded a secondary rate limit.";
        let reset = self.github.now.to_string();
        let (status, headers, message) = match kind {
            0 => (403, vec![("retry-after", "0")], secondary),
            1 => (429, vec![("retry-after", "0")], secondary),
            2 => (
                403,
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", reset.as_str()),
                ],
                "API rate limit exceeded for 192.0.2.1.",
            ),
            3 => (403, vec![], secondary),
            _ => (429, vec![], "Too many requests."),
        };
        let mut response = reply(status, &json!({ "message": message }));
        for (name, value) in headers {
            response
                .headers_mut()
                .insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        dated(response, self.github.now)
    }

    fn trouble(&mut self, response: Response<Reply>) -> Result<Response<Reply>, io::Error> {
        let bytes = response.body().bytes.clone().unwrap_or_default();
        let half = bytes.slice(..bytes.len() / 2);
        let (parts, _) = response.into_parts();
        match self.random.random_range(0..6) {
            0 => Ok(reply(502, &json!({ "message": "Server Error" }))),
            1 => Ok(reply(500, &json!({}))),
            2 => Err(io::Error::other("the connection is cut before the answer")),
            3 => {
                let mut response = Response::from_parts(
                    parts,
                    Reply {
                        bytes: Some(half),
                        cut: true,
                    },
                );
                response
                    .headers_mut()
                    .insert(CONTENT_LENGTH, bytes.len().into());
                Ok(response)
            }
            4 => Ok(Response::from_parts(
                parts,
                Reply {
                    bytes: Some(half),
                    cut: true,
                },
            )),
            // As a proxy does that does not notice.
            _ => Ok(Response::from_parts(
                parts,
                Reply {
                    bytes: Some(half),
                    cut: false,
                },
            )),
        }
    }
}

/// An answer in JSON.
pub fn reply(status: u16, body: &Value) -> Response<Reply> {
    let bytes = Bytes::from(body.to_string());
    let reply = Reply {
        bytes: Some(bytes),
        cut: false,
    };
    Response::builder().status(status).body(reply).unwrap()
}

/// With the date of the server's clock, in seconds since 1970.
pub fn dated(mut response: Response<Reply>, now: i64) -> Response<Reply> {
    let date = DateTime::from_timestamp(now, 0).unwrap();
    let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response.headers_mut().insert(DATE, date.parse().unwrap());
    response
}

//! The page and what it asks for, over HTTP on loopback.
//!
//! Issues are hostile text, and so is every other page that the browser has open. Nothing is answered
//! without the secret in the address, nor to a name that is not this server's (DNS rebinding), nor
//! changed for a page of another origin; the page itself may load nothing but its own files.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use super::Queue;
use super::session::{Session, SessionError, Submission};
use super::store::StoreError;
use crate::issue::IssueId;
use crate::taxonomy::{Head, Label};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPTS: [(&str, &str); 4] = [
    ("script.js", include_str!("page/script.js")),
    ("server.js", include_str!("page/server.js")),
    ("elements.js", include_str!("page/elements.js")),
    ("dialogs.js", include_str!("page/dialogs.js")),
];

/// A request may have this many bytes: a note is the longest part.
const REQUEST_BYTES: usize = 64 << 10;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A server that listens, on this machine only.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    secret: String,
}

impl Server {
    /// Listens on a port of 127.0.0.1; 0 is any that is free.
    ///
    /// # Errors
    /// Such as a port that is taken.
    pub async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let secret: [u8; 24] = rand::rng().random();
        Ok(Self {
            listener,
            address,
            secret: base16ct::lower::encode_string(&secret),
        })
    }

    /// Where the page is. Who knows it can label.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.secret)
    }

    /// Serves the session until `stop` is done; what is being answered then is answered.
    ///
    /// # Errors
    /// If connections can no longer be accepted.
    pub async fn serve(
        self,
        session: Arc<Session>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let at = |path: &str| format!("/{}/{path}", self.secret);
        let mut routes = Router::new()
            .route(&at(""), get(|| page("text/html; charset=utf-8", PAGE)))
            .route(
                &at("style.css"),
                get(|| page("text/css; charset=utf-8", STYLE)),
            )
            .route(&at("setup"), get(setup))
            .route(&at("status"), get(status))
            .route(&at("next"), get(next))
            .route(&at("issue"), get(issue))
            .route(&at("suggestion"), get(suggestion))
            .route(&at("search"), get(search))
            .route(&at("label"), post(label))
            .route(&at("skip"), post(skip))
            .route(&at("undo"), post(undo));
        for (name, text) in SCRIPTS {
            let script = move || page("text/javascript; charset=utf-8", text);
            routes = routes.route(&at(name), get(script));
        }
        let routes = routes
            .layer(DefaultBodyLimit::max(REQUEST_BYTES))
            .with_state(session);
        let port = self.address.port();
        let hosts = ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("{host}:{port}"));
        let app = routes.layer(from_fn_with_state(Arc::new(hosts), guard));
        axum::serve(self.listener, app)
            .with_graceful_shutdown(stop)
            .await
    }
}

/// Refuses what does not come from the page, and gives every answer its headers.
async fn guard(State(hosts): State<Arc<[String; 3]>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let host = text(header::HOST).filter(|host| hosts.iter().any(|own| own == host));
    let own_origin = host.map(|host| format!("http://{host}"));
    let origin = text(header::ORIGIN);
    // A browser names the origin of every request that changes something.
    let is_own = match *request.method() {
        Method::GET | Method::HEAD => origin.is_none() || origin == own_origin.as_deref(),
        _ => origin.is_some() && origin == own_origin.as_deref(),
    };
    let mut response = match (host, is_own) {
        (None, _) => refused("this server is known by its address only"),
        (Some(_), false) => refused("only the page itself may ask for this"),
        (Some(_), true) => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refused(why: &str) -> Response {
    (StatusCode::FORBIDDEN, why.to_owned()).into_response()
}

async fn page(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    (headers, text)
}

/// What the page knows of an error: its message, in `error`.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let status = match &error {
            SessionError::Labels(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SessionError::Unknown(_) => StatusCode::NOT_FOUND,
            SessionError::Blind(_) => StatusCode::FORBIDDEN,
            SessionError::Store(StoreError::Failed { .. }) | SessionError::Model(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            SessionError::Store(_) => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

type Answer = Result<Json<Value>, Failure>;

/// Answers from a thread that may wait: for the disk, or for the model.
async fn answer<T: Serialize + Send + 'static>(
    session: Arc<Session>,
    ask: impl FnOnce(&Session) -> Result<T, SessionError> + Send + 'static,
) -> Answer {
    let answered = spawn_blocking(move || -> Answer {
        let answer = ask(&session)?;
        let value = serde_json::to_value(answer);
        Ok(Json(value.expect("answers have string keys")))
    });
    let failed = |_| Failure(StatusCode::INTERNAL_SERVER_ERROR, "a thread failed".into());
    answered.await.map_err(failed)?
}

async fn setup(State(session): State<Arc<Session>>) -> Json<Value> {
    #[derive(Serialize)]
    struct HeadView<'a> {
        name: &'a str,
        title: &'a str,
        definition: &'a str,
        labels: &'a [Label],
        /// The index of another head, and of its labels.
        applies_when: Option<(usize, &'a [usize])>,
    }
    let view = |head: &Head| {
        let condition = head.applies_when.as_ref();
        let view = HeadView {
            name: &head.name,
            title: &head.title,
            definition: &head.definition,
            labels: &head.labels,
            applies_when: condition.map(|c| (c.head, c.labels.as_slice())),
        };
        json!(view)
    };
    let heads: Vec<Value> = session.taxonomy().heads.iter().map(view).collect();
    let settings = session.settings();
    Json(json!({
        "annotator": settings.annotator,
        "suggest": settings.suggest,
        "decides": settings.queue == Queue::Disagreements,
        "reviews": settings.queue == Queue::Review,
        "model": session.model(),
        "heads": heads,
    }))
}

async fn status(State(session): State<Arc<Session>>) -> Answer {
    answer(session, |session| session.status()).await
}

/// An issue, if the query names one.
#[derive(Deserialize)]
struct Wanted {
    repo: Option<String>,
    number: Option<u64>,
}

impl Wanted {
    fn id(self) -> Option<IssueId> {
        let (repo, number) = self.repo.zip(self.number)?;
        Some(IssueId { repo, number })
    }
}

type MaybeQuery<T> = Result<Query<T>, QueryRejection>;
type MaybeJson<T> = Result<Json<T>, JsonRejection>;

async fn next(State(session): State<Arc<Session>>, after: MaybeQuery<Wanted>) -> Answer {
    let after = after?.0.id();
    answer(session, move |session| {
        let view = session.next(after.as_ref())?;
        Ok(json!({ "issue": view, "status": session.status()? }))
    })
    .await
}

async fn issue(State(session): State<Arc<Session>>, id: MaybeQuery<IssueId>) -> Answer {
    let id = id?.0;
    answer(session, move |session| session.view(&id)).await
}

async fn suggestion(State(session): State<Arc<Session>>, id: MaybeQuery<IssueId>) -> Answer {
    let id = id?.0;
    answer(session, move |session| session.suggestion(&id)).await
}

#[derive(Deserialize)]
struct Search {
    words: String,
}

async fn search(State(session): State<Arc<Session>>, search: MaybeQuery<Search>) -> Answer {
    let words = search?.0.words;
    answer(session, move |session| Ok(session.search(&words))).await
}

async fn label(State(session): State<Arc<Session>>, given: MaybeJson<Submission>) -> Answer {
    let given = given?.0;
    answer(session, move |session| session.label(&given)).await
}

async fn skip(State(session): State<Arc<Session>>, id: MaybeJson<IssueId>) -> Answer {
    let id = id?.0;
    answer(session, move |session| session.skip(&id)).await
}

async fn undo(State(session): State<Arc<Session>>) -> Answer {
    answer(session, |session| {
        let undone = session.undo()?;
        let undone = undone.map(|(issue, label)| json!({ "issue": issue, "label": label }));
        Ok(json!({ "undone": undone, "status": session.status()? }))
    })
    .await
}

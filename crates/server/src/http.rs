//! A small HTTP server: a few fixed paths, answered at once.

use std::convert::Infallible;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 512;
/// From accept, or from the end of an answer, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// After this a connection takes no further request: one that does not read its answer must
/// end too.
const LIFE: Duration = Duration::from_secs(60);
/// After an accept that failed for want of resources.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers a request for something, GET or HEAD, of a client; `None` is 404. At once: it
/// must not block.
pub(crate) type Handler = Arc<dyn Fn(&Parts, SocketAddr) -> Option<Reply> + Send + Sync>;

/// What is answered.
pub(crate) struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Body,
    /// How to authenticate, with 401.
    pub(crate) challenge: Option<&'static str>,
    /// The content security policy, if not the usual one.
    pub(crate) policy: Option<HeaderValue>,
}

enum Body {
    Ready(Bytes),
    /// Made on a thread where that holds nobody up.
    Costly(Box<dyn FnOnce() -> Bytes + Send>),
}

impl Reply {
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        Self {
            status,
            content_type,
            body: Body::Ready(body),
            challenge: None,
            policy: None,
        }
    }

    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        let body = Bytes::from_static(text.as_bytes());
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// One whose body takes a while to make.
    pub(crate) fn costly(
        status: StatusCode,
        content_type: &'static str,
        body: impl FnOnce() -> Bytes + Send + 'static,
    ) -> Self {
        Self {
            status,
            content_type,
            body: Body::Costly(Box::new(body)),
            challenge: None,
            policy: None,
        }
    }
}

/// A server that runs; dropped it stops at once.
#[derive(Debug)]
pub(crate) struct HttpServer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

/// A server that is to be: it has its port, and connections wait.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds `address`.
    pub(crate) fn new(address: &str) -> io::Result<Self> {
        let listener = net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves from now on.
    pub(crate) fn serve(self, handler: Handler) -> HttpServer {
        HttpServer {
            address: self.address,
            task: tokio::spawn(accept(self.listener, handler)),
        }
    }
}

impl HttpServer {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The connections are part of this task: they end with it.
async fn accept(listener: TcpListener, handler: Handler) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let serve = serve(stream, peer, handler.clone());
                connections.spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, handler: Handler) {
    let service = service_fn(|request| {
        let reply = reply(request, peer, &handler);
        async move { Ok::<_, Infallible>(response(reply).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // How it ended is of no interest: the peer has gone, or it is cut off.
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(HEAD_TIMEOUT, connection).await;
    }
}

fn reply(request: Request<Incoming>, peer: SocketAddr, handler: &Handler) -> Reply {
    let (request, _body) = request.into_parts();
    let reply = match request.method {
        Method::GET | Method::HEAD => handler(&request, peer),
        _ => Some(Reply::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET and HEAD only\n",
        )),
    };
    reply.unwrap_or_else(|| Reply::text(StatusCode::NOT_FOUND, "not found\n"))
}

async fn response(reply: Reply) -> Response<Full<Bytes>> {
    let (mut status, mut body) = (reply.status, Bytes::new());
    match reply.body {
        Body::Ready(ready) => body = ready,
        Body::Costly(make) => match tokio::task::spawn_blocking(make).await {
            Ok(made) => body = made,
            // It panicked, and that has been reported.
            Err(_) => status = StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let policy = reply.policy;
    let policy = policy.unwrap_or(HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::CONTENT_TYPE, Some(reply.content_type)),
        (header::CACHE_CONTROL, Some("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, Some("nosniff")),
        (header::REFERRER_POLICY, Some("no-referrer")),
        (header::WWW_AUTHENTICATE, reply.challenge),
        (
            header::ALLOW,
            (status == StatusCode::METHOD_NOT_ALLOWED).then_some("GET, HEAD"),
        ),
    ] {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// A page may load style, script and data from where it came from, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

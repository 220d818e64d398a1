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

/// Answers a path; `None` is 404.
pub(crate) type Handler = Arc<dyn Fn(&str) -> Option<Reply> + Send + Sync>;

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Bytes::from_static(text.as_bytes()),
        }
    }
}

/// A server that runs; dropped it stops at once.
#[derive(Debug)]
pub(crate) struct HttpServer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl HttpServer {
    /// Binds `address`, and serves from now on.
    pub(crate) fn start(address: &str, handler: Handler) -> io::Result<Self> {
        let listener = net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self {
            address,
            task: tokio::spawn(accept(listener, handler)),
        })
    }

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
            Ok((stream, _)) => {
                let serve = serve(stream, handler.clone());
                connections.spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, handler: Handler) {
    let service = service_fn(move |request| {
        let response = answer(&request, &handler);
        async move { Ok::<_, Infallible>(response) }
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

fn answer(request: &Request<Incoming>, handler: &Handler) -> Response<Full<Bytes>> {
    let reply = match *request.method() {
        Method::GET | Method::HEAD => handler(request.uri().path()),
        _ => None,
    };
    let reply = reply.unwrap_or_else(|| Reply::text(StatusCode::NOT_FOUND, "not found\n"));
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, reply.content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page may load style, script and data from where it came from, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

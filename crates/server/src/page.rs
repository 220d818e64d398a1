//! The demo's page: the chat, and what the gate is doing. All of it is in this program.

mod files;
mod reach;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::json;
use tidegate::Gate;

pub(crate) use reach::Reach;

use crate::demo::Found;
use crate::http::{Handler, Reply};
use files::{CHAT_HTML, FILES, GATE_HTML, HTML};

/// The pages, filled in.
pub(crate) struct Page {
    chat: Bytes,
    status: Bytes,
    policy: Option<HeaderValue>,
    gate: Gate,
}

impl Page {
    /// `ws` is where the gate's WebSocket listener is.
    pub(crate) fn new(found: &Found, reach: &Reach, ws: Option<SocketAddr>, gate: Gate) -> Self {
        let [first, second] = found.connect();
        let (url, port) = reach.gate(ws);
        let marks = [
            ("{{version}}", env!("CARGO_PKG_VERSION")),
            ("{{tcp}}", &*found.tcp),
            ("{{ws}}", &*found.ws),
            ("{{admin}}", &*found.admin),
            ("{{first}}", &*first),
            ("{{second}}", &*second),
            ("{{python}}", &*found.python),
            ("{{gate}}", &*url),
            ("{{gate port}}", &*port),
        ];
        Self {
            chat: fill(CHAT_HTML, &marks),
            status: fill(GATE_HTML, &marks),
            policy: HeaderValue::try_from(policy(&reach.connect_to(ws))).ok(),
            gate,
        }
    }

    pub(crate) fn handler(self) -> Handler {
        Arc::new(move |request, _peer| {
            let (content_type, body) = match request.uri.path() {
                "/" => (HTML, self.chat.clone()),
                "/gate" => (HTML, self.status.clone()),
                "/status.json" => ("application/json", self.status()),
                path => {
                    let file = FILES.iter().find(|file| file.path == path)?;
                    (file.content_type, Bytes::from_static(file.text.as_bytes()))
                }
            };
            let mut reply = Reply::new(StatusCode::OK, content_type, body);
            reply.policy = self.policy.clone();
            Some(reply)
        })
    }

    fn status(&self) -> Bytes {
        let stats = self.gate.stats();
        let status = json!({
            "ready": self.gate.is_ready(),
            "connections": self.gate.connection_count(),
            "sessions": self.gate.session_count(),
            "packets_in": stats.packets_in,
            "packets_out": stats.packets_out,
        });
        status.to_string().into()
    }
}

/// What a page may do: load what lies here, connect to the gate, and nothing else. Text that
/// comes in cannot become part of it: the browser refuses to make HTML of text at all.
fn policy(gates: &[String]) -> String {
    let mut connect = "'self'".to_owned();
    for gate in gates {
        connect.push(' ');
        connect.push_str(gate);
    }
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn fill(html: &str, marks: &[(&str, &str)]) -> Bytes {
    let mut html = html.to_owned();
    for (mark, text) in marks {
        html = html.replace(mark, &escape(text));
    }
    html.into()
}

/// As text in HTML, and in its attributes.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    Cow::Owned(text.replace('\'', "&#39;"))
}

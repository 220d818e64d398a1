//! The demo's status page.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;
use tidegate::Gate;

use crate::demo::Found;
use crate::http::{Handler, Reply};

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page, filled in.
pub(crate) struct Page {
    html: Bytes,
    gate: Gate,
}

impl Page {
    pub(crate) fn new(found: &Found, gate: Gate) -> Self {
        let [first, second] = found.connect();
        let mut html = HTML.to_owned();
        for (mark, text) in [
            ("{{version}}", env!("CARGO_PKG_VERSION")),
            ("{{tcp}}", &*found.tcp),
            ("{{ws}}", &*found.ws),
            ("{{admin}}", &*found.admin),
            ("{{first}}", &*first),
            ("{{second}}", &*second),
            ("{{python}}", &*found.python),
        ] {
            html = html.replace(mark, &escape(text));
        }
        Self {
            html: html.into(),
            gate,
        }
    }

    pub(crate) fn handler(self) -> Handler {
        Arc::new(move |request, _peer| {
            let (content_type, body) = match request.uri.path() {
                "/" => ("text/html; charset=utf-8", self.html.clone()),
                "/style.css" => (
                    "text/css; charset=utf-8",
                    Bytes::from_static(STYLE.as_bytes()),
                ),
                "/script.js" => (
                    "text/javascript; charset=utf-8",
                    Bytes::from_static(SCRIPT.as_bytes()),
                ),
                "/status.json" => ("application/json", self.status()),
                _ => return None,
            };
            Some(Reply::new(StatusCode::OK, content_type, body))
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

/// As text in HTML, and in its attributes.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    Cow::Owned(text.replace('\'', "&#39;"))
}

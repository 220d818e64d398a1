//! Who the client is, where proxies stand in front of the gate; and whether there is a place
//! for one more of its connections.

use std::io;

use tidegate_protocol::proxy::{self, Parsed};
use tidegate_protocol::ws::upgrade::UpgradeRequest;
use tokio::io::AsyncReadExt;

use super::Setup;
use super::refusal::Failed;
use crate::proxy::Remote;
use crate::transport::Transport;

impl Setup {
    /// Reads the PROXY header, from peers that must send one, and nothing behind it.
    pub(super) async fn proxy_header(&mut self, io: &mut Transport) -> Result<(), Failed> {
        let proxies = &self.at.endpoint.proxies;
        if !proxies.sends_header(self.client) {
            return Ok(());
        }
        let mut header = Vec::new();
        let client = loop {
            match proxy::parse(&header).map_err(Failed::Proxy)? {
                Parsed::Header { client } => break client,
                Parsed::More(n) => {
                    let from = header.len();
                    header.resize(from + n, 0);
                    let read = io.read(&mut header[from..]).await?;
                    header.truncate(from + read);
                    match (from, read) {
                        (0, 0) => return Err(Failed::Left),
                        (_, 0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                        _ => {}
                    }
                }
            }
        };
        // A proxy that names nobody speaks for itself.
        if let Some(client) = client {
            self.client = Remote::from(client);
        }
        match self.at.endpoint.proxies.forwards(self.client) {
            // The upgrade request may tell more.
            true => Ok(()),
            false => self.count(),
        }
    }

    /// Takes from the upgrade request whose it is, where its sender is believed.
    pub(super) fn forwarded(&mut self, request: &UpgradeRequest) -> Result<(), Failed> {
        let proxies = &self.at.endpoint.proxies;
        let header = proxies.forwarded;
        let Some(name) = header.name().filter(|_| proxies.forwards(self.client)) else {
            return Ok(());
        };
        let lines = request
            .headers()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value);
        let sender = self.client.address();
        let client = header.client(lines, sender, |ip| proxies.trusts_ip(ip));
        if client != sender {
            self.client = Remote::from(client);
        }
        self.count()
    }

    /// Counts the connection for the client's address, now that it is known.
    fn count(&mut self) -> Result<(), Failed> {
        match self.client.counted() {
            Some(ip) if !self.place.count_for(ip) => Err(Failed::Busy),
            _ => Ok(()),
        }
    }
}

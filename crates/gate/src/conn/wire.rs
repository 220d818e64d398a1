//! Frames of a stream, or of a WebSocket.

use tidegate_protocol::ws::{self, Decoder, Event, encode_header};
use tidegate_protocol::{CloseReason, Codec, Packet};

use crate::listener::Endpoint;

/// See the module.
pub(crate) enum Wire {
    Stream,
    Ws(Decoder),
}

/// The next thing in the input.
pub(crate) enum Item {
    Packet(Packet),
    /// A ping, whose answer is this pong's payload.
    Ping(Vec<u8>),
    /// Nothing that needs an answer.
    Quiet,
    /// The client closes; this code goes back in the close frame.
    Close(u16),
    /// A part of a frame.
    Partial,
}

impl Wire {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        match endpoint.ws {
            Some(_) => Self::Ws(Decoder::new()),
            None => Self::Stream,
        }
    }

    pub(crate) fn is_ws(&self) -> bool {
        matches!(self, Self::Ws(_))
    }

    /// Takes the next item from the front of `input`; answers how many bytes it took.
    pub(crate) fn next(
        &mut self,
        endpoint: &Endpoint,
        input: &mut [u8],
    ) -> Result<(usize, Item), CloseReason> {
        match (self, &endpoint.ws) {
            (Self::Ws(decoder), Some(ws)) => {
                let (used, event) = decoder
                    .decode(input, &ws.decode)
                    .map_err(|e| ws_reason(&e))?;
                let item = match event {
                    Some(Event::Message { payload, .. }) => {
                        // The decoder let nothing over the limit through, but for the
                        // version 1 frame in it the same limit holds.
                        let packet = endpoint.codec.decode(&payload);
                        Item::Packet(packet.map_err(|e| e.close_reason())?)
                    }
                    Some(Event::Ping(payload)) => Item::Ping(payload.to_vec()),
                    Some(Event::Pong(_)) => Item::Quiet,
                    // 1005 stands for a close frame without a code, and is answered by one.
                    Some(Event::Close(frame)) => Item::Close(frame.map_or(1005, |f| f.code)),
                    None => Item::Partial,
                };
                Ok((used, item))
            }
            _ => {
                let max = endpoint.limits.max_packet_size;
                let len = endpoint.codec.frame_len(input, max);
                let len = len.map_err(|e| e.close_reason())?;
                // Whatever a codec says, no more than this is gathered.
                if len.unwrap_or(input.len()) > max {
                    return Err(CloseReason::FrameTooLarge);
                }
                match len.and_then(|len| input.get(..len)) {
                    None => Ok((0, Item::Partial)),
                    Some([]) => Err(CloseReason::BadFrame),
                    Some(frame) => {
                        let packet = endpoint.codec.decode(frame);
                        let packet = packet.map_err(|e| e.close_reason())?;
                        Ok((frame.len(), Item::Packet(packet)))
                    }
                }
            }
        }
    }

    /// Drops what has come of a frame: no more will be decoded.
    pub(crate) fn forget(&mut self) {
        if let Self::Ws(decoder) = self {
            *decoder = Decoder::new();
        }
    }

    /// Bytes of a frame held by the decoder.
    pub(crate) fn buffered(&self) -> usize {
        match self {
            Self::Stream => 0,
            Self::Ws(decoder) => decoder.buffered(),
        }
    }

    /// Whether a frame or message has begun and not ended, beside what the connection
    /// keeps itself.
    pub(crate) fn in_progress(&self) -> bool {
        match self {
            Self::Stream => false,
            Self::Ws(decoder) => decoder.in_progress(),
        }
    }

    /// Appends a packet as it goes over the wire.
    pub(crate) fn encode(&self, codec: &dyn Codec, packet: &Packet, out: &mut Vec<u8>) {
        if self.is_ws() {
            encode_header(out, ws::Opcode::Binary, codec.encoded_len(packet));
        }
        codec.encode(packet, out);
    }

    /// Appends a frame that is encoded already.
    pub(crate) fn append(&self, frame: &[u8], out: &mut Vec<u8>) {
        if self.is_ws() {
            encode_header(out, ws::Opcode::Binary, frame.len());
        }
        out.extend_from_slice(frame);
    }
}

fn ws_reason(error: &ws::WsError) -> CloseReason {
    CloseReason::from_code(error.close_code()).unwrap_or(CloseReason::WebSocketProtocol)
}

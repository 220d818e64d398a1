//! Client frames to messages and control events (RFC 6455 sections 5 to 8).
//!
//! Two ways through. A frame that is a whole message or a control frame, lies wholly in the
//! input and finds nothing in progress is unmasked where it lies and lent out: that is nearly
//! every frame of a busy connection. Everything else goes through [`InProgress`], which is
//! allocated when needed and freed with the last frame or fragment.

use std::ops::Deref;

use super::header::{self, Header, MAX_HEADER, Opcode, unmask};
use super::{WsError, is_legal_close_code};

/// What a connection's messages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes, over all its fragments.
    pub max_message: usize,
    /// The most frames one message may be made of; empty ones count too.
    pub max_fragments: u32,
    /// Whether text messages are accepted, and which.
    pub text: TextMessages,
}

/// What becomes of text messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextMessages {
    /// They are a violation.
    #[default]
    Refused,
    /// They are accepted, and must be UTF-8 (RFC 6455 section 8.1).
    Utf8,
    /// They are accepted with any bytes in them, for clients that send binary data as text.
    AnyBytes,
}

/// One thing the client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message.
    Message {
        /// Sent as text; the payload is then valid UTF-8, unless [`TextMessages::AnyBytes`]
        /// are accepted.
        text: bool,
        /// The message, all fragments together.
        payload: Payload<'a>,
    },
    /// To be answered by a pong with the same payload, at most 125 bytes.
    Ping(Payload<'a>),
    /// The answer to a ping, or an unasked one; at most 125 bytes.
    Pong(Payload<'a>),
    /// The client's last frame, with its code and reason if it gave them. To be answered by a
    /// close frame unless one was sent already.
    Close(Option<CloseFrame>),
}

impl Event<'_> {
    /// The event without a tie to the decoder's input; copies only what is lent.
    pub fn into_owned(self) -> Event<'static> {
        match self {
            Event::Message { text, payload } => Event::Message {
                text,
                payload: payload.into_owned(),
            },
            Event::Ping(payload) => Event::Ping(payload.into_owned()),
            Event::Pong(payload) => Event::Pong(payload.into_owned()),
            Event::Close(close) => Event::Close(close),
        }
    }
}

/// What a close frame says (RFC 6455 section 5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// A code that [`is_legal_close_code`] accepts.
    pub code: u16,
    /// At most 123 bytes; may be empty. Written by the client: escape it before logging.
    pub reason: String,
}

/// Bytes of a message or control frame, without their mask: lent from the input if they lay
/// there in one piece.
#[derive(Debug, Clone)]
pub enum Payload<'a> {
    /// Lies in the decoder's input.
    Borrowed(&'a [u8]),
    /// Was put together from pieces.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes as a vector; copies only what is lent.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Payload::Borrowed(bytes) => bytes.to_vec(),
            Payload::Owned(bytes) => bytes,
        }
    }

    /// The payload without a tie to the decoder's input; copies only what is lent.
    pub fn into_owned(self) -> Payload<'static> {
        Payload::Owned(self.into_vec())
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

/// Decodes the byte stream of one client. Takes 16 bytes while nothing is in progress.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<InProgress>>,
    finished: bool,
}

impl Decoder {
    /// A decoder for the first byte after the upgrade request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` and returns how many, and at most one event. The
    /// bytes taken may have been unmasked in place.
    ///
    /// Without an event all of `input` was taken; an incomplete frame is kept here, and grows
    /// by the bytes that came, never by the length announced. With an event, call again with
    /// the rest.
    ///
    /// After a close frame or an error the client has nothing more to say: everything is taken
    /// and nothing decoded.
    ///
    /// # Errors
    /// The violation; it carries the code to close with. The same bytes give the same events
    /// and the same error however they are split.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Event<'a>>), WsError> {
        if self.finished {
            return Ok((input.len(), None));
        }
        let result = if self.partial.is_none() {
            match whole_frame(input, limits) {
                Ok(Some((header, end))) => {
                    let payload = &mut input[header.len..end];
                    unmask(payload, header.mask, 0);
                    borrowed_event(header.opcode, payload, limits).map(|event| (end, Some(event)))
                }
                Ok(None) => self.decode_pieces(input, limits),
                Err(error) => Err(error),
            }
        } else {
            self.decode_pieces(input, limits)
        };
        if matches!(result, Err(_) | Ok((_, Some(Event::Close(_))))) {
            self.finished = true;
            self.partial = None;
        }
        result
    }

    /// Memory held for an incomplete frame or message, in bytes: what is allocated, not what
    /// is announced. 0 while nothing is in progress.
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            size_of::<InProgress>()
                + partial.control.capacity()
                + partial.message.as_ref().map_or(0, |m| m.bytes.capacity())
        })
    }

    /// A frame or a fragmented message has begun and not ended; a deadline applies.
    pub fn in_progress(&self) -> bool {
        self.partial.is_some()
    }

    /// A close frame or a violation was seen; nothing more will be decoded.
    pub fn finished(&self) -> bool {
        self.finished
    }

    #[cold]
    #[inline(never)]
    fn decode_pieces(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Event<'static>>), WsError> {
        if input.is_empty() {
            return Ok((0, None));
        }
        let mut partial = self.partial.take().unwrap_or_default();
        let result = partial.advance(input, limits)?;
        if !partial.is_idle() {
            self.partial = Some(partial);
        }
        Ok(result)
    }
}

/// The header and end of a frame that is an event by itself and lies wholly in `input`.
#[inline]
fn whole_frame(input: &[u8], limits: &Limits) -> Result<Option<(Header, usize)>, WsError> {
    let header = header::parse(
        input,
        |_, opcode| admit_frame(opcode, None, limits),
        |opcode, announced| admit_payload(opcode, announced, 0, limits),
    )?;
    Ok(header.and_then(|header| {
        // Without overflow: both were seen in memory or held against a limit in memory.
        let end = header.len.checked_add(header.payload)?;
        (header.fin && end <= input.len()).then_some((header, end))
    }))
}

/// Judges what the first byte of a frame says, given the message in progress.
#[inline]
fn admit_frame(opcode: Opcode, message: Option<&Message>, limits: &Limits) -> Result<(), WsError> {
    let frames_before = match (opcode, message) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
        (Opcode::Continuation, None) => return Err(WsError::UnexpectedContinuation),
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WsError::ExpectedContinuation),
        (Opcode::Text, None) if limits.text == TextMessages::Refused => {
            return Err(WsError::TextRefused);
        }
        (Opcode::Text | Opcode::Binary, None) => 0,
        (Opcode::Continuation, Some(message)) => message.frames,
    };
    if frames_before >= limits.max_fragments {
        return Err(WsError::TooManyFragments);
    }
    Ok(())
}

/// Judges the announced length of a frame, before a byte of its payload is kept.
#[inline]
fn admit_payload(
    opcode: Opcode,
    announced: u64,
    received: usize,
    limits: &Limits,
) -> Result<usize, WsError> {
    let announced = usize::try_from(announced).map_err(|_| WsError::MessageTooBig)?;
    if !opcode.is_control() && announced > limits.max_message.saturating_sub(received) {
        return Err(WsError::MessageTooBig);
    }
    Ok(announced)
}

#[inline]
fn borrowed_event<'a>(
    opcode: Opcode,
    payload: &'a [u8],
    limits: &Limits,
) -> Result<Event<'a>, WsError> {
    match opcode {
        Opcode::Binary | Opcode::Continuation => Ok(Event::Message {
            text: false,
            payload: Payload::Borrowed(payload),
        }),
        Opcode::Text if limits.text == TextMessages::Utf8 && str::from_utf8(payload).is_err() => {
            Err(WsError::TextNotUtf8)
        }
        Opcode::Text => Ok(Event::Message {
            text: true,
            payload: Payload::Borrowed(payload),
        }),
        Opcode::Ping => Ok(Event::Ping(Payload::Borrowed(payload))),
        Opcode::Pong => Ok(Event::Pong(Payload::Borrowed(payload))),
        Opcode::Close => close_frame(payload).map(Event::Close),
    }
}

fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, WsError> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(WsError::CloseTruncated),
        };
    };
    let code = u16::from_be_bytes(code);
    if !is_legal_close_code(code) {
        return Err(WsError::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WsError::CloseReasonNotUtf8)?;
    Ok(Some(CloseFrame {
        code,
        reason: reason.to_owned(),
    }))
}

/// What has come of a frame, of a message, or of both.
#[derive(Debug, Default)]
struct InProgress {
    /// The bytes of a header that is not whole yet.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The frame whose payload is coming.
    frame: Option<Header>,
    /// How much of that payload has come, in bytes.
    received: usize,
    /// The payload of that frame if it is a control frame.
    control: Vec<u8>,
    /// The data message that has begun.
    message: Option<Message>,
}

impl InProgress {
    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    fn advance(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Event<'static>>), WsError> {
        let mut used = 0;
        while used < input.len() {
            let frame = match self.frame {
                Some(frame) => frame,
                None => {
                    used += self.take_header(&input[used..], limits)?;
                    match self.frame {
                        Some(frame) => frame,
                        None => break,
                    }
                }
            };
            used += self.take_payload(&frame, &input[used..])?;
            if self.received == frame.payload
                && let Some(event) = self.end_frame(&frame)?
            {
                return Ok((used, Some(event)));
            }
        }
        Ok((used, None))
    }

    /// Takes header bytes; once the header is whole, `frame` is set.
    fn take_header(&mut self, input: &[u8], limits: &Limits) -> Result<usize, WsError> {
        let had = self.header_len;
        let taken = input.len().min(MAX_HEADER - had);
        self.header[had..had + taken].copy_from_slice(&input[..taken]);
        let message = self.message.as_ref();
        let header = header::parse(
            &self.header[..had + taken],
            |_, opcode| admit_frame(opcode, message, limits),
            |opcode, announced| {
                let received = message.map_or(0, |m| m.bytes.len());
                admit_payload(opcode, announced, received, limits)
            },
        )?;
        let Some(header) = header else {
            self.header_len = had + taken;
            return Ok(taken);
        };
        if !header.opcode.is_control() {
            let message = self.message.get_or_insert_with(|| Message {
                text: header.opcode == Opcode::Text,
                must_be_utf8: header.opcode == Opcode::Text && limits.text == TextMessages::Utf8,
                ..Message::default()
            });
            message.frames += 1;
        }
        self.header_len = 0;
        self.frame = Some(header);
        self.received = 0;
        Ok(header.len - had)
    }

    fn take_payload(&mut self, frame: &Header, input: &[u8]) -> Result<usize, WsError> {
        let piece = &input[..input.len().min(frame.payload - self.received)];
        match &mut self.message {
            Some(message) if !frame.opcode.is_control() => {
                append(&mut message.bytes, piece, frame, self.received);
                message.check_text()?;
            }
            _ => append(&mut self.control, piece, frame, self.received),
        }
        self.received += piece.len();
        Ok(piece.len())
    }

    fn end_frame(&mut self, frame: &Header) -> Result<Option<Event<'static>>, WsError> {
        self.frame = None;
        if frame.opcode.is_control() {
            let control = std::mem::take(&mut self.control);
            return match frame.opcode {
                Opcode::Ping => Ok(Some(Event::Ping(Payload::Owned(control)))),
                Opcode::Pong => Ok(Some(Event::Pong(Payload::Owned(control)))),
                _ => close_frame(&control).map(|close| Some(Event::Close(close))),
            };
        }
        if !frame.fin {
            return Ok(None);
        }
        let message = self.message.take().unwrap_or_default();
        if message.must_be_utf8 && message.checked < message.bytes.len() {
            return Err(WsError::TextNotUtf8);
        }
        Ok(Some(Event::Message {
            text: message.text,
            payload: Payload::Owned(message.bytes),
        }))
    }
}

/// A data message that has begun.
#[derive(Debug, Default)]
struct Message {
    text: bool,
    must_be_utf8: bool,
    bytes: Vec<u8>,
    /// So many bytes are valid UTF-8; what follows is the beginning of a character.
    checked: usize,
    frames: u32,
}

impl Message {
    /// Fails at the first byte that no UTF-8 text can have there (RFC 6455 section 8.1), not
    /// only at the end of the message. Bytes once found valid are not looked at again.
    fn check_text(&mut self) -> Result<(), WsError> {
        if !self.must_be_utf8 {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_some() => return Err(WsError::TextNotUtf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}

/// Appends `piece`, which lies `offset` bytes into the payload of `frame`, without its mask.
///
/// `buffer` at most doubles, so a drip can not make it hold more than twice what came; and what
/// will be the end of the message is not overshot.
fn append(buffer: &mut Vec<u8>, piece: &[u8], frame: &Header, offset: usize) {
    let start = buffer.len();
    if buffer.capacity() - start < piece.len() {
        let mut additional = piece.len().max(start);
        if frame.fin {
            additional = additional.min(frame.payload - offset);
        }
        buffer.reserve_exact(additional);
    }
    buffer.extend_from_slice(piece);
    unmask(&mut buffer[start..], frame.mask, offset);
}

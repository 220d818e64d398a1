// What goes wrong, as types. Match on the class and on `code`, never on a message.

/** What every error of this client is. */
export class TidegateError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "TidegateError";
  }
}

/** A packet was not served: the gate, or a service, says why with a numbered code. */
export class GateError extends TidegateError {
  constructor({ code, text, topic }) {
    super(`${printable(topic)}: ${printable(text)} (${code})`);
    this.name = "GateError";
    this.code = code;
    /** The gate's words, exactly. */
    this.text = text;
    this.topic = topic;
  }
}

/** No answer in time. */
export class TimeoutError extends TidegateError {
  constructor(topic, sent) {
    super(`${printable(topic)}: no answer in time${sent ? "" : ", it was not sent"}`);
    this.name = "TimeoutError";
    this.topic = topic;
    /** Whether the request was written: if not, it will not be served. */
    this.sent = sent;
  }
}

/** The request was sent, and its session ended before the answer came. */
export class OutcomeUnknownError extends TidegateError {
  constructor(topic) {
    super(`${printable(topic)}: the session ended before the answer, it may have been served`);
    this.name = "OutcomeUnknownError";
    this.topic = topic;
  }
}

/** The client is closed: by its user, or by a gate that does not want it back. */
export class ClosedError extends TidegateError {
  constructor(message, { code, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ClosedError";
    /** The gate's close code, if it was the gate. */
    this.code = code;
  }
}

/** Too much waits already. */
export class QueueFullError extends TidegateError {
  constructor(what) {
    super(`${what} already wait for the gate`);
    this.name = "QueueFullError";
  }
}

/** The packet does not fit a frame of the gate's. */
export class TooLargeError extends TidegateError {
  constructor(topic, size, max) {
    super(`${printable(topic)}: the frame has ${size} bytes, at most ${max} are possible`);
    this.name = "TooLargeError";
    this.topic = topic;
  }
}

/** The gate does not keep to the protocol. */
export class ProtocolError extends TidegateError {
  constructor(message) {
    super(message);
    this.name = "ProtocolError";
  }
}

/**
 * Text from elsewhere, fit for a log or a terminal: no control characters, nothing that turns
 * the writing direction, not too long.
 */
export function printable(text) {
  const unsafe = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
  const escape = (c) => `\\u{${c.charCodeAt(0).toString(16)}}`;
  const shown = String(text).slice(0, 200).replace(unsafe, escape);
  return String(text).length > 200 ? `${shown}…` : shown;
}

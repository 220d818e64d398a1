/** What may be sent: bytes as they are, text as UTF-8, nothing, and all else as JSON. */
export type Body = Uint8Array | ArrayBuffer | ArrayBufferView | string | undefined | JsonValue;

export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/** Topic and body. */
export interface Packet {
  readonly topic: string;
  /** A view of the frame that came: copy it to change it. */
  readonly body: Uint8Array;
  /** The body as UTF-8; what is not becomes U+FFFD. */
  text(): string;
  /** The body as JSON. Throws SyntaxError if it is not. */
  json<T = unknown>(): T;
}

/** What a gate says when a session begins, or goes on. */
export interface Welcome {
  readonly gate: string;
  readonly session: string;
  /** The user the session is bound to; null for a guest. */
  readonly user: string | null;
  readonly capabilities: readonly string[];
  /** Milliseconds within which each side is heard. */
  readonly heartbeat: { readonly client: number; readonly gate: number };
  /** Largest frame in bytes, both ways. */
  readonly maxPacket: number;
  /** Milliseconds for which the gate keeps the session without a connection; null: not at all. */
  readonly resumeWindow: number | null;
  /** Whether it is the session of the connection before. */
  readonly resumed: boolean;
  /** Why it is not, where it could have been. */
  readonly refused: Refused | null;
}

/** Why a session does not go on. Show `text` as text, never as HTML. */
export interface Refused {
  /** See {@link ResumeRefusal}. */
  readonly code: number;
  readonly text: string;
}

/**
 * - `idle`: not connected yet.
 * - `connecting`: an attempt is under way.
 * - `open`: connected.
 * - `waiting`: the next attempt is made after `delay` milliseconds.
 * - `offline`: without a network, in a page that nobody sees, or in one that was left.
 * - `closed`: by the user, or for good by the gate.
 */
export type StateName = "idle" | "connecting" | "open" | "waiting" | "offline" | "closed";

export interface State {
  readonly state: StateName;
  /** Attempts in a row that came to nothing, or whose connection did not last. */
  readonly attempt?: number;
  /** `waiting`, `offline`: milliseconds to the next attempt. */
  readonly delay?: number;
  /** `open`: whether the session of the connection before goes on, and if not, why. */
  readonly resumed?: boolean;
  readonly refused?: Refused | null;
  /** The gate's close code (see {@link CloseCode}), or WebSocket's. */
  readonly code?: number;
  /** In words: for people only. Free of control characters. */
  readonly reason?: string;
  /** What `auth` threw, or why a connection cannot be tried. */
  readonly error?: unknown;
}

/** Packets that the gate did not deliver, and never will. */
export interface Gap {
  readonly count: number;
  /** `replaced`, `dropped` or `too-large`. */
  readonly reason: string;
}

/** The gate is going to close; the client leaves it before, when no request is under way. */
export interface Drain {
  /** In how many milliseconds the gate closes. */
  readonly deadline: number;
  /** How many milliseconds it asks the client to wait. */
  readonly retryAfter: number;
}

/** A session has ended that was not closed here. */
export interface Lost {
  /** Written, and not acknowledged by the gate: served or not. Requests fail as well. */
  readonly unknown: readonly Packet[];
  /** Not written, and not going to be: the client is closed. */
  readonly unsent: readonly Packet[];
  readonly refused: Refused | null;
}

export interface Events {
  state: State;
  gap: Gap;
  /** A one-way packet was not served or is too large, or `prepare` failed. */
  error: GateError | TooLargeError | unknown;
  drain: Drain;
  lost: Lost;
  /** From now on the session ends with its connection. */
  unresumable: Refused | null;
}

/** What `prepare` sends with: its packets go before those that wait. */
export interface First {
  readonly welcome: Welcome;
  request(method: string, body?: Body, options?: RequestOptions): Promise<Packet>;
  send(topic: string, body?: Body): void;
}

export interface RequestOptions {
  /** Milliseconds; `Infinity` for no limit. */
  timeout?: number;
  signal?: AbortSignal;
}

/** Where a session is kept while its page reloads. One for each client. */
export interface SessionStorage {
  get(): string | null | undefined;
  set(text: string): unknown;
  remove(): unknown;
}

/** What is needed of a WebSocket: browsers' own, Node's, or npm's `ws`. */
export type WebSocketConstructor = new (
  url: string,
  protocols?: string | string[],
) => {
  binaryType: string;
  send(data: any): void;
  close(code?: number, reason?: string): void;
};

export interface Options {
  /** What `$hello` shows: any JSON, or a function that gives it, asked at each connection. */
  auth?: JsonValue | (() => JsonValue | undefined | Promise<JsonValue | undefined>);
  /** Tells devices of one user apart; at most 128 bytes, without control characters. */
  device?: string;
  /** What this client is, for the gate's logs; at most 128 bytes. */
  agent?: string;
  /** Whether the session may outlive its connection. `true`. */
  resume?: boolean;
  /** Milliseconds for the answer to a request. 10,000. */
  requestTimeout?: number;
  /** Milliseconds for a connection, `auth` included. 10,000. */
  connectTimeout?: number;
  /** Heartbeat intervals to ask for, in milliseconds. The gate's longest. */
  heartbeat?: { client: number; gate: number };
  /** Milliseconds between attempts: at most `base` before the second, then double, up to `cap`. 500 and 30,000. */
  backoff?: { base?: number; cap?: number };
  /** What may wait to be written, and as much again without being acknowledged. 256 and 1 MiB. */
  maxQueued?: { packets?: number; bytes?: number };
  /** Requests whose answer may be awaited at a time. 1,024. */
  maxRequests?: number;
  /** Milliseconds for which a page that is hidden goes on trying to connect. 300,000. */
  maxHidden?: number;
  /**
   * Called when a session begins, not when one goes on. What waits is sent when it is done;
   * what it sends itself goes first.
   */
  prepare?: (first: First) => unknown;
  /** WebSocket sub-protocols to offer. */
  protocols?: string | string[];
  /** Where there is none of its own: npm's `ws`. */
  WebSocket?: WebSocketConstructor;
  /** Keeps the session over a reload of the page. */
  storage?: SessionStorage;
  /** For tests: time and dice. */
  clock?: {
    now(): number;
    random(): number;
    setTimeout(run: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
  };
  /** For tests: what stands for `globalThis` with its `navigator`, `document` and events. */
  page?: object;
}

/** A client of one gate, or of the gates behind one address. */
export class Client {
  constructor(url: string | URL, options?: Options);

  readonly state: StateName;
  /** The session's id, for logs; null without one. */
  readonly session: string | null;
  /** As the last connection began. */
  readonly user: string | null;
  /** Whether the session would outlive its connection now. */
  readonly resumable: boolean;

  /** Connects, and stays connected. Rejects with ClosedError only. */
  connect(): Promise<Welcome>;

  /**
   * Asks a service: `method` is `service/method`. Without a connection it waits for one.
   *
   * Rejects with GateError, TimeoutError, OutcomeUnknownError, QueueFullError, TooLargeError,
   * ClosedError, or the signal's reason.
   */
  request(method: string, body?: Body, options?: RequestOptions): Promise<Packet>;

  /**
   * Sends a packet that is not answered. Throws QueueFullError, TooLargeError, ClosedError;
   * what becomes known later is an `error` or `lost` event.
   */
  send(topic: string, body?: Body): void;

  /** Hears of packets that are no answers: of a topic, of those below `chat/`, or of all, `*`. */
  subscribe(topic: string, handler: (packet: Packet) => unknown): () => void;

  on<E extends keyof Events>(event: E, handler: (value: Events[E]) => unknown): () => void;

  /** States from the present one on, until `closed`. A slow reader misses old ones. */
  states(): AsyncIterableIterator<State>;

  /** Says goodbye: the session ends, requests fail, what waits is not sent. */
  close(): void;
}

/** What every error of this client is. Match on the class and on `code`, not on the message. */
export class TidegateError extends Error {}

/** A packet was not served. */
export class GateError extends TidegateError {
  /** See {@link ErrorCode}; from 1000 on the service's own. */
  readonly code: number;
  /** The gate's words, exactly: show them as text, never as HTML. */
  readonly text: string;
  readonly topic: string;
}

/** No answer in time. */
export class TimeoutError extends TidegateError {
  readonly topic: string;
  /** Whether the request was written: if not, it will not be served. */
  readonly sent: boolean;
}

/** The session ended before the answer: the request may have been served. */
export class OutcomeUnknownError extends TidegateError {
  readonly topic: string;
}

/** The client is closed. */
export class ClosedError extends TidegateError {
  /** The close code, if the gate closed. */
  readonly code: number | undefined;
}

/** Too much waits already. */
export class QueueFullError extends TidegateError {}

/** The packet does not fit a frame. */
export class TooLargeError extends TidegateError {
  readonly topic: string;
}

/** The gate does not keep to the protocol. */
export class ProtocolError extends TidegateError {}

/** Why a packet was not served. */
export const ErrorCode: {
  readonly BAD_TOPIC: 1;
  readonly RESERVED_TOPIC: 2;
  readonly NOT_FOUND: 3;
  readonly ID_REQUIRED: 4;
  readonly UNAVAILABLE: 5;
  readonly OUTCOME_UNKNOWN: 6;
  readonly INSTANCE_GONE: 7;
  readonly INTERNAL: 8;
  readonly REFUSED: 9;
  readonly BAD_BODY: 10;
  readonly ANSWER_TOO_LARGE: 11;
  readonly OVERLOADED: 12;
};

/** Why a session does not go on. */
export const ResumeRefusal: {
  readonly Unknown: 1;
  readonly Expired: 2;
  readonly Overflowed: 3;
  readonly WrongUser: 4;
  readonly BadCount: 5;
  readonly Spent: 6;
  readonly Ended: 7;
  readonly NotHere: 8;
  readonly TooMany: 9;
};

/** Why a gate closes: 4000 to 4499 invite to come back, 4500 to 4999 do not. */
export const CloseCode: {
  readonly Shutdown: 4000;
  readonly Slow: 4001;
  readonly HeartbeatTimeout: 4002;
  readonly MemoryPressure: 4003;
  readonly Internal: 4004;
  readonly SetupTimeout: 4005;
  readonly PartialFrameTimeout: 4006;
  readonly AuthenticationUnavailable: 4007;
  readonly BadFrame: 4500;
  readonly FrameTooLarge: 4501;
  readonly BadTopic: 4502;
  readonly AuthenticationRefused: 4503;
  readonly Kicked: 4504;
  readonly BindDeadline: 4505;
  readonly ExtendedProtocol: 4507;
  readonly NoCommonVersion: 4508;
  readonly TokenStolen: 4509;
  readonly Replaced: 4510;
  readonly TooManyLogins: 4511;
};

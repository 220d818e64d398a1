// The numbers of the protocol: docs/protocol.md has them with their meanings.

/** Why a packet was not served. From 1000 on they are the services' own. */
export const ErrorCode = Object.freeze({
  BAD_TOPIC: 1,
  RESERVED_TOPIC: 2,
  NOT_FOUND: 3,
  ID_REQUIRED: 4,
  UNAVAILABLE: 5,
  OUTCOME_UNKNOWN: 6,
  INSTANCE_GONE: 7,
  INTERNAL: 8,
  REFUSED: 9,
  BAD_BODY: 10,
  ANSWER_TOO_LARGE: 11,
  OVERLOADED: 12,
});

/** Why a session was not resumed. */
export const ResumeRefusal = Object.freeze({
  Unknown: 1,
  Expired: 2,
  Overflowed: 3,
  WrongUser: 4,
  BadCount: 5,
  Spent: 6,
  Ended: 7,
  NotHere: 8,
  TooMany: 9,
});

/** Close codes of the gate's own: 4000 to 4499 invite to come back, 4500 to 4999 do not. */
export const CloseCode = Object.freeze({
  Shutdown: 4000,
  Slow: 4001,
  HeartbeatTimeout: 4002,
  MemoryPressure: 4003,
  Internal: 4004,
  SetupTimeout: 4005,
  PartialFrameTimeout: 4006,
  AuthenticationUnavailable: 4007,
  BadFrame: 4500,
  FrameTooLarge: 4501,
  BadTopic: 4502,
  AuthenticationRefused: 4503,
  Kicked: 4504,
  BindDeadline: 4505,
  ExtendedProtocol: 4507,
  NoCommonVersion: 4508,
  TokenStolen: 4509,
  Replaced: 4510,
  TooManyLogins: 4511,
});

/** Whether a close code tells the client to stay away. */
export const isFinal = (code) => code >= 4500 && code <= 4999;

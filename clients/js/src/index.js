// A client of Tidegate gates: see README.md and index.d.ts.

export { Client } from "./client.js";
export { CloseCode, ErrorCode, ResumeRefusal } from "./codes.js";
export { Packet } from "./codec.js";
export {
  ClosedError,
  GateError,
  OutcomeUnknownError,
  ProtocolError,
  QueueFullError,
  TidegateError,
  TimeoutError,
  TooLargeError,
} from "./errors.js";

// States and errors in words.

import { ClosedError, GateError, OutcomeUnknownError, QueueFullError, TimeoutError, TooLargeError } from "/client/index.js";

const sentence = (text) => {
  const shown = text.trim();
  const [first = "", ...rest] = shown;
  return `${first.toUpperCase()}${rest.join("")}${/[.!?]$/.test(shown) ? "" : "."}`;
};

/** What went wrong. */
export function errorWords(error) {
  if (error instanceof GateError) return sentence(error.text);
  if (error instanceof TimeoutError && !error.sent) return "There is no connection: it was not sent.";
  if (error instanceof TimeoutError) return "No answer came in time; it may have been done or not.";
  if (error instanceof OutcomeUnknownError) return "The session ended before the answer; it may have been done or not.";
  if (error instanceof QueueFullError) return "Too much waits for the connection already.";
  if (error instanceof TooLargeError) return "That is too long.";
  if (error instanceof ClosedError) return "The connection has ended.";
  return sentence(String(error?.message ?? error));
}

const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

/**
 * The state of the connection: `tone` for its colour, a title, and a detail. `{s}` in the detail
 * stands for the seconds until `until`.
 */
export function stateWords({ state, cutUntil, resumable, missed, catchingUp, since }) {
  if (cutUntil !== null && state.state !== "closed") {
    const detail = "Back in {s} s. What the others say is kept.";
    return { tone: "bad", title: "Cut by you", detail, until: cutUntil };
  }
  switch (state.state) {
    case "idle":
      return { tone: "busy", title: "Not connected", detail: "" };
    case "connecting":
      return resumable
        ? { tone: "busy", title: "Resuming", detail: "Asking for your session." }
        : { tone: "busy", title: "Connecting", detail: "" };
    case "open":
      return opened(state, missed, catchingUp);
    case "waiting": {
      const detail = resumable ? "Trying to resume in {s} s." : "Trying again in {s} s.";
      return { tone: "bad", title: "Connection lost", detail, until: since + state.delay };
    }
    case "offline":
      return { tone: "bad", title: "No network", detail: "It goes on when there is one." };
    default:
      return { tone: "bad", title: "Ended", detail: sentence(state.reason || "the connection has ended") };
  }
}

function opened({ resumed }, missed, catchingUp) {
  if (catchingUp) return { tone: "busy", title: "Resuming", detail: "Fetching what you missed." };
  if (!resumed) return { tone: "good", title: "Connected", detail: "" };
  const { messages, packets, gaps } = missed;
  const arrived = messages > 0 ? `${count(messages, "missed message")} delivered` : "You missed nothing";
  const others = packets - messages;
  const more = others > 0 && messages > 0 ? `, and ${count(others, "other packet")}` : "";
  const gap = gaps > 0 ? `; ${count(gaps, "packet")} could not be kept` : "";
  return { tone: "good", title: "Resumed", detail: `${arrived}${more}${gap}.` };
}

/** Something that happened in a room. */
export function eventWords(kind, event) {
  switch (kind) {
    case "joined":
      return [event.name, " has come"];
    case "left":
      return [event.name, " has left"];
    case "renamed":
      return [event.was, " is now ", event.name];
    case "owner":
      return ["The room is now ", event.name, "’s"];
    case "kicked":
      return [event.by, " has sent you out of ", event.room, " into the lobby"];
  }
  return [];
}

// The page: what is clicked and typed goes to the chat, what the chat tells is shown.

import { Chat } from "./chat.js";
import { Drawers, nameDialog } from "./dialogs.js";
import { Log } from "./log.js";
import { byId } from "./page.js";
import { showPeople, showRooms } from "./people.js";
import { errorWords, stateWords } from "./words.js";

/** What this page was, for itself after a reload. */
const KEPT = "tidegate-chat";
/** How often seconds are counted down, in milliseconds. */
const TICK = 250;

let chat = null;
/** Whom the next message is for; null for everyone in the room. */
let to = null;
let ticking;

const log = new Log(byId("log"), byId("newest"));
const drawers = new Drawers();
const askName = nameDialog(
  async (name) => {
    await chat.rename(name);
    showLists();
  },
  errorWords,
);

/** Where the gate is: beside this page, unless the page was told. */
function gateUrl() {
  const { content, dataset } = document.querySelector('meta[name="tidegate-gate"]');
  return content || `ws://${location.hostname}:${dataset.port}/`;
}

// --- in and out

function begin({ name, room, entries = [] }) {
  chat = new Chat(gateUrl(), { name, room }, {
    state: showState,
    lists: showLists,
    moved: showPlace,
    entry: (entry) => log.add(entry),
    history: (entries) => log.merge(entries),
    caughtUp: () => log.caughtUp(),
    pending: (entry) => log.pending(entry),
    sent: (id, entry) => log.sent(id, entry),
    failed: (id, words) => log.failed(id, words),
    refused: (words) => end(words),
  });
  log.begin(entries, chat.room);
  byId("login").hidden = true;
  byId("chat").hidden = false;
  ticking = setInterval(showState, TICK);
  writeTo(null);
  showPlace();
  chat.start();
  showState();
  byId("text").focus();
}

function end(words = "") {
  const { name } = chat;
  chat = null;
  clearInterval(ticking);
  sessionStorage.removeItem(KEPT);
  drawers.close();
  byId("rename-dialog").close();
  byId("chat").hidden = true;
  byId("login").hidden = false;
  byId("login-error").textContent = words;
  byId("login-name").value = name;
  byId("login-name").select();
  document.title = "Tidegate chat";
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("login-error").textContent = "";
  begin({ name: byId("login-name").value });
});
byId("leave").addEventListener("click", () => {
  chat.leave();
  end();
});

addEventListener("pagehide", () => {
  if (chat === null) return;
  const { name, room } = chat;
  sessionStorage.setItem(KEPT, JSON.stringify({ name, room, entries: log.kept }));
});

// A browser that kept the whole page needs no copy of it.
addEventListener("pageshow", ({ persisted }) => persisted && sessionStorage.removeItem(KEPT));

// --- what there is to see

function showState() {
  if (chat === null) return;
  const { tone, title, detail, until } = stateWords(chat.state);
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  byId("line").dataset.tone = tone;
  setText("line-title", title);
  setText("line-detail", detail.replace("{s}", String(seconds)));
  const { cutUntil, state } = chat.state;
  if (state.state === "closed") offer("Connect", " again");
  else if (cutUntil === null) offer("Cut", " the connection");
  else offer("Reconnect", " now");
}

/** What the button at the connection does; in one word where there is no room for more. */
function offer(word, more) {
  setText("cut-word", word);
  setText("cut-words", word + more);
  byId("cut").setAttribute("aria-label", word + more);
  byId("cut").dataset.does = word;
}

/** Only what changes is touched: it would be read aloud each time. */
function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function showPlace() {
  setText("room-name", chat.room);
  document.title = `#${chat.room} · Tidegate chat`;
  log.enter(chat.room);
  showLists();
}

function showLists() {
  setText("my-name", chat.name);
  setText("people-count", chat.count > 0 ? String(chat.count) : "");
  showRooms(byId("room-list"), chat, join);
  showPeople(byId("people-list"), chat, {
    write: (name) => {
      drawers.close();
      writeTo(name);
    },
    kick: (name) => tried(chat.kick(name)),
  });
}

// --- what there is to do

async function tried(doing) {
  setText("say-error", "");
  try {
    await doing;
    return true;
  } catch (error) {
    setText("say-error", errorWords(error));
    return false;
  }
}

async function join(room) {
  drawers.close();
  if (await tried(chat.join(room))) byId("text").focus();
}

function writeTo(name) {
  to = name;
  byId("to").hidden = name === null;
  setText("to-name", name ?? "");
  byId("text").placeholder = name === null ? "Message" : "Private message";
  byId("text").focus();
}

function send() {
  const text = byId("text").value.trim();
  if (text === "") return;
  setText("say-error", "");
  if (to === null) chat.say(text);
  else chat.tell(to, text);
  byId("text").value = "";
  grow();
}

/** The field is as high as what is in it, up to a third of the window. */
function grow() {
  const field = byId("text");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight / 3)}px`;
}

byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("text").addEventListener("input", grow);
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") writeTo(null);
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
byId("to-all").addEventListener("click", () => writeTo(null));
byId("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("room-new");
  join(field.value);
  field.value = "";
});
byId("rename").addEventListener("click", () => askName(chat.name));
byId("cut").addEventListener("click", () => {
  const { cutUntil, state } = chat.state;
  if (state.state === "closed") chat.start();
  else if (cutUntil === null) chat.cut();
  else chat.mend();
});

// --- after a reload

/** What the page before left; taken out, so that no other tab finds it. */
function kept() {
  try {
    const text = sessionStorage.getItem(KEPT);
    sessionStorage.removeItem(KEPT);
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

const before = kept();
if (before !== null) begin(before);
else byId("login-name").focus();

// The lists: rooms, and who is there.

import { avatar, element, foreign, replace } from "./page.js";

const many = (n, one) => `${n} ${n === 1 ? one : `${one === "person" ? "people" : `${one}s`}`}`;

/** The rooms; `go(room)` is called with the one that is chosen. */
export function showRooms(list, chat, go) {
  const items = chat.rooms.map(({ room, people, owner }) => {
    const isHere = room === chat.room;
    const button = element(
      "button",
      { type: "button", className: "room", "aria-current": isHere ? "true" : undefined, "data-key": room },
      element("span", { className: "hash", "aria-hidden": "true" }, "#"),
      foreign(room, "name"),
      owner === chat.name ? element("span", { className: "badge" }, "yours") : null,
      element("span", { className: "count", "aria-label": many(people, "person") }, String(people)),
    );
    button.addEventListener("click", () => go(room));
    return element("li", {}, button);
  });
  replace(list, items);
}

/** Who is there: oneself, who is in the room, all others. `act` has `write(name)`, `kick(name)`. */
export function showPeople(list, chat, act) {
  const owner = chat.rooms.find(({ room }) => room === chat.room)?.owner;
  const rank = (one) => (one.name === chat.name ? 0 : one.room === chat.room ? 1 : 2);
  const sorted = [...chat.people].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  const items = sorted.map((one) => person(one, chat, owner, act));
  const rest = chat.count - chat.people.length;
  if (rest > 0) items.push(element("li", { className: "rest" }, `and ${many(rest, "person")} more`));
  replace(list, items);
}

function person({ name, room, away }, chat, owner, act) {
  const isMe = name === chat.name;
  const isHere = room === chat.room;
  const button = (label, key, does, className) => {
    const attributes = { type: "button", className, "aria-label": `${label} ${name}`, "data-key": `${key} ${name}` };
    const made = element("button", attributes, label);
    made.addEventListener("click", () => does(name));
    return made;
  };
  const marks = [];
  if (isMe) marks.push("you");
  if (isHere && owner === name) marks.push("owns the room");
  if (away) marks.push("away, comes back");
  const where = isHere ? marks.join(" · ") : null;
  const small = isHere
    ? element("small", {}, where || "here")
    : element("small", {}, "in ", foreign(room), ...(marks.length > 0 ? [` · ${marks.join(" · ")}`] : []));
  const who = element("span", { className: "who" }, foreign(name), small);
  const actions = isMe
    ? null
    : element(
        "span",
        { className: "actions" },
        button("Write", "write", act.write),
        chat.isOwner && isHere ? button("Kick", "kick", act.kick, "danger") : null,
      );
  const classes = ["person", away && "is-away", !isHere && "elsewhere"].filter(Boolean).join(" ");
  return element("li", { className: classes }, avatar(name), who, actions);
}

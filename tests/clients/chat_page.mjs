// The demo's chat page in Debian's Chromium: two windows chat, one loses its network, its
// connection is cut, its page is reloaded, its gate is started anew.
//
//   node chat_page.mjs PATH_OF_TIDEGATE
//
// Exit code 0 if all of it is as it should be. With TIDEGATE_TEST_SCREENSHOTS=DIRECTORY pictures
// of what there is to see are written there: phone and desktop, light and dark.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { launch, startDemo, startTunnel } from "./chat_page_support.mjs";

const program = process.argv[2];
const pictures = process.env.TIDEGATE_TEST_SCREENSHOTS;
const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 800 };

let tunnel;
let demo;
let browser;
/** What went wrong in any page: each is a failure. */
const complaints = [];

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});
beforeEach(async () => {
  tunnel = await startTunnel();
  demo = await startDemo(program, ["--ws-url", tunnel.url]);
  tunnel.port = demo.wsPort;
});
afterEach(async () => {
  await Promise.all(browser.contexts().map((context) => context.close()));
  await demo?.stop();
  tunnel?.stop();
});

// --- someone with a window

class Person {
  /** With `slow` its clock can be stopped. */
  static async open(name, viewport, slow = false) {
    const context = await browser.newContext({ viewport, reducedMotion: "reduce" });
    if (slow) await context.clock.install();
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) =>
        console.error(`policy violated: ${effectiveDirective} ${blockedURI}`),
      );
    });
    const person = new Person();
    Object.assign(person, { name, context, page: await context.newPage() });
    person.complain = (words) => complaints.push(`${name}: ${words}`);
    person.page.setDefaultTimeout(30_000);
    person.page.on("pageerror", (error) => person.complain(error.stack));
    person.page.on("dialog", (dialog) => person.complain(`a dialog, ${dialog.message()}`));
    person.page.on("console", (message) => {
      // A browser writes this by itself for a connection that cannot be made.
      if (message.type() === "error" && !/^WebSocket connection to/.test(message.text())) {
        person.complain(message.text());
      }
    });
    await person.page.goto(demo.url);
    return person;
  }

  static async join(name, viewport = DESKTOP, slow = false) {
    const person = await Person.open(name, viewport, slow);
    // As it comes: the field has the focus, Enter sends.
    await person.page.keyboard.type(name);
    await person.page.keyboard.press("Enter");
    await person.line(/^(Connected|Resumed)/);
    return person;
  }

  async say(text) {
    await this.page.fill("#text", text);
    await this.page.press("#text", "Enter");
  }

  /** Waits for words about the connection; answers all of them. */
  async line(words) {
    await this.page.waitForFunction(
      (source) => {
        const words = document.querySelector(".line-words").textContent.replace(/\s+/g, " ").trim();
        return new RegExp(source).test(words);
      },
      words.source,
      { polling: 50 },
    );
    return this.page.$eval(".line-words", (one) => one.textContent.replace(/\s+/g, " ").trim());
  }

  /** What the messages are, those that wait to be sent not among them. */
  messages(selector = "") {
    return this.page.$$eval(`#log .message:not(.pending)${selector} .bubble`, (all) => all.map((one) => one.textContent));
  }

  async sees(text, selector = "") {
    await this.page.waitForFunction(
      ([text, selector]) => {
        const all = document.querySelectorAll(`#log li${selector}`);
        return [...all].some((one) => (one.querySelector(".bubble") ?? one).textContent === text);
      },
      [text, `:not(.pending)${selector}`],
      { polling: 50 },
    );
  }

  /** The list of people, as one reads it. */
  async people() {
    return this.page.$$eval("#people-list .person .who", (all) => all.map((one) => [...one.children].map((c) => c.textContent).join(": ")));
  }

  async listed(text) {
    await this.page.waitForFunction(
      (text) => [...document.querySelectorAll("#people-list .who")].some((one) => [...one.children].map((c) => c.textContent).join(": ") === text),
      text,
      { polling: 50 },
    );
  }

  /** Does something where the lists are, which on a phone are drawers. */
  async inDrawer(name, does) {
    const opener = this.page.locator(`#open-${name}`);
    if (await opener.isVisible()) await opener.click();
    await does(this.page.locator(`#${name}`));
  }

  async enter(room) {
    await this.inDrawer("rooms", async (drawer) => {
      await drawer.getByLabel("Room to open or join").fill(room);
      await drawer.getByLabel("Room to open or join").press("Enter");
    });
    await this.page.waitForFunction((room) => document.querySelector("#room-name").textContent === room, room);
  }

  /** Closes the window. Who was logged in stays there for a while: it could be a reload. */
  async close() {
    await this.context.close();
  }

  /** Leaves the chat. */
  async leave() {
    await this.inDrawer("people", (drawer) => drawer.getByRole("button", { name: "Leave", exact: true }).click());
    await this.page.getByLabel("Your name", { exact: true }).waitFor();
    await this.close();
  }
}

/** Pictures of a page as it is now, in all four looks. */
async function picture({ page }, name, shown = async () => {}) {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  const before = page.viewportSize();
  for (const [size, viewport] of [["phone", PHONE], ["desktop", DESKTOP]]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await shown(size);
      await page.screenshot({ path: `${pictures}/${name}-${size}-${colorScheme}.png` });
    }
  }
  await page.setViewportSize(before);
  await page.emulateMedia({ colorScheme: null });
}

/** For a picture: with this drawer, where it is one. */
const openDrawer = ({ page }, name) => async (size) => {
  if (size !== "phone") return;
  // Another size of the window closes it: once that has happened.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.evaluate((name) => document.body.dataset.drawer ?? document.querySelector(`#open-${name}`).click(), name);
};

/** Nothing is too wide for the window, and all text can be read: contrast 4.5 or more. */
async function looksRight({ page }, what) {
  const before = page.viewportSize();
  for (const viewport of [{ width: 320, height: 600 }, PHONE, DESKTOP]) {
    await page.setViewportSize(viewport);
    const tooWide = await page.evaluate(() =>
      [document.scrollingElement, ...document.querySelectorAll(".log, .panel, .line, .composer, .bar")]
        .filter((one) => one.scrollWidth > one.clientWidth + 1)
        .map((one) => `${one.id || one.className}: ${one.scrollWidth} in ${one.clientWidth}`),
    );
    assert.deepEqual(tooWide, [], `${what}, ${viewport.width} wide`);
  }
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await page.evaluate(faint), [], `${what}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(before);
}

/** In the page: texts whose colour is too near to what is behind them. */
function faint() {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() === "" || !element.checkVisibility({ visibilityProperty: true })) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return found;
}

const numbered = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => `message ${from + i}`);

// --- what happens

test("two people chat, privately too, under other names, and one sends the other out", async () => {
  const stranger = await Person.open("stranger", DESKTOP);
  await picture(stranger, "login");
  await looksRight(stranger, "the log-in");
  await stranger.close();

  const ada = await Person.join("ada");
  const bob = await Person.join("bob", PHONE);
  await ada.sees("bob has come");
  await ada.say("hello, bob");
  await bob.sees("hello, bob");
  await bob.say("hello, ada");
  await ada.sees("hello, ada");
  assert.deepEqual(await ada.messages(".mine"), ["hello, bob"]);

  // What is refused says so, and can be tried again.
  const other = await Person.open("other", PHONE);
  await other.page.keyboard.type("ADA");
  await other.page.keyboard.press("Enter");
  await other.page.getByRole("alert").getByText("The name is taken.").waitFor();
  await other.page.fill("#login-name", "carla");
  await other.page.press("#login-name", "Enter");
  await other.line(/^Connected/);
  await other.sees("hello, ada");
  assert.deepEqual(await other.messages(), ["hello, bob", "hello, ada"], "what was said before");

  await bob.inDrawer("people", (drawer) => drawer.getByRole("button", { name: "Write ada" }).click());
  await bob.say("only you can see this");
  await ada.sees("only you can see this", ".told");
  await bob.sees("only you can see this", ".told");
  await bob.page.press("#text", "Escape");
  await bob.say("this is for all");
  await other.sees("this is for all");
  assert.ok(!(await other.messages()).includes("only you can see this"));

  await bob.inDrawer("people", (drawer) => drawer.getByRole("button", { name: "Change name" }).click());
  const dialog = bob.page.getByRole("dialog");
  await dialog.getByLabel("New name").fill("carla");
  await bob.page.keyboard.press("Enter");
  await dialog.getByText("The name is taken.").waitFor();
  await dialog.getByLabel("New name").fill("robert");
  await bob.page.keyboard.press("Enter");
  await ada.sees("bob is now robert");
  await bob.page.keyboard.press("Escape");
  await ada.listed("robert: here");

  await ada.enter("tea");
  await bob.enter("tea");
  await ada.listed("robert: here");
  await ada.say("welcome to my room");
  await bob.sees("welcome to my room");
  assert.ok(!(await other.messages()).includes("welcome to my room"));
  await other.listed("robert: in tea");
  await picture(ada, "room");
  await picture(ada, "people", openDrawer(ada, "people"));
  assert.equal(await bob.page.getByRole("button", { name: "Kick" }).count(), 0, "only the owner may");
  await ada.page.getByRole("button", { name: "Kick robert" }).click();
  await bob.sees("ada has sent you out of tea into the lobby");
  await bob.page.waitForFunction(() => document.querySelector("#room-name").textContent === "lobby");
  await bob.say("so be it");
  await other.sees("so be it");

  // A room passes on.
  await bob.enter("tea");
  await ada.enter("lobby");
  await bob.sees("The room is now robert’s");
});

test("whoever loses the network for ten seconds misses nothing", async () => {
  const ada = await Person.join("ada");
  const bob = await Person.join("bob", PHONE);
  const connection = tunnel.newest;
  await ada.say("message 1");
  await bob.sees("message 1");

  // Nothing gets through any more, in either direction, and nobody is told.
  tunnel.block(connection);
  await bob.context.setOffline(true);
  const lost = Date.now();
  for (let i = 2; i <= 21; i += 1) {
    await ada.say(`message ${i}`);
    if (i === 12) {
      await bob.line(/^(No network|Connection lost|Resuming)/);
      await bob.say("sent while away");
      await picture(bob, "offline");
    }
    await sleep(Math.max(0, lost + (i - 1) * 500 - Date.now()));
  }
  assert.deepEqual(await bob.messages(), ["message 1"]);
  assert.equal(await bob.page.locator(".pending", { hasText: "sent while away" }).count(), 1);
  await looksRight(bob, "off-line");
  await sleep(Math.max(0, lost + 10_000 - Date.now()));

  tunnel.unblock();
  await bob.context.setOffline(false);
  const words = await bob.line(/^Resumed/);
  assert.match(words, /20 missed messages delivered/);
  await bob.sees("sent while away", ".mine");
  const all = [...numbered(1, 21), "sent while away"];
  assert.deepEqual(await bob.messages(), all, "once, and in order");
  assert.deepEqual(await bob.messages(".missed"), numbered(2, 21));
  await ada.sees("sent while away");
  assert.deepEqual(await ada.messages(), all);
  const dividers = await bob.page.$$eval("#log .divider", (found) => found.map((one) => one.textContent));
  assert.deepEqual(dividers, ["While you were away", "You are back"]);
  assert.equal(await ada.page.getByText("bob has left").count(), 0, "the session went on");
  await ada.say("message 22");
  await bob.sees("message 22", ":not(.missed)");
});

test("the connection is cut by its button, and is back by it", async () => {
  const ada = await Person.join("ada");
  const bob = await Person.join("bob", PHONE, true);
  const eve = await Person.join("eve");
  const finn = await Person.join("finn");
  await finn.enter("harbour");
  await bob.say("Morning! Is the tide in?");
  await eve.say("Not before ten. Bring your boots");
  await bob.page.getByText("Bring your boots").waitFor();
  await bob.say("Then I take the early train. It goes through that tunnel, though.");
  await eve.say("We tell you all about it when you are out again");
  await ada.sees("We tell you all about it when you are out again");
  await ada.inDrawer("people", (drawer) => drawer.getByRole("button", { name: "Write eve" }).click());
  await ada.say("Shall we surprise him?");
  await eve.sees("Shall we surprise him?");
  await ada.page.press("#text", "Escape");
  await picture(ada, "chat");
  await looksRight(ada, "the chat");

  await bob.page.getByRole("button", { name: "Cut the connection" }).click();
  const words = await bob.line(/^Cut by you/);
  assert.match(words, /Back in \d+ s/);
  // So that nothing of what follows has to be quick.
  await bob.page.clock.pauseAt((await bob.page.evaluate(() => Date.now())) + 1000);
  await ada.listed("bob: away, comes back");
  const said = ["Is he gone?", "Into the tunnel", "Quick: cake at noon", "I bring the coffee", "And candles!"];
  for (const [i, text] of said.entries()) {
    const person = i % 2 === 0 ? ada : eve;
    await person.say(text);
    await ada.sees(text);
  }
  await bob.say("Hello? Can anyone hear me?");
  await bob.page.getByText("Waits for the connection").waitFor();
  await picture(bob, "cut");
  await looksRight(bob, "cut");
  assert.ok(!(await bob.messages()).includes(said[0]));

  await bob.page.getByRole("button", { name: "Reconnect now" }).focus();
  await bob.page.keyboard.press("Enter");
  await bob.page.clock.resume();
  await bob.line(/^Resumed 5 missed messages delivered/);
  assert.deepEqual(await bob.messages(".missed"), said);
  await bob.sees("Hello? Can anyone hear me?", ".mine");
  await ada.listed("bob: here");
  await bob.page.evaluate(() => (document.querySelector("#log").scrollTop = 1e6));
  await bob.page.focus("#text");
  await picture(bob, "resumed");
  await picture(bob, "rooms", openDrawer(bob, "rooms"));
  await looksRight(bob, "resumed");

  // It comes back by itself as well.
  await bob.page.getByRole("button", { name: "Cut the connection" }).click();
  await ada.listed("bob: away, comes back");
  await ada.say("and now?");
  await bob.page.clock.fastForward(10_000);
  await bob.sees("and now?", ".missed");
});

test("a page that is reloaded goes on where it was", async () => {
  const ada = await Person.join("ada");
  const bob = await Person.join("bob");
  await bob.enter("tea");
  await ada.enter("tea");
  await ada.say("before");
  await bob.inDrawer("people", (drawer) => drawer.getByRole("button", { name: "Write ada" }).click());
  await bob.say("between us");
  await ada.sees("between us");
  await ada.page.reload();
  await ada.line(/^Resumed/);
  await ada.page.waitForFunction(() => document.querySelector("#room-name").textContent === "tea");
  assert.deepEqual(await ada.messages(), ["before", "between us"]);
  assert.equal(await bob.page.getByText("ada has left").count(), 0);
  assert.equal(await ada.page.evaluate(() => sessionStorage.length), 0, "taken out, for no other tab to find");

  // Leaving is for good.
  await ada.page.getByRole("button", { name: "Leave", exact: true }).click();
  await bob.sees("ada has left");
  await ada.page.reload();
  await ada.page.getByLabel("Your name", { exact: true }).waitFor();
});

test("nothing that is said or chosen as a name becomes part of the page", async () => {
  const names = ["<img/src=x/onerror=alert(1)>", "</bdi><script>alert(1)</script>", "שלום", "W".repeat(32)];
  const texts = [
    `<img src=x onerror="alert(1)"><svg onload=alert(1)></svg>`,
    "<script>alert(1)</script>{{gate}}&lt;b&gt;&amp;\u0000\u0007\u001b[31m",
    "\u202eegassem desrever a \u2066isolate\u2067 without an end",
    "مرحبا, and back to the left",
    "x".repeat(2000),
    `https://gate.example/${"a-long-path/".repeat(40)}`,
    "👩‍👩‍👧‍👦🏴‍☠️".repeat(30),
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "two\nlines and  blanks",
  ];
  const ada = await Person.join("ada", PHONE);
  for (const name of names) {
    const canary = await Person.join(name);
    await ada.sees(`${name} has come`);
    await canary.enter(name);
    await canary.enter("lobby");
    for (const text of texts) {
      await canary.page.fill("#text", text);
      await canary.page.press("#text", "Enter");
    }
    const wanted = texts.map((text) => text.trim());
    await ada.page.waitForFunction((n) => document.querySelectorAll("#log .bubble").length === n, texts.length * (names.indexOf(name) + 1));
    assert.deepEqual((await ada.messages()).slice(-texts.length), wanted, "exactly what was said");
    await canary.inDrawer("people", (drawer) => drawer.getByRole("button", { name: "Write ada" }).click());
    await looksRight(canary, name);
    await canary.leave();
    await ada.sees(`${name} has left`);
  }
  await looksRight(ada, "canaries");
  await picture(ada, "canaries");
  const strange = await ada.page.evaluate(() => ({
    images: [...document.images].map((image) => image.getAttribute("src")).filter((src) => src !== "/chat/icon.svg"),
    scripts: [...document.scripts].map((script) => script.getAttribute("src")).filter((src) => src !== "/chat/app.js"),
    isolated: [...document.querySelectorAll("#log .bubble, bdi")].every((one) => getComputedStyle(one).unicodeBidi === "isolate"),
  }));
  assert.deepEqual(strange, { images: [], scripts: [], isolated: true });
});

test("the policy holds: what is put into the page all the same does not run", { timeout: 60_000 }, async () => {
  const eve = await Person.open("eve", DESKTOP);
  eve.complain = (words) => heard.push(words);
  const heard = [];
  const refused = await eve.page.evaluate(async () => {
    const tried = { html: false, script: false, fetch: false, socket: false };
    try {
      document.body.insertAdjacentHTML("beforeend", "<b>x</b>");
      tried.html = true;
    } catch {}
    try {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
      tried.script = window.ran === true;
    } catch {}
    await fetch("http://foreign.example/").then(() => (tried.fetch = true), () => {});
    try {
      new WebSocket("ws://foreign.example/").onopen = () => (tried.socket = true);
    } catch {}
    return tried;
  });
  assert.deepEqual(refused, { html: false, script: false, fetch: false, socket: false });
  // And it would have been heard of, had another page done this.
  for (const kind of ["trusted-types", "connect-src http", "connect-src ws"]) {
    while (!heard.some((words) => words.includes(kind))) await sleep(20);
  }
});

test("all of it can be done by keyboard", async () => {
  const ada = await Person.join("ada", PHONE);
  const { page } = ada;
  const focused = () => page.evaluate(() => document.activeElement.id);
  const order = ["open-rooms", "open-people", "cut", "log", "text", "send"];
  await page.focus(`#${order[0]}`);
  for (const id of order) {
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.deepEqual([await focused(), outline], [id, "solid"], "in order, and to be seen");
    await page.keyboard.press("Tab");
  }

  await page.focus("#open-rooms");
  await page.keyboard.press("Enter");
  assert.equal(await page.getAttribute("#open-rooms", "aria-expanded"), "true");
  assert.ok(await page.evaluate(() => document.querySelector("#rooms").contains(document.activeElement)));
  assert.ok(await page.evaluate(() => document.querySelector(".talk").inert), "what is behind is out of reach");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "open-rooms");
  await page.focus("#open-people");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "people");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "rename");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "rename-name");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "rename");
  await page.keyboard.press("Enter");
  await picture(ada, "rename");
  await page.keyboard.press("Escape");

  // Every control has a name that can be read out.
  const nameless = await page.$$eval("button, input, textarea, a", (all) =>
    all.filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.[0]?.textContent)).map((one) => one.outerHTML),
  );
  assert.deepEqual(nameless, []);
});

test("every state of the connection has its words", async () => {
  const ada = await Person.open("ada", DESKTOP);
  const words = await ada.page.evaluate(async () => {
    const { stateWords } = await import("/chat/words.js");
    const none = { messages: 0, packets: 0, gaps: 0 };
    const usual = { cutUntil: null, resumable: true, missed: none, catchingUp: false, since: 0 };
    const say = (state, more) => {
      const { tone, title, detail } = stateWords({ ...usual, ...more, state });
      return `${tone}: ${title}. ${detail}`;
    };
    const open = { state: "open", resumed: true };
    return [
      say({ state: "connecting" }, { resumable: false }),
      say({ state: "connecting" }),
      say({ state: "open", resumed: false }),
      say(open, { catchingUp: true }),
      say(open),
      say(open, { missed: { messages: 1, packets: 3, gaps: 1 } }),
      say({ state: "waiting", delay: 1 }),
      say({ state: "offline" }),
      say(open, { cutUntil: 1 }),
      say({ state: "closed", code: 4504, reason: "closed by the service" }, { cutUntil: 1 }),
    ];
  });
  assert.deepEqual(words, [
    "busy: Connecting. ",
    "busy: Resuming. Asking for your session.",
    "good: Connected. ",
    "busy: Resuming. Fetching what you missed.",
    "good: Resumed. You missed nothing.",
    "good: Resumed. 1 missed message delivered, and 2 other packets; 1 packet could not be kept.",
    "bad: Connection lost. Trying to resume in {s} s.",
    "bad: No network. It goes on when there is one.",
    "bad: Cut by you. Back in {s} s. What the others say is kept.",
    "bad: Ended. Closed by the service.",
  ]);
});

test("a gate that is started anew has a new session, and the page says so", async () => {
  const ada = await Person.join("ada");
  await ada.enter("tea");
  await ada.say("before");
  await ada.sees("before");
  await demo.stop();
  await ada.line(/^(Connection lost|Resuming|Connecting)/);
  await picture(ada, "lost");
  demo = await startDemo(program, ["--ws-url", tunnel.url], demo.pageAddress);
  tunnel.port = demo.wsPort;
  await ada.line(/^Connected/);
  await ada.sees("Your session has ended (no session has this token). This is a new one.");
  await ada.say("after");
  await ada.sees("after");
  assert.deepEqual(await ada.messages(), ["before", "after"]);
  assert.equal(await ada.page.textContent("#room-name"), "tea", "in the room where one was");
  await looksRight(ada, "a new session");
});

test("no page complained of anything", () => {
  assert.deepEqual(complaints, []);
});

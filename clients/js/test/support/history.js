// What was sent, and what arrived: each packet once, and in order.

export class History {
  /** Numbers in the order in which one side sent, and the other took. */
  #lines = new Map();
  #asked = new Map();
  #problems = [];

  #line(name) {
    if (!this.#lines.has(name)) this.#lines.set(name, { sent: [], taken: [] });
    return this.#lines.get(name);
  }

  sent(name, n) {
    this.#line(name).sent.push(String(n));
  }

  taken(name, n) {
    this.#line(name).taken.push(String(n));
  }

  asked(id) {
    this.#asked.set(String(id), 0);
  }

  answered(id, body) {
    const key = String(id);
    if (String(body) !== key) this.#problems.push(`request ${key}: answered ${body}`);
    this.#asked.set(key, (this.#asked.get(key) ?? NaN) + 1);
  }

  failed(id, error) {
    this.#problems.push(`request ${id}: ${error}`);
  }

  /** Everything that is wrong, in words; empty if nothing is. */
  problems() {
    const found = [...this.#problems];
    for (const [name, { sent, taken }] of this.#lines) found.push(...compare(name, sent, taken));
    for (const [id, answers] of this.#asked) {
      if (answers !== 1) found.push(`request ${id}: ${answers} answers`);
    }
    return found;
  }
}

function compare(name, sent, taken) {
  const found = [];
  const seen = new Set();
  for (const n of taken) {
    if (seen.has(n)) found.push(`${name} ${n}: arrived again`);
    seen.add(n);
  }
  const known = new Set(sent);
  for (const n of seen) if (!known.has(n)) found.push(`${name} ${n}: was never sent`);
  for (const n of sent) if (!seen.has(n)) found.push(`${name} ${n}: is lost`);
  const common = sent.filter((n) => seen.has(n));
  const order = [...seen].filter((n) => known.has(n));
  const at = common.findIndex((n, i) => order[i] !== n);
  if (at >= 0) found.push(`${name} ${order[at]}: arrived where ${common[at]} should have`);
  return found;
}

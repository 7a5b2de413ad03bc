// The blocks of data in this file: found by name, unpacked when they are asked for.

const KEPT = 48; // unpacked blocks of text that are held at once
const TYPES = { f8: Float64Array, f4: Float32Array, u4: Uint32Array, i4: Int32Array, u2: Uint16Array, u1: Uint8Array };
const unpacked = new Map();

/** The element of a block. The file may still be loading: an element is whole when something stands behind it. */
async function holder(name) {
  for (;;) {
    const found = document.getElementById(`block-${name}`);
    const whole = document.readyState !== "loading";
    if (found && (whole || found.nextSibling)) return found;
    if (whole) throw new Error(`the block ${name} is missing: this file is not complete`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function inflated(name) {
  const text = (await holder(name)).textContent;
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")));
}

/** A block of JSON, unpacked anew. */
export async function json(name) {
  return JSON.parse(await (await inflated(name)).text());
}

/** A block of a shelf as it is used, held for a while: of `t` the answers, of `d` their dimensions, `c` as it is. */
function kept(name) {
  let found = unpacked.get(name);
  unpacked.delete(name);
  if (!found) {
    found = { t: said, d: judged, c: json }[name[0]](name);
    if (unpacked.size >= KEPT) unpacked.delete(unpacked.keys().next().value);
  }
  unpacked.set(name, found);
  return found;
}

async function said(name) {
  const block = await json(name);
  const texts = new Texts(block.texts);
  return block.answers.map((number) => texts.named(number));
}

async function judged(name) {
  const [first, block] = await Promise.all([json(name.replace("d", "t")), json(name)]);
  const texts = new Texts([...first.texts, ...block.texts]);
  const answers = first.answers.map((number) => texts.named(number));
  return block.answers.map((dimensions, place) => dimensions.map((row) => dimension(row, texts, answers[place])));
}

/** What `pack.Texts` makes: the texts of a shelf, each kept once. */
class Texts {
  constructor(texts) {
    this.texts = texts;
    this.last = 0;
  }

  /** The text that a block names: 0 is the next one that was not named before, else 1 more than its number. */
  named(number) {
    return this.texts[number ? number - 1 : this.last++];
  }
}

/** All answers: figures in columns, texts by shelf. */
export class Answers {
  static async load(overview) {
    const [raw, prompts] = await Promise.all([inflated("columns").then((found) => found.arrayBuffer()), json("prompts")]);
    return new Answers(overview, raw, prompts);
  }

  constructor(overview, raw, prompts) {
    Object.assign(this, { overview, prompts, size: overview.rows, columns: {} });
    for (const [name, type, offset] of overview.columns) this.columns[name] = new TYPES[type](raw, offset, this.size);
    this.begins = new Uint32Array(overview.prompts + 1).fill(this.size); // the first row of each prompt
    for (let row = this.size - 1; row >= 0; row -= 1) this.begins[this.columns.prompt[row]] = row;
    this.shelves = []; // the first prompt of each
    let first = 0;
    for (const count of overview.shelves) {
      this.shelves.push(first);
      first += count;
    }
    this.shelves.push(first);
    this.haystacks = [];
  }

  get(name, row) {
    return this.columns[name][row];
  }

  /** Why an answer is void; "ok" where it is not. */
  status(row) {
    return this.overview.statuses[this.get("status", row)];
  }

  id(row) {
    return this.prompts.ids[this.get("prompt", row)];
  }

  query(row) {
    return this.prompts.queries[this.get("prompt", row)];
  }

  /** Rows of the answers to a prompt, in the order of the table. */
  of(prompt) {
    let end = prompt + 1;
    while (end < this.overview.prompts && this.begins[end] === this.size) end += 1;
    const found = [];
    for (let row = this.begins[prompt]; row < this.begins[end] && this.get("prompt", row) === prompt; row += 1) found.push(row);
    return found;
  }

  /** Rows of an answer and its siblings, from best to worst. */
  siblings(row) {
    return this.of(this.get("prompt", row)).filter((other) => this.get("group", other) === this.get("group", row));
  }

  shelf(row) {
    const prompt = this.get("prompt", row);
    let low = 0;
    let high = this.shelves.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.shelves[middle] <= prompt) low = middle;
      else high = middle;
    }
    return low;
  }

  firstRow(shelf) {
    return this.begins[this.shelves[shelf]] ?? this.size;
  }

  async answer(row) {
    const shelf = this.shelf(row);
    return (await kept(`t${shelf}`))[row - this.firstRow(shelf)];
  }

  /** An answer with all that the judge said of it: {answer, dimensions, document, chunks}. */
  async detail(row) {
    const shelf = this.shelf(row);
    const [answers, judged, about] = await Promise.all(["t", "d", "c"].map((kind) => kept(`${kind}${shelf}`)));
    const place = row - this.firstRow(shelf);
    const run = this.get("run", row);
    const [document, chunks] = about.prompts[this.get("prompt", row) - this.shelves[shelf]][run] ?? [-1, []];
    return {
      answer: answers[place],
      dimensions: judged[place],
      document: about.documents[document] ?? null,
      chunks: chunks.map(([from, to, text]) => ({ from, to, text })),
    };
  }

  /** Make all answers searchable, a shelf at a time. `told` hears how far it is. */
  async prepareSearch(told = () => {}) {
    const count = this.overview.shelves.length;
    for (let shelf = 0; shelf < count; shelf += 1) {
      if (this.haystacks[shelf]) continue;
      const block = await json(`t${shelf}`);
      const texts = new Texts(block.texts.map((text) => text.toLowerCase()));
      const begins = new Uint32Array(block.answers.length);
      const parts = block.answers.map((number) => texts.named(number));
      let at = 0;
      parts.forEach((part, place) => {
        begins[place] = at;
        at += part.length + 1;
      });
      this.haystacks[shelf] = { text: parts.join("\0"), begins, first: this.firstRow(shelf) };
      told(shelf + 1, count);
    }
  }

  get searchable() {
    return this.haystacks.filter(Boolean).length === this.overview.shelves.length;
  }

  /** 1 for each row whose answer, question or id holds the words, whatever their case. */
  search(words) {
    const wanted = words.toLowerCase();
    const found = new Uint8Array(this.size);
    for (const { text, begins, first } of this.haystacks) {
      let place = 0;
      for (let at = text.indexOf(wanted); at >= 0; at = place < begins.length ? text.indexOf(wanted, begins[place]) : -1) {
        while (place < begins.length && begins[place] <= at) place += 1;
        found[first + place - 1] = 1;
      }
    }
    const { ids, queries } = this.prompts;
    for (let prompt = 0; prompt < ids.length; prompt += 1) {
      if (queries[prompt].toLowerCase().includes(wanted) || ids[prompt].toLowerCase().includes(wanted)) {
        for (const row of this.of(prompt)) found[row] = 1;
      }
    }
    return found;
  }
}

function dimension([name, score, status, detail, calls, facts, deviation = null, points = []], texts, answer) {
  // A statement that stands in the answer word for word is kept as its place there.
  const stated = (text) => (Array.isArray(text) ? answer.slice(...text) : texts.named(text));
  // Texts are named in the order in which they were packed, so these read in that order.
  const made = facts.map(([text, support, chunks, row, unsure = null]) => ({ text: stated(text), support, deviation: unsure, chunks, call: call(row, texts) }));
  const said = texts.named(detail);
  const told = calls.map((row) => call(row, texts));
  const listed = points.map(([text, covered, unsure, quote, inAnswer]) => ({ text: texts.named(text), covered, deviation: unsure, quote: texts.named(quote), inAnswer }));
  return { name, score, deviation, status, detail: said, calls: told, facts: made, points: listed };
}

function call([kind, source, text, status = "ok", attempts, seconds = 0, shrunk = 0, told = 0, ...usage], texts) {
  const [prompt = 0, cached = 0, completion = 0, cost = 0] = usage;
  return {
    kind,
    source,
    text: texts.named(text),
    status,
    attempts: attempts ?? (source === "judge" ? 1 : 0),
    seconds,
    shrunk: shrunk === 1,
    detail: told ? texts.named(told - 1) : "",
    usage: { prompt, cached, completion, cost },
  };
}

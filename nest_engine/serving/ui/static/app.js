// The page of `nest ui`. Text of answers and passages is untrusted: it only ever becomes text nodes.

const COLORS = 8; // .source-1 to .source-8 in style.css
const CONTEXT = 1500; // characters of a passage shown on each side of a quotation
const LONGEST_NAME = 200;
const PHASES = {
  passage_search: "passage search",
  index_building: "index building",
  lm_forward: "LM forward",
  token_search: "token search",
  verification: "verification",
};

const ENDINGS = {
  eos: "complete",
  length: "ended at the longest answer",
  stop: "ended at a stop string",
  cancelled: "stopped",
};

const $ = (id) => document.getElementById(id);

/** Make an element; strings among the children become text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Make control characters and what reorders text visible; line feeds and tabs stay. */
function printable(text) {
  return text
    .replace(/\r\n/g, "\n")
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u202a-\u202e\u2066-\u2069\p{Cs}]/gu, "\ufffd");
}

function shorten(text) {
  const half = LONGEST_NAME / 2;
  return text.length <= LONGEST_NAME ? text : `${text.slice(0, half)} … ${text.slice(-half)}`;
}

// Different passages may have one id.
const sourceKey = (citation) => `${citation.passage_id} ${citation.passage_sha256}`;
const passageOf = (citation) =>
  answer?.passages.find(
    (candidate) =>
      candidate.id === citation.passage_id &&
      [...candidate.text].slice(citation.source_start, citation.source_end).join("") === citation.cited_text,
  );
const nameOf = (citation) =>
  shorten(printable((citation.title.trim() || citation.uri || `Passage ${citation.passage_id}`).replace(/\s+/g, " ")));
const figure = (value, digits = 2) => value.toLocaleString("en", { maximumFractionDigits: digits });
const seconds = (value) => (value >= 1 ? `${value.toFixed(2)} s` : `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`);

/** Fetch from the server; an error says what went wrong in words for the reader. */
async function request(path, options) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the server cannot be reached: is nest ui still running?");
  });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error ?? `the server answered with status ${response.status}`);
}

// --- settings ------------------------------------------------------------------------------------------------------

let about;

/** A setting that not every method has, as a slider; null stands for the method's own value. */
class Dial {
  constructor(name, { toSlider = (value) => value, fromSlider = (value) => value } = {}) {
    Object.assign(this, { name, toSlider, fromSlider, chosen: null });
    $(name).addEventListener("input", () => this.choose(this.fromSlider(Number($(name).value))));
    $(`${name}-reset`).addEventListener("click", () => {
      this.choose(null);
      $(name).focus();
    });
  }

  choose(value) {
    this.chosen = value;
    this.show();
  }

  show() {
    const own = method()[this.name];
    const isOwn = this.chosen === null;
    const text = own === null ? "not used" : isOwn ? `${own} (default)` : `${this.chosen}`;
    $(this.name).disabled = own === null;
    if (own !== null && isOwn) $(this.name).value = this.toSlider(own);
    $(`${this.name}-reset`).hidden = isOwn || own === null;
    $(`${this.name}-value`).textContent = text;
    $(this.name).setAttribute("aria-valuetext", text); // the slider itself may count powers of ten
  }

  /** What to ask with: nothing where the method has no such setting, or its own value. */
  get given() {
    return this.chosen !== null && method()[this.name] !== null ? { [this.name]: this.chosen } : {};
  }
}

const dials = [
  new Dial("own_words"),
  new Dial("gamma", {
    toSlider: (value) => Math.log10(Math.max(value, 1e-5)),
    fromSlider: (value) => Number((10 ** value).toPrecision(2)),
  }),
];

const method = () => about.methods.find((m) => m.name === document.querySelector("[name=method]:checked").value);

function showSettings() {
  $("summary").textContent = method().summary;
  for (const dial of dials) dial.show();
  $("tokens-value").textContent = $("tokens").value;
}

let started = null; // a promise; null again after a failure, so that the next question tries again
const ready = () => (started ??= start().finally(() => about || (started = null)));

async function start() {
  about = await (await request("/api/about")).json();
  $("about").textContent = printable(`${about.model} · ${about.corpus}`);
  for (const question of about.questions) {
    const example = element("button", { type: "button" }, printable(question));
    example.addEventListener("click", () => {
      $("question").value = question;
      ask();
    });
    $("examples").append(example);
  }
  for (const { name } of about.methods) {
    const radio = element("input", { type: "radio", name: "method", value: name });
    radio.checked = name === about.method;
    radio.addEventListener("change", showSettings);
    $("methods").append(element("label", {}, radio, element("span", {}, name)));
  }
  $("tokens").value = about.max_new_tokens;
  $("tokens").disabled = false;
  showSettings();
}

$("tokens").addEventListener("input", showSettings);

// --- one answer ----------------------------------------------------------------------------------------------------

let running = null; // AbortController of the answer that is being streamed
let answer = null; // the whole answer, once it is complete
let written; // the answer as it stands on the page

const SPLICED = "put together from several places: the citations prove phrases, not the sentence";

/** The answer's text and marks. Citations arrive in order and are final, so what is drawn stays. */
class Written {
  constructor() {
    this.characters = []; // offsets count code points
    this.reasoned = "";
    this.settled = 0; // characters drawn before the tail
    this.pieces = []; // { start, end, node, mark }: what is drawn before the tail
    this.tail = document.createTextNode("");
    this.sources = new Map(); // passage id -> { number, citations }
    $("answer").replaceChildren(this.tail);
    $("sources").replaceChildren();
    $("reasoning").hidden = true;
  }

  reason(text) {
    this.reasoned += text;
    $("reasoned").textContent = printable(this.reasoned);
    $("reasoning").hidden = false;
  }

  add(text, citations) {
    this.characters.push(...text);
    for (const citation of citations) this.mark(citation);
    this.tail.data = this.text(this.settled, this.characters.length);
  }

  text(start, end) {
    const text = printable(this.characters.slice(start, end).join(""));
    return start === 0 ? text.trimStart() : text;
  }

  mark(citation) {
    const source = this.source(citation);
    const mark = clickable("mark", citation, source.number);
    mark.append(this.text(citation.answer_start, citation.answer_end));
    const number = element("sup", { "aria-hidden": "true" }, String(source.number));
    const between = document.createTextNode(this.text(this.settled, citation.answer_start));
    this.tail.before(between, mark, number);
    this.pieces.push(
      { start: this.settled, end: citation.answer_start, node: between },
      { start: citation.answer_start, end: citation.answer_end, node: number, mark },
    );
    this.settled = citation.answer_end;
  }

  /** Mark sentences that are put together from several places: their quotations, and their end. */
  markSplices(sentences) {
    this.pieces.push({ start: this.settled, end: this.characters.length, node: this.tail });
    for (const { start, end, kind } of sentences) {
      if (kind === "spliced")
        for (const piece of this.pieces) if (start <= piece.start && piece.end <= end) piece.mark?.classList.add("spliced");
      const index = this.pieces.findIndex((piece) => piece.start < end && end <= piece.end);
      if (kind !== "spliced" || index < 0) continue;
      const piece = this.pieces[index];
      const sign = element("sup", { class: "splice", title: SPLICED }, "‡");
      piece.node.after(sign);
      if (piece.mark) continue;
      const rest = document.createTextNode(this.text(end, piece.end));
      sign.after(rest);
      this.pieces.splice(index + 1, 0, { start: end, end: piece.end, node: rest });
      piece.node.data = this.text(piece.start, end);
      piece.end = end;
    }
  }

  source(citation) {
    let source = this.sources.get(sourceKey(citation));
    if (!source) {
      source = { number: this.sources.size + 1, citations: [] };
      this.sources.set(sourceKey(citation), source);
      const link = element("button", { type: "button", class: color(source.number) }, nameOf(citation));
      link.addEventListener("click", () => openPassage(citation, link));
      $("sources").append(element("li", {}, link));
    }
    source.citations.push(citation);
    return source;
  }
}

const color = (number) => `source-${((number - 1) % COLORS) + 1}`;

/** Make an element that opens the passage of a citation, by mouse and by keyboard. */
function clickable(tag, citation, number) {
  const made = element(tag, { class: color(number), role: "button", tabindex: "0", "aria-controls": "passage" });
  made.title = nameOf(citation);
  made.addEventListener("click", () => openPassage(citation, made));
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    openPassage(citation, made);
  });
  return made;
}

function begin(question) {
  answer = null;
  written = new Written();
  closePassage();
  $("asked").textContent = printable(question);
  $("result").hidden = false;
  $("cost").hidden = true;
  $("error").hidden = true;
  $("export").disabled = true;
  $("show-trace").disabled = true;
  $("notices").replaceChildren();
  $("status").textContent = "answering …";
  $("submit").textContent = "Stop";
  $("answer").setAttribute("aria-busy", "true");
  showTrace();
}

function end(status) {
  running = null;
  $("submit").textContent = "Ask";
  $("answer").removeAttribute("aria-busy");
  $("status").textContent = status;
  if (opened && !answer) showPassage();
}

function fail(message) {
  $("error").textContent = printable(message);
  $("error").hidden = false;
}

async function ask() {
  const question = $("question").value;
  if (running || !question.trim()) return;
  const controller = new AbortController();
  running = controller;
  begin(question);
  try {
    await ready();
    const body = { question, method: method().name, max_new_tokens: Number($("tokens").value) };
    Object.assign(body, ...dials.map((dial) => dial.given));
    const response = await request("/api/ask", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: controller.signal,
    });
    for await (const event of lines(response.body)) {
      if (event.type === "error") throw new Error(event.message);
      if (event.type === "chunk" && event.reasoning) written.reason(event.reasoning);
      if (event.type === "chunk") written.add(event.text, event.citations);
      if (event.type === "answer") finish(event.answer);
    }
    if (!answer) throw new Error("the connection ended before the answer did");
    end(ENDINGS[answer.finish_reason]);
  } catch (error) {
    if (controller.signal.aborted) {
      end("stopped");
    } else {
      fail(error.message);
      end("");
    }
  }
}

/** Parse a stream of JSON lines. */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true })); // a broken connection
    if (done) return;
    const complete = (rest + value).split("\n");
    rest = complete.pop();
    for (const line of complete) yield JSON.parse(line);
  }
}

function finish(complete) {
  answer = complete;
  $("export").disabled = false;
  $("show-trace").disabled = false;
  written.markSplices(answer.sentences);
  const notices = answer.notices.map(printable);
  if (answer.sentences.some(({ kind }) => kind === "spliced")) notices.unshift(`‡ ${SPLICED}`);
  $("notices").replaceChildren(...notices.map((notice) => element("p", { class: "notice" }, notice)));
  showStatistics();
  drawTrace();
  showTrace();
  if (opened) showPassage();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("submit").addEventListener("click", (event) => {
  if (!running) return; // it submits the form
  event.preventDefault();
  // Neither the second click of a double click on Ask nor Enter in a setting is meant to stop.
  if (event.detail < 2 && document.activeElement.tagName !== "INPUT") running.abort();
});
$("question").addEventListener("keydown", (event) => {
  const isComposing = event.isComposing || event.keyCode === 229; // Safari ends a composition before its Enter
  if (event.key !== "Enter" || event.shiftKey || isComposing) return;
  event.preventDefault();
  ask();
});
$("export").addEventListener("click", () => {
  const file = new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" });
  const url = URL.createObjectURL(file);
  element("a", { href: url, download: "answer.json" }).click();
  URL.revokeObjectURL(url);
});

// --- passages ------------------------------------------------------------------------------------------------------

let opened = null; // { citation, opener }

function openPassage(citation, opener) {
  if (opened) opened.opener.removeAttribute("aria-expanded");
  opened = { citation, opener };
  opener.setAttribute("aria-expanded", "true");
  $("passage").hidden = false;
  showPassage();
  $("passage").focus({ preventScroll: true });
  opener.scrollIntoView({ block: "nearest" }); // where the window is narrow, the passage lies over the answer
}

function scrollPassage(to) {
  $("passage").scrollTop = to - $("passage").clientHeight / 3;
}

function closePassage() {
  if (!opened) return;
  const { opener } = opened;
  const focused = document.activeElement;
  opened = null;
  opener.removeAttribute("aria-expanded");
  $("passage").hidden = true;
  if (focused !== document.body && !$("passage").contains(focused)) return; // the reader is elsewhere
  opener.focus();
  if (document.activeElement !== opener) $("show-trace").focus(); // it stands in the other view
}

function showPassage() {
  const { citation } = opened;
  const { number } = written.sources.get(sourceKey(citation));
  const { source_start: start, source_end: end, cited_text: cited } = citation;
  $("passage-title").replaceChildren(element("span", { class: `badge ${color(number)}` }, String(number)), nameOf(citation));
  $("passage-place").replaceChildren(...place(citation));
  const passage = passageOf(citation);
  const characters = [...(passage?.text ?? "")];
  const verdict = $("passage-verified");
  verdict.classList.toggle("wrong", false);
  if (!passage) {
    verdict.textContent = running
      ? "The passage follows when the answer is complete."
      : "The answer is not complete, and its passages have not come.";
    $("passage-page").replaceChildren();
    $("passage-text").replaceChildren(element("mark", { class: color(number) }, printable(cited)));
    return;
  }
  const isVerified = verifies(citation);
  verdict.textContent = !isVerified
    ? "✗ answer and passage differ"
    : citation.match === "exact"
      ? "✓ answer and passage agree, character by character"
      : "✓ the words of the passage, in other characters (quotation marks, spaces, hyphens)";
  verdict.classList.toggle("wrong", !isVerified);
  const first = Math.max(0, start - CONTEXT);
  const last = Math.min(characters.length, end + CONTEXT);
  const text = (from, to) => printable(characters.slice(from, to).join(""));
  $("passage-text").replaceChildren(
    omitted(first),
    text(first, start),
    element("mark", { class: color(number) }, text(start, end)),
    text(end, last),
    omitted(characters.length - last),
  );
  showPage(citation);
  scrollPassage($("passage-text").querySelector("mark").offsetTop);
}

/** Return whether a quotation stands in its passage, and in the answer, there perhaps in other characters. */
function verifies(citation) {
  const { source_start: start, source_end: end, cited_text: cited, answer_text: set } = citation;
  const said = [...answer.text].slice(citation.answer_start, citation.answer_end).join("");
  const written = [...(passageOf(citation)?.text ?? "")].slice(start, end).join("");
  return written === cited && said === (set ?? cited);
}

/** Show the picture of the page that a citation of a PDF stands on; once it has come, where its first marked word is. */
function showPage(citation) {
  const shown = $("passage-page");
  shown.replaceChildren();
  if (!citation.metadata.boxes?.length) return;
  const asked = new URLSearchParams({
    passage: citation.passage_sha256,
    start: citation.source_start,
    end: citation.source_end,
  });
  const alt = `Page ${citation.metadata.page}, the quotation marked`;
  const picture = element("img", { src: `/api/page?${asked}`, alt });
  picture.addEventListener("load", () => {
    const { boxes: [[, top]], page_size: [, height] } = citation.metadata;
    scrollPassage(picture.offsetTop + (picture.clientHeight * top) / height);
  });
  picture.addEventListener("error", () => shown.replaceChildren("The page cannot be shown: its file is gone or has changed."));
  shown.append(picture);
}

const omitted = (count) =>
  count ? element("small", {}, ` … ${count.toLocaleString("en")} more characters … `) : document.createTextNode("");

/** Return where a quotation stands: its address, page, characters and licence. */
function place(citation) {
  const known = (name) => (Number.isInteger(citation.metadata[name]) && citation.metadata[name] >= 0 ? citation.metadata[name] : null);
  const offset = known("start_index") ?? 0;
  const page = known("page");
  const facts = [`characters ${citation.source_start + offset}–${citation.source_end + offset}`];
  if (page !== null) facts.unshift(`page ${page}`);
  if (citation.license) facts.push(shorten(printable(citation.license)));
  const parts = [facts.join(" · ")];
  if (citation.uri) parts.unshift(address(citation.uri), " · ");
  return parts;
}

/** Return an address, as a link only where it leads to a web page. */
function address(uri) {
  const shown = shorten(printable(uri));
  if (!/^https?:\/\/[^\s<>"'`\\^{|}]+$/i.test(uri)) return element("span", { class: "address" }, shown);
  return element("a", { class: "address", href: uri, target: "_blank", rel: "noopener noreferrer nofollow" }, shown);
}

$("close").addEventListener("click", closePassage);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) closePassage();
});

// --- statistics ----------------------------------------------------------------------------------------------------

function showStatistics() {
  const { stats } = answer;
  const cited = answer.citations.reduce((sum, c) => sum + c.answer_end - c.answer_start, 0);
  const figures = {
    "of the text cited": `${Math.round((100 * cited) / Math.max([...answer.text].length, 1))} %`,
    "citations verified": `${answer.citations.filter(verifies).length}/${answer.citations.length}`,
    "tokens per forward": figure(stats.tokens_per_forward, 1),
    "LM forwards": figure(stats.lm_forwards),
    tokens: figure(stats.completion_tokens),
    "tokens in the prompt": figure(stats.prompt_tokens),
    "of these known": figure(stats.cached_prompt_tokens),
    "drafted tokens accepted": stats.drafted_tokens ? `${stats.accepted_tokens}/${stats.drafted_tokens}` : "–",
    "mean accepted span": figure(stats.mean_accepted_span, 1),
    "mean λ": figure(stats.mean_lambda),
    "passages newly read": figure(stats.encoded_passages),
    "passages not read": figure(stats.unread_passages),
  };
  $("statistics").replaceChildren(
    ...Object.entries(figures).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
  const total = Object.values(stats.seconds).reduce((sum, value) => sum + value, 0);
  const bars = [];
  const rows = [];
  Object.entries(PHASES).forEach(([name, label], index) => {
    const bar = element("span", { class: `phase-${index + 1}` });
    bar.style.flexGrow = total ? stats.seconds[name] / total : 0;
    bars.push(bar);
    rows.push(element("li", { class: `phase-${index + 1}` }, `${label} `, element("b", {}, seconds(stats.seconds[name]))));
  });
  rows.push(element("li", {}, "together ", element("b", {}, seconds(total))));
  $("latency").replaceChildren(...bars);
  $("phases").replaceChildren(...rows);
  $("cost").hidden = false;
}

// --- token view ----------------------------------------------------------------------------------------------------

function drawTrace() {
  let standing = 0; // tokens of the answer so far: citations count in them
  const drawn = answer.tokens.map((token) => {
    const index = token.status === "rejected" ? -1 : standing++;
    const citation = answer.citations.find((c) => c.token_start <= index && index < c.token_end);
    const source = citation && written.sources.get(sourceKey(citation));
    const made = citation ? clickable("span", citation, source.number) : element("span", {});
    made.classList.add("token", token.status);
    if (token.provenance && !citation) made.classList.add("uncited");
    const label = printable(token.text).replaceAll("\n", "⏎").replaceAll("\t", "⇥") || `#${token.token_id}`;
    const bar = element("i");
    bar.style.setProperty("--lambda", token.lambda);
    const figures = `${token.lambda.toFixed(2)} ${token.probability.toFixed(2)}`;
    made.append(element("span", { class: "label" }, label), bar, element("small", {}, figures));
    const facts = [`${token.status} in step ${token.step}`, `λ ${token.lambda.toFixed(4)}`, `p_M ${token.probability.toPrecision(3)}`];
    if (token.provenance) facts.push(`copied from ${shorten(printable(sourceOf(token)))}`);
    if (token.dropped) facts.push(`${token.dropped} drafted tokens fell`);
    made.title = facts.join(", ");
    return made;
  });
  $("trace").replaceChildren(...drawn);
}

function sourceOf(token) {
  const passage = answer.passages[token.provenance.passage];
  return passage.title || passage.id;
}

function showTrace() {
  const shown = $("show-trace").checked && answer !== null;
  $("trace").hidden = $("trace-key").hidden = !shown;
  $("answer").hidden = $("answer-key").hidden = shown;
}

$("show-trace").addEventListener("change", showTrace);

ready().catch((error) => fail(error.message));

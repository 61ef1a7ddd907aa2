// A client in JavaScript: prints what the server's answer says, sliced as JavaScript slices.
const [address, model, question] = process.argv.slice(2);
const asked = { model, messages: [{ role: "user", content: question }], nest: { method: "lossless" } };
const headers = { "Content-Type": "application/json" };
const post = (body) =>
  fetch(`${address}/v1/chat/completions`, { method: "POST", headers, body: JSON.stringify(body) });

const { content, annotations } = (await (await post(asked)).json()).choices[0].message;
const sliced = annotations.map(({ url_citation: c }) => content.slice(c.utf16_start_index, c.utf16_end_index));

let streamed = "";
const streamedSlices = [];
const decoder = new TextDecoder();
let buffer = "";
for await (const bytes of (await post({ ...asked, stream: true })).body) {
  buffer += decoder.decode(bytes, { stream: true });
  for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
    const line = buffer.slice(0, end);
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const delta = JSON.parse(line.slice(6)).choices[0].delta;
    streamed += delta.content ?? "";
    for (const { url_citation: c } of delta.annotations ?? []) {
      streamedSlices.push(streamed.slice(c.utf16_start_index, c.utf16_end_index));
    }
  }
}
console.log(JSON.stringify({ content, sliced, streamed, streamedSlices }));

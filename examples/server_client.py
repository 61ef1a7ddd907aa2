"""Ask `nest serve` with OpenAI's own client; citations are annotations of the message.

Start the server first: nest serve   (with --docs DIR for documents of your own)
"""

import sys

from openai import OpenAI

question = sys.argv[1] if len(sys.argv) > 1 else "When was helium first seen?"
address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000/v1"
client = OpenAI(base_url=address, api_key="none")

completion = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": question}],
    max_tokens=64,
)
message = completion.choices[0].message
print(message.content)
for annotation in message.annotations or []:
    cited = annotation.url_citation
    quoted = message.content[cited.start_index : cited.end_index]
    print(f"- {quoted!r} ({cited.title}, {cited.url})")

// The server, through OpenAI's interface and two routes of our own.

export async function getJson(path, key) {
  const response = await fetch(path, { headers: headers(key) });
  if (!response.ok) throw new Error(await reason(response));
  return response.json();
}

// Events of one streamed answer, as objects. Throws an Error with the server's own words.
export async function* answer(body, key, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers(key) },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw new Error(await reason(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The server ended the answer early.");
    const events = (held + value).split("\n\n");
    held = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a sign of life
      if (event === "data: [DONE]") return;
      const data = JSON.parse(event.slice(6));
      if (data.error) throw new Error(data.error.message);
      yield data;
    }
  }
}

function headers(key) {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function reason(response) {
  const retry = response.headers.get("retry-after");
  const later = retry ? ` Try again in ${retry} s.` : "";
  try {
    return (await response.json()).error.message + later;
  } catch {
    return `The server answered ${response.status}.${later}`;
  }
}

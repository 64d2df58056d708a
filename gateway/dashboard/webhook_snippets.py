"""How a receiver checks a webhook's signature, in the languages that receivers are written in.
Python's is that of docs/webhooks.md; a test runs it on what was signed."""

from __future__ import annotations

from typing import NamedTuple

from tenants.notices.signature import HEADER, TOLERANCE_S


class Snippet(NamedTuple):
    """Code to copy; `code` names the language in ids."""

    code: str
    name: str
    text: str


_PYTHON = f'''import hashlib
import hmac
import time


def verify(secret: str, header: str, body: bytes) -> bool:
    """`header` is {HEADER}; `body` is the bytes as they came."""
    parts = [part.partition("=") for part in header.split(",")]
    at = next((value for name, _, value in parts if name == "t"), "")
    if not (at.isascii() and at.isdigit()):
        return False
    if abs(time.time() - int(at)) > {TOLERANCE_S}:
        return False
    signed = at.encode() + b"." + body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    found = [value for name, _, value in parts if name == "v1"]
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in found)
'''
_NODE = f"""import {{ createHmac, timingSafeEqual }} from "node:crypto";

// `header` is {HEADER}; `body` is the Buffer as it came.
export function verify(secret, header, body) {{
  const parts = header.split(",").map((part) => part.split("="));
  const at = parts.find(([name]) => name === "t")?.[1] ?? "";
  if (!/^\\d+$/.test(at) || Math.abs(Date.now() / 1000 - Number(at)) > {TOLERANCE_S}) return false;
  const expected = createHmac("sha256", secret).update(`${{at}}.`).update(body).digest("hex");
  return parts.some(
    ([name, value]) =>
      name === "v1" &&
      value.length === expected.length &&
      timingSafeEqual(Buffer.from(value), Buffer.from(expected)),
  );
}}
"""
_GO = f"""// header is {HEADER}; body is the bytes as they came.
func Verify(secret, header string, body []byte) bool {{
	var at string
	var found []string
	for _, part := range strings.Split(header, ",") {{
		name, value, _ := strings.Cut(part, "=")
		switch name {{
		case "t":
			at = value
		case "v1":
			found = append(found, value)
		}}
	}}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || math.Abs(float64(time.Now().Unix()-seconds)) > {TOLERANCE_S} {{
		return false
	}}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	expected := []byte(hex.EncodeToString(mac.Sum(nil)))
	for _, one := range found {{
		if hmac.Equal(expected, []byte(one)) {{
			return true
		}}
	}}
	return false
}}
"""
SNIPPETS = (
    Snippet("python", "Python", _PYTHON),
    Snippet("node", "Node.js", _NODE),
    Snippet("go", "Go", _GO),
)

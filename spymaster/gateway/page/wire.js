// @ts-check
/** The websocket: frames in, and since when none came, by the page's own clock. It tries again every second. */

export const SILENT_MS = 2000;
const AGAIN_MS = 1000;

/** RFC 7396, in place. @param {Record<string, any>} target @param {Record<string, any>} patch */
export function merge(target, patch) {
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete target[key];
    else if (typeof value === "object" && !Array.isArray(value)) {
      const own = target[key];
      target[key] = merge(own && typeof own === "object" && !Array.isArray(own) ? own : {}, value);
    } else target[key] = value;
  }
  return target;
}

export class Wire {
  /** @param {(frame: any) => void} take */
  constructor(take) {
    this.take = take;
    this.open = false;
    this.heardAt = NaN; // performance.now() of the newest frame
    this.bytes = 0;
    this.number = -1;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.begin();
    // A timer and not `onclose` alone: a host that went away closes nothing.
    setInterval(() => this.look(), AGAIN_MS);
  }

  get down() {
    return !this.open || !(performance.now() - this.heardAt <= SILENT_MS);
  }

  begin() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/stream`);
    this.socket = socket;
    this.begunAt = performance.now();
    socket.onmessage = (event) => this.heard(socket, event.data);
    socket.onclose = () => this.ended(socket);
    socket.onerror = () => socket.close();
  }

  /** @param {WebSocket} socket @param {string} text */
  heard(socket, text) {
    if (socket !== this.socket || typeof text !== "string") return;
    const frame = JSON.parse(text);
    this.bytes += text.length;
    this.open = true;
    this.heardAt = performance.now();
    if (frame.type === "full") this.number = frame.n;
    else if (frame.type === "change") {
      // A change behind a missed one was made from another document; the next full frame mends it.
      if (this.number < 0 || frame.n !== this.number + 1) this.number = -1;
      if (this.number < 0) return;
      this.number = frame.n;
    }
    this.take(frame);
  }

  /** @param {WebSocket} socket */
  ended(socket) {
    if (socket !== this.socket) return;
    this.open = false;
    this.number = -1;
    this.socket = null;
  }

  look() {
    const quiet = performance.now() - Math.max(this.heardAt || 0, this.begunAt ?? 0);
    if (this.socket && quiet > 3 * SILENT_MS && this.socket.readyState !== WebSocket.CONNECTING) {
      const old = this.socket;
      this.ended(old);
      old.close();
    }
    if (!this.socket) this.begin();
  }
}

/** The answer of a route, or its one line of error. @param {string} path @param {Record<string, any>} given */
export async function ask(path, given = {}) {
  const query = new URLSearchParams(
    Object.entries(given)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([key, value]) => [key, String(value)]),
  );
  const answer = await fetch(`${path}?${query}`, { headers: { Accept: "application/json" } });
  return answered(answer);
}

/** @param {string} path @param {Record<string, any>} body */
export async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answered(answer);
}

/** @param {Response} answer */
async function answered(answer) {
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(document.error ?? `${answer.status} ${answer.statusText}`);
  return document;
}

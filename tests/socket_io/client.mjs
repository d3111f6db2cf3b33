// The client library of Socket.IO as a program of its own: a command a line on stdin, what was heard a line on stdout.
//
// {"do": "open", "as", "url", "options"}: opens a socket and gives it a name
// {"do": "emit", "as", "event", "args", "ack"}: emits; with `ack` the acknowledgement is heard as an event of that name
// {"do": "close", "as"}: closes it
//
// Heard is {"as", "event", "args"}: each event with its arguments; `connect` with the transport, `connect_error` with the
// message, `disconnect` with the reason, `upgrade` with the new transport.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const sockets = new Map();

function tell(as, event, args) {
  process.stdout.write(`${JSON.stringify({ as, event, args })}\n`);
}

function open({ as, url, options }) {
  const socket = io(url, { forceNew: true, timeout: 60000, ...options });
  sockets.set(as, socket);
  socket.io.on("open", () => {
    socket.io.engine.on("upgrade", (transport) => tell(as, "upgrade", [transport.name]));
  });
  socket.on("connect", () => tell(as, "connect", [socket.io.engine.transport.name]));
  socket.on("connect_error", (error) => tell(as, "connect_error", [error.message]));
  socket.on("disconnect", (reason) => tell(as, "disconnect", [reason]));
  socket.onAny((event, ...args) => tell(as, event, args));
}

function emit({ as, event, args, ack }) {
  const answered = ack ? [(...answer) => tell(as, ack, answer)] : [];
  sockets.get(as).emit(event, ...args, ...answered);
}

const commands = { open, emit, close: ({ as }) => sockets.get(as).close() };

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on("close", () => process.exit(0));

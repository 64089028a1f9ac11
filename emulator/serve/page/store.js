// Conversations, kept in this browser alone. A full or forbidden storage loses them on reload only.
const KEY = "hardwired.chats";

export class Store {
  constructor() {
    this.chats = read();
    if (!this.chats.length) this.begin();
    this.current = this.chats[0];
  }

  begin() {
    this.current = { id: String(Date.now()), title: "New chat", turns: [] };
    this.chats.unshift(this.current);
  }

  open(id) {
    this.current = this.chats.find((chat) => chat.id === id) ?? this.chats[0];
  }

  forget() {
    this.chats = this.chats.filter((chat) => chat !== this.current);
    if (!this.chats.length) this.begin();
    this.current = this.chats[0];
    this.save();
  }

  add(turn) {
    this.current.turns.push(turn);
    if (this.current.turns.length === 1) this.current.title = turn.text.slice(0, 40);
    this.save();
    return turn;
  }

  save() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.chats));
    } catch { // full: the texts matter more than how they were timed
      for (const chat of this.chats) chat.turns.forEach((turn) => delete turn.pieces);
      try {
        localStorage.setItem(KEY, JSON.stringify(this.chats));
      } catch (error) {
        console.warn("history is not kept:", error.message);
      }
    }
  }
}

function read() {
  try {
    const chats = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return chats.filter((chat) => typeof chat.id === "string" && Array.isArray(chat.turns));
  } catch {
    return [];
  }
}

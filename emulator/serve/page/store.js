// Conversations, kept in this browser alone. A full or forbidden storage loses them on reload only.
const KEY = "hardwired.chats";

export class Store {
  constructor() {
    this.chats = read();
    if (!this.chats.length) this.begin();
    this.current = this.chats[0];
  }

  // A new conversation; the first one if that is still empty.
  begin() {
    if (!this.chats[0] || this.chats[0].turns.length) {
      this.chats.unshift({ id: String(Date.now()), title: "New chat", turns: [] });
    }
    this.current = this.chats[0];
  }

  open(id) {
    this.current = this.chats.find((chat) => chat.id === id) ?? this.chats[0];
  }

  // Returns a function that brings it back.
  forget(id) {
    const at = this.chats.findIndex((chat) => chat.id === id);
    const [gone] = this.chats.splice(at, 1);
    if (!this.chats.length) this.begin();
    if (this.current === gone) this.current = this.chats[0];
    this.save();
    return () => {
      this.chats.splice(at, 0, gone);
      this.current = gone;
      this.save();
    };
  }

  add(turn) {
    this.current.turns.push(turn);
    if (this.current.turns.length === 1) {
      this.current.title = (turn.asked ?? turn.text).slice(0, 60);
    }
    this.save();
    return turn;
  }

  // Makes room for another question in place of `turn`. Its own answer goes; where the talk went on
  // after that, all of it stays, and a copy of what came before becomes the current conversation.
  branchAt(turn) {
    const { turns, title } = this.current;
    const at = turns.indexOf(turn);
    if (turns.length <= at + 2) return void this.cutAt(turn);
    this.chats.unshift({ id: String(Date.now()), title, turns: structuredClone(turns.slice(0, at)) });
    this.current = this.chats[0];
  }

  // Drops `turn` and what follows it; returns the dropped.
  cutAt(turn) {
    const at = this.current.turns.indexOf(turn);
    return at < 0 ? [] : this.current.turns.splice(at);
  }

  save() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.chats));
    } catch { // full: the texts matter more than how they were timed and what else was likely
      for (const turn of this.chats.flatMap((chat) => chat.turns)) {
        delete turn.pieces;
        delete turn.tokens;
      }
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

// The move from another store without logging anybody out: a session moves when it is read, once, and never if it was
// logged out here. The order of the steps is what makes this safe against requests and processes that run at the
// same time:
//
// - A session is removed from the previous store after it was committed here. So whoever finds it in neither of the
//   two, first here and then there, looks here once more.
// - A logout of a session that is not here moves it first, so that its id is dead here before the previous store
//   forgets it: a request that has read it there cannot move it any more.
// - While processes run that know the previous store only (adopt: false), nothing moves. A save goes to where the
//   session is, and looks here again afterwards: a process with adopt may have moved or ended it meanwhile.
import { ConflictError, DeadSessionError, InvalidArgumentError } from "../../errors.js";
import { WebSessions } from "./web.js";

/** @param {import("./web.js").WebOptions} options @param {import("./web.js").LifeOf} lifeOf @returns {WebSessions} */
export const webSessions = (options, lifeOf) =>
  options.previous ? new MovingSessions(options, lifeOf) : new WebSessions(options, lifeOf);

class MovingSessions extends WebSessions {
  /** @param {import("./web.js").WebOptions} options @param {import("./web.js").LifeOf} lifeOf */
  constructor(options, lifeOf) {
    super(options, lifeOf);
    /** @type {import("./web.js").PreviousStore} */
    this.previous = options.previous;
    this.slides = options.adopt ?? true;
  }

  /** @param {string} id @returns {Promise<any>} */
  async read(id) {
    const found = await super.read(id);
    if (found !== undefined) return found;
    const old = await this.previous.get(id);
    if (old == null) return super.read(id);
    return this.slides ? this.move(id, old) : old;
  }

  /** @param {string} id @param {any} session @param {boolean} wasRead */
  async write(id, session, wasRead) {
    if (this.slides) return super.write(id, session, wasRead);
    const options = this.saveOptions(session);
    if (options === undefined) return this.end(id);
    const here = { ...options, ifVersion: -1 };
    if (await this.save(id, session, here)) return;
    await this.previous.set(id, session);
    if (await this.save(id, session, here)) await this.previous.destroy(id);
  }

  /**
   * A session may move here between a save that does not find it and the look whether it is here.
   *
   * @param {string} id
   * @param {any} session
   * @param {import("./web.js").SaveOptions} options
   */
  async save(id, session, options) {
    return super.save(id, session, options).catch((error) => {
      if (!(error instanceof ConflictError)) throw error;
      return super.save(id, session, options);
    });
  }

  /** @param {string} id @param {any} session */
  async touch(id, session) {
    if ((await super.touch(id, session)) === false && !this.slides) await this.previous.touch?.(id, session);
  }

  /** @param {string} id */
  async end(id) {
    if (!(await super.end(id))) {
      const old = await this.previous.get(id);
      if (old != null) await this.move(id, old);
      await super.end(id);
    }
    await this.previous.destroy(id);
  }

  async clear() {
    await this.previous.clear?.();
    return super.clear();
  }

  /**
   * The session, now here; undefined if it was logged out.
   *
   * @param {string} id
   * @param {any} old
   */
  async move(id, old) {
    const options = this.saveOptions(old);
    const moved = options && (await this.adopt(id, old, options));
    if (moved === false) return super.read(id); // another request was first
    await this.previous.destroy(id);
    return moved ? old : undefined;
  }

  /**
   * True if the session is here now, false if it was here already; undefined if it was logged out here.
   *
   * @param {string} id
   * @param {any} old
   * @param {import("./web.js").SaveOptions} options
   */
  async adopt(id, old, options) {
    const adopt = () => this.store.adopt(id, old, options);
    try {
      return await adopt().catch((error) => {
        if (!(error instanceof InvalidArgumentError)) throw error;
        return adopt(); // the id was alive and was logged out at that moment: now it is dead
      });
    } catch (error) {
      if (!(error instanceof DeadSessionError)) throw error;
    }
  }
}

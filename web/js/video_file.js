// A video of a run as ComfyUI's own GET /view gives it.
import { api } from "../../../scripts/api.js";

const H264 = 'video/mp4; codecs="avc1.42E01E"';
const NOT_PLAYED = "This browser plays no H.264 video. Open the file in another player:";
const NOT_LOADED = "The video could not be loaded. ComfyUI deletes videos without a run_name when it ends or starts:";

/** Where a player finds a video as it is now: a file may grow, or be another one under the same name. */
export function addressOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, now: Date.now() })}`);
}

/** Why a player does not play it. */
export const whyNot = (player, { filename }) => `${player.canPlayType(H264) ? NOT_LOADED : NOT_PLAYED} ${filename}.`;

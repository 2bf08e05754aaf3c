// A time of a video, as all parts of the page write it: to the nearest hundredth of a second.

/** 0:07.50, or 1:02:07.50 from an hour on. */
export function clock(second) {
  const hundredths = Math.round(second * 100);
  const [hours, minutes] = [Math.floor(hundredths / 360000), Math.floor(hundredths / 6000) % 60];
  const rest = ((hundredths % 6000) / 100).toFixed(2).padStart(5, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** The same in short, for an axis: 7.5 s, or 1:07.5 from a minute on. */
export function shortClock(second) {
  const shown = Math.round(second * 100) / 100;
  return shown < 60 ? `${shown} s` : clock(shown).replace(/\.?0+$/, "");
}

// Accuracies of what is shown, and how sure they are.

epic.statistics = (() => {
  const { segments: s } = epic;
  const RESAMPLES = 10000;

  // Sums over those shown that a run has predicted, by a key of each: how many, how many are right, and
  // how sure the run is of them in all.
  function tally(shown, run, task, keyOf) {
    const sums = new Map();
    for (const i of run.segments) {
      if (!shown[i]) continue;
      const key = keyOf(i);
      if (!sums.has(key)) sums.set(key, { number: 0, right: 0, sure: 0 });
      const sum = sums.get(key);
      sum.number += 1;
      sum.right += run.right[task][i];
      sum.sure += run.sure[task][i];
    }
    return sums;
  }
  const NONE = { number: 0, right: 0, sure: 0 };

  // The 95 % interval of a share (Wilson 1927).
  function wilson(right, number) {
    const [share, z2] = [right / number, 1.959964 ** 2];
    const middle = (share + z2 / (2 * number)) / (1 + z2 / number);
    const half = Math.sqrt(z2 * ((share * (1 - share)) / number + z2 / (4 * number ** 2))) / (1 + z2 / number);
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  // The same random numbers at every call (xorshift, Marsaglia 2003), so that equal filters say the
  // same.
  function drawer() {
    let state = 2463534242;
    return (most) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % most;
    };
  }

  // Top-1 action of B minus A over those shown, with a 95 % interval: whole videos are resampled, as
  // `epic100 compare` does. No interval where they lie in one video.
  function difference(shown, [first, second]) {
    const change = new Float64Array(s.videos.id.length);
    const sizes = new Float64Array(s.videos.id.length);
    const videos = new Set();
    for (let i = 0; i < s.count; i += 1) {
      if (s.isVal(i)) videos.add(s.columns.video[i]);
      if (!shown[i] || !first.predicted(i) || !second.predicted(i)) continue;
      sizes[s.columns.video[i]] += 1;
      change[s.columns.video[i]] += second.right.action[i] - first.right.action[i];
    }
    const total = (column) => column.reduce((sum, each) => sum + each, 0);
    const found = { number: total(sizes), change: total(change) / total(sizes), interval: null };
    if (sizes.filter(Boolean).length < 2) return found;
    const [places, draw, drawn] = [[...videos], drawer(), []];
    for (let n = 0; n < RESAMPLES; n += 1) {
      let [sum, size] = [0, 0];
      for (let k = 0; k < places.length; k += 1) {
        const video = places[draw(places.length)];
        sum += change[video];
        size += sizes[video];
      }
      if (size) drawn.push(sum / size);
    }
    const sorted = Float64Array.from(drawn).sort();
    found.interval = [0.025, 0.975].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
    return found;
  }

  return { NONE, tally, wilson, difference };
})();

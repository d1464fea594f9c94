// The segments and videos of data.js. It has columns; a segment is a number, its place in them.

epic.segments = (() => {
  const data = window.epicData;
  const { segments: columns, videos } = data;
  const count = columns.id.length;
  const withClip = new Set(data.clips);
  const tail = { verb: new Set(data.tail_verbs), noun: new Set(data.tail_nouns) };
  const unseen = new Set(data.unseen);
  const nameOf = (task, id) => (id < 0 ? "unknown" : data[`${task}s`][id]);
  const participant = (i) => videos.participant[columns.video[i]];
  const ofVideo = videos.id.map(() => []);
  columns.video.forEach((video, i) => ofVideo[video].push(i));
  ofVideo.forEach((list) => list.sort((a, b) => columns.start[a] - columns.start[b]));

  return {
    data, count, columns, videos, nameOf, participant, ofVideo,
    byId: new Map(columns.id.map((id, i) => [id, i])),
    inOrder: ofVideo.flat(),
    action: (verb, noun) => `${nameOf("verb", verb)} ${nameOf("noun", noun)}`,
    truth: (i) => (columns.verb[i] < 0 ? "no label" : `${nameOf("verb", columns.verb[i])} ${nameOf("noun", columns.noun[i])}`),
    isTail: (i) => tail.verb.has(columns.verb[i]) || tail.noun.has(columns.noun[i]),
    isUnseen: (i) => unseen.has(participant(i)),
    reason: (i) => data.reasons[columns.reason[i]],
    isVal: (i) => data.splits[columns.split[i]] === "val",
    hasClip: (i) => withClip.has(i),
    clipName: (i) => `${participant(i)}/${columns.id[i]}.mp4`,
    file: (i) => videos.file?.[columns.video[i]],
  };
})();

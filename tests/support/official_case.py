"""Draw 400 segments whose figures the official evaluator printed. No test is here."""

import numpy as np

UNSEEN = ["P18", "P32"]
TAIL_VERBS, TAIL_NOUNS = range(20, 97, 3), range(50, 300, 2)

# The official evaluate.py (epic-kitchens/C1-Action-Recognition c90b6f9, NumPy 2.4.6) printed these
# for the segments of `official_case`. The segments have no tied scores, because NumPy ranks ties in
# an order that depends on the processor. benchmarks/submission.py compares both evaluators on one
# processor.
OFFICIAL = {
    "overall_action_accuracy_at_1": 5.25,
    "overall_action_accuracy_at_5": 16.25,
    "overall_noun_accuracy_at_1": 18.75,
    "overall_noun_accuracy_at_5": 40.75,
    "overall_verb_accuracy_at_1": 29.5,
    "overall_verb_accuracy_at_5": 63.5,
    "tail_action_accuracy_at_1": 5.286343612334802,
    "tail_noun_accuracy_at_1": 22.424242424242426,
    "tail_verb_accuracy_at_1": 27.835051546391753,
    "unseen_action_accuracy_at_1": 3.723404255319149,
    "unseen_noun_accuracy_at_1": 19.148936170212767,
    "unseen_verb_accuracy_at_1": 27.659574468085108,
}


def official_case() -> tuple[np.ndarray, ...]:
    """Draw scores of verbs and of nouns, true verbs, true nouns and participants."""
    # This generator draws the same numbers in every version of NumPy.
    random = np.random.RandomState(100)
    verb_true, noun_true = random.randint(0, 97, 400), random.randint(0, 300, 400)
    participants = np.array(["P01", "P18", "P32", "P04"])[random.randint(0, 4, 400)]
    scores = []
    for true, size in ((verb_true, 97), (noun_true, 300)):
        logits = random.randn(400, size)
        logits[np.arange(400), true] += 2
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        scores.append(logprobs.astype(np.float32))
    return *scores, verb_true, noun_true, participants

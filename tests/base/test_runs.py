from epic100.base.runs import COMPARED, home_of, runs_to_compare


def finish(folder, run):
    for name in COMPARED:
        file = folder / home_of(run) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_the_default_run_is_compared_unless_others_alone_were_made(tmp_path):
    assert runs_to_compare([None], tmp_path) == ([None], [])
    finish(tmp_path, "b")
    assert runs_to_compare([None], tmp_path) == ([], ["b"])
    assert runs_to_compare(["a"], tmp_path) == (["a"], ["b"])
    finish(tmp_path, None)
    assert runs_to_compare([None], tmp_path) == ([None], ["b"])
    assert runs_to_compare(["b"], tmp_path) == (["b"], [None])

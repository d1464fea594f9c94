from epic100.training.timing import loader_advice


def test_a_slow_loader_is_told_with_its_figures_and_what_would_help():
    text = loader_advice(waited=0.9, spent=1.2, workers=2, cores=18)
    assert text.startswith(
        "the loader is the limit: of 1.20 s an iteration 0.90 s (75 %) are spent waiting for data, "
        "0.30 s computing; raise `train: workers:` from 2 towards the 18 cores"
    )
    assert "videos: proxy:" in text


def test_where_all_cores_load_already_only_smaller_videos_or_more_cores_help():
    text = loader_advice(waited=0.9, spent=1.2, workers=17, cores=18)
    assert "train: workers:" not in text and "videos: proxy:" in text and "more cores" in text

"""The targets over HTTP: drawn from made-up results whose answers are known."""

from bench.measure import Sample
from bench.results import Results
from bench.targets import TARGETS


def measured(title: str, **values: tuple[str, float]) -> float | None:
    """What a target reads, where each peer, named with `_`, has one value of one figure."""
    results = Results()
    for peer, (figure, value) in values.items():
        results.add(peer.replace("_", "-"), {figure: Sample(value)})
    (target,) = [one for one in TARGETS if one.title == title]
    return target.reading(results)


def test_a_round_trip_over_http_is_compared_with_the_fastest_post() -> None:
    read = measured(
        "ComPoint over http, streaming: 64 B round trip",
        post_http_server=("http-round-trip", 400.0),
        post_uvicorn=("http-round-trip", 500.0),
        http_streaming=("http-round-trip", 200.0),
    )
    assert read == 0.5


def test_one_way_over_http_is_compared_with_the_post_loop_of_most_messages() -> None:
    read = measured(
        "ComPoint over http: 64 B one way",
        post_http_server=("http-one-way-64", 1000.0),
        post_uvicorn=("http-one-way-64", 2000.0),
        http_streaming=("http-one-way-64", 100_000.0),
    )
    assert read == 50


def test_without_any_post_nothing_is_said_about_a_round_trip_over_http() -> None:
    title = "ComPoint over http, polling: 64 B round trip"
    assert measured(title, http_polling=("http-round-trip", 500.0)) is None

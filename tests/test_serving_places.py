"""serving.places: how many images may be under way, what is said to those beyond, and what the door costs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.serving.declined import Declined
from sightline.serving.places import MOST_DRAINED, Places, at_the_door


def declined(action):
    with pytest.raises(Declined) as caught:
        action()
    return caught.value


def test_beyond_the_places_a_request_is_declined_and_again_taken_when_one_leaves():
    places = Places(2)
    with places.enter(), places.enter():
        error = declined(places.enter)
        assert error.status == 503
        assert int(error.headers["retry-after"]) >= 1
    with places.enter():
        assert places.taken == 1


def test_a_request_whose_images_do_not_all_fit_is_declined_and_leaves_no_trace():
    places = Places(3)
    with pytest.raises(Declined), places.enter() as stay:
        stay.grow(3)
    assert places.taken == 0


def test_nobody_enters_once_it_is_closed_but_who_is_inside_may_grow():
    places = Places(3)
    with places.enter() as stay:
        places.open = False
        assert "stopping" in declined(places.enter).sentence
        stay.grow(2)
        assert places.taken == 3


@pytest.mark.parametrize(("seconds_each", "under_way", "asked"), [(0.01, 4, 1), (0.5, 4, 2), (2.0, 4, 8), (100.0, 4, 60)])
def test_a_client_is_told_to_wait_for_what_is_under_way_at_the_rate_of_late(seconds_each, under_way, asked):
    now = [0.0]
    places = Places(under_way, clock=lambda: now[0])
    for _ in range(200):
        with places.enter():
            now[0] += seconds_each
    stays = [places.enter() for _ in range(under_way)]
    assert int(declined(places.enter).headers["retry-after"]) == asked
    assert len(stays) == under_way


def test_quiet_times_say_nothing_of_the_rate():
    now = [0.0]
    places = Places(4, clock=lambda: now[0])
    for _ in range(64):
        with places.enter():
            now[0] += 0.01
        now[0] += 0.01
    now[0] += 3600
    stays = [places.enter() for _ in range(4)]
    assert int(declined(places.enter).headers["retry-after"]) == 1
    now[0] += 64  # which is under way, and no quiet time
    assert int(declined(places.enter).headers["retry-after"]) == 5
    assert len(stays) == 4


@given(st.lists(st.integers(-3, 5), max_size=40), st.integers(1, 12))
def test_places_taken_are_those_of_who_is_inside_and_never_too_many(steps, most):
    places, inside = Places(most), []
    for step in steps:
        if step < 0 and inside:
            inside.pop(0).__exit__(None, None, None)
        elif step > 0:
            try:
                stay = places.enter()
                inside.append(stay)
                stay.grow(step - 1)
            except Declined:
                assert places.taken + max(1, step - 1) > most
        assert places.taken == sum(stay.images for stay in inside) <= most


def at_door(places, path="/v1/predict", method="POST", chunks=(b"image",)):
    """The status given at the door, whether the application heard of the request, and how many bytes of its body were read."""
    sent, heard, waiting, read = [], [], list(chunks), [0]

    async def application(scope, receive, send):
        heard.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        if not waiting:
            return {"type": "http.disconnect"}
        chunk = waiting.pop(0)
        read[0] += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    asyncio.run(at_the_door(application, places)({"type": "http", "path": path, "method": method}, receive, send))
    return sent[0]["status"], bool(heard), read[0]


def test_the_door_lets_through_while_there_is_room():
    assert at_door(Places(1)) == (200, True, 0)


def test_a_full_server_declines_predictions_at_the_door_and_nothing_else():
    places = Places(1)
    with places.enter():
        assert at_door(places) == (503, False, 5)
        assert at_door(places, "/v1/models", "GET") == (200, True, 0)


def test_a_stopping_server_declines_all_but_what_its_keeper_asks():
    places = Places(1)
    places.open = False
    assert [at_door(places, path, "GET")[0] for path in ("/", "/v1/models", "/healthz", "/readyz", "/metrics")] == [503, 503, 200, 200, 200]


def test_of_a_declined_body_only_so_much_is_read():
    places = Places(1)
    with places.enter():
        _, _, read = at_door(places, chunks=[bytes(1_000_000)] * 100)
    assert MOST_DRAINED < read <= MOST_DRAINED + 1_000_000

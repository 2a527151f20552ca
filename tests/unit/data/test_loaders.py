"""Order, sharding, redraw and resume: which questions a step trains on is a function of data and seed alone."""

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import chain, islice
from threading import Barrier, Event, Thread

import pytest

from ktr.data.loaders import Share, StreamPosition, TrainLoader, ValidationLoader
from ktr.data.order import QuestionOrder
from ktr.data.skips import SkipLog
from ktr.errors import MissingData, PromptTooLong


def ids(batch) -> list[int]:
    return [int(prompt.question.id) for prompt in batch]


def joined(lists: Iterable[list[int]]) -> list[int]:
    return [*chain.from_iterable(lists)]


@pytest.fixture
def make_loader(make_questions, make_encode):
    def make(count=20, step=4, seed=0, broken=frozenset(), position=None, **options) -> TrainLoader:
        order = QuestionOrder(count, seed)
        questions, encode = make_questions(count), make_encode(frozenset(broken))
        return TrainLoader(questions, encode, order, step, position or StreamPosition(), SkipLog(), **options)

    return make


def test_an_epoch_asks_every_question_once_and_epochs_and_seeds_differ(make_loader):
    loader = make_loader()
    first, second = ([*map(ids, loader)] for _ in range(2))
    assert sorted(joined(first)) == sorted(joined(second)) == list(range(20))
    assert first != second and len(first) == len(loader) == 5
    assert first == [*map(ids, make_loader())]
    assert first != [*map(ids, make_loader(seed=1))]


def test_the_order_is_a_permutation_per_epoch_whatever_is_looked_up_first():
    order, backwards = QuestionOrder(7, seed=3), QuestionOrder(7, seed=3)
    forward = [order[place] for place in range(21)]
    assert forward == [backwards[place] for place in reversed(range(21))][::-1]
    assert all(sorted(forward[start : start + 7]) == list(range(7)) for start in (0, 7, 14))


def test_an_unreadable_question_is_replaced_in_its_slot_by_the_next_of_the_order(make_loader):
    order = QuestionOrder(20, seed=0)
    broken = {order[1], order[4]}  # the second question, and the one that would replace it
    loader = make_loader(broken=broken)
    batches = [*map(ids, islice(loader, 2))]
    assert batches[0] == [order[0], order[5], order[2], order[3]]
    assert batches[1] == [order[6], order[7], order[8], order[9]]
    assert loader.skips.counts == Counter(CorruptMedia=2)


def test_nothing_is_asked_twice_and_nothing_but_the_broken_is_left_out(make_loader):
    broken = {3, 8, 11}
    loader = make_loader(count=43, broken=broken)
    asked = joined(map(ids, islice(loader, 10)))
    assert sorted(asked) == sorted(set(range(43)) - broken)


def test_a_prompt_too_long_is_a_skip_of_its_own_kind(make_loader):
    loader = make_loader()
    encode = loader.encode

    def refuse_five(question):
        if question.id == "5":
            raise PromptTooLong(question.id, 900, 512)
        return encode(question)

    loader.encode = refuse_five
    assert 5 not in joined(map(ids, loader))
    assert loader.skips.counts == Counter(PromptTooLong=1)


def test_any_other_error_stops_the_run(make_loader):
    loader = make_loader(num_decoders=1)

    def fail(question):
        raise ZeroDivisionError

    loader.encode = fail
    with pytest.raises(ZeroDivisionError):
        next(iter(loader))


@pytest.mark.parametrize("num_decoders", [0, 1, 3])
@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_run_stopped_anywhere_goes_on_exactly(num_decoders, stop, make_loader):
    def run(loader, batches) -> list[list[int]]:
        seen = []
        while len(seen) < batches:
            seen += [ids(batch) for batch in islice(loader, batches - len(seen))]
        return seen

    broken = {2, 3, 12}
    whole = run(make_loader(broken=broken, num_decoders=num_decoders), 12)
    stopped = make_loader(broken=broken, num_decoders=num_decoders)
    before = run(stopped, stop)
    saved = StreamPosition(stopped.position.questions, stopped.position.batches)
    resumed = make_loader(broken=broken, num_decoders=num_decoders, position=saved)
    assert before + run(resumed, 12 - stop) == whole


@pytest.mark.parametrize("num_decoders", [0, 1, 3])
def test_a_look_at_the_next_batch_shows_what_is_handed_out_next_and_moves_nothing(num_decoders, make_loader):
    broken = {QuestionOrder(20, 0)[5]}  # in the second batch
    plain = [*map(ids, make_loader(broken=broken))]
    loader = make_loader(broken=broken, num_decoders=num_decoders)
    assert loader.peek() is None  # no epoch has begun
    batches = iter(loader)
    next(batches)
    position = StreamPosition(loader.position.questions, loader.position.batches)
    upcoming = loader.peek()
    assert loader.peek() is upcoming and ids(upcoming) == plain[1]
    assert loader.position == position and not loader.skips.counts
    assert next(batches) is upcoming
    assert loader.skips.counts.total() == 1 and loader.position != position
    assert [ids(upcoming), *map(ids, batches)] == plain[1:]


@pytest.mark.parametrize("num_decoders", [0, 1, 3])
def test_an_epoch_looked_at_before_each_batch_is_the_same_and_ends_with_none(num_decoders, make_loader):
    plain = [*map(ids, make_loader())]
    loader = make_loader(num_decoders=num_decoders)
    seen = [(ids(batch), loader.peek()) for batch in loader]
    assert [batch for batch, _ in seen] == plain
    assert [ids(upcoming) for _, upcoming in seen[:-1]] == plain[1:] and seen[-1][1] is None
    assert loader.peek() is None


@pytest.mark.parametrize(("look", "ahead"), [(False, 1), (True, 2)])
def test_a_batch_is_made_while_another_is_in_use_and_one_more_after_a_look(look, ahead, make_loader):
    loader = make_loader(num_decoders=1)
    encode, order, made = loader.encode, QuestionOrder(20, 0), Event()
    last = str(order[4 * ahead + 3])  # the last question of the batch that is made ahead

    def watched(question):
        if question.id == last:
            made.set()
        return encode(question)

    loader.encode = watched
    batches = iter(loader)
    next(batches)
    if look:
        loader.peek()
    assert made.wait(timeout=60)


def test_a_look_at_a_batch_that_cannot_be_made_raises(make_loader):
    loader = make_loader(num_decoders=1)
    batches = iter(loader)
    next(batches)
    loader.encode = None
    with pytest.raises(TypeError):
        for _ in batches:
            loader.peek()


def test_the_position_is_that_of_the_batch_in_use_not_of_the_one_decoded_ahead(make_loader):
    loader = make_loader(broken={QuestionOrder(20, 0)[0]}, num_decoders=1)
    batches = iter(loader)
    next(batches)
    assert (loader.position.questions, loader.position.batches) == (5, 1)
    assert sum(loader.skips.counts.values()) == 1
    next(batches)
    assert (loader.position.questions, loader.position.batches) == (9, 2)


def test_prefetching_changes_nothing(make_loader):
    plain, ahead = (make_loader(broken={1, 5}, num_decoders=num_decoders) for num_decoders in (0, 3))
    assert [*map(ids, plain)] == [*map(ids, ahead)]
    assert (plain.position, plain.skips.counts) == (ahead.position, ahead.skips.counts)


class Ranks:
    """Loaders that run as ranks do: in threads that meet in an all-gather."""

    def __init__(self, world_size: int):
        self.world_size, self.failed, self.barrier = world_size, [[]] * world_size, Barrier(world_size, timeout=90)

    def gather(self, rank: int, failed: list[int]) -> list[list[int]]:
        self.barrier.wait()
        self.failed[rank] = failed
        self.barrier.wait()
        return list(self.failed)

    def run(self, make_loader, batches: int, **options) -> tuple[list[list[int]], list[TrainLoader]]:
        shares = [Share(rank, self.world_size, partial(self.gather, rank)) for rank in range(self.world_size)]
        loaders = [make_loader(share=share, num_decoders=0, **options) for share in shares]
        seen: list[list[list[int]]] = [[] for _ in loaders]

        def work(rank: int) -> None:
            seen[rank] = [ids(batch) for batch in islice(loaders[rank], batches)]

        threads = [Thread(target=work, args=(rank,)) for rank in range(self.world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [joined(shares) for shares in zip(*seen, strict=True)], loaders


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_global_batch_does_not_depend_on_the_number_of_ranks(world_size, make_loader):
    broken = {0, 4, 5, 6, 7, 15}
    one = make_loader(count=31, step=8, broken=broken)
    expected = [ids(batch) for batch in islice(one, 3)]
    batches, loaders = Ranks(world_size).run(make_loader, 3, count=31, step=8, broken=broken)
    assert batches == expected
    assert all(loader.position == one.position for loader in loaders)
    assert sum((loader.skips.counts for loader in loaders), Counter()) == one.skips.counts


def test_a_data_set_of_which_nothing_can_be_read_is_an_error_not_a_loop(make_loader):
    with pytest.raises(MissingData, match="none of the 6 training questions"):
        next(iter(make_loader(count=6, broken=range(6))))


def test_one_readable_question_is_enough(make_loader):
    loader = make_loader(count=6, broken=range(5), step=3)
    assert ids(next(iter(loader))) == [5, 5, 5]


def test_validation_is_in_file_order_without_what_cannot_be_read(make_questions, make_encode):
    skips = SkipLog()
    loader = ValidationLoader(make_questions(7), make_encode(frozenset({1, 6})), 3, skips)
    assert [*map(ids, loader)] == [[0, 2], [3, 4, 5], []]
    assert len(loader) == 3 and skips.counts == Counter(CorruptMedia=2)


def test_validation_ranks_share_all_questions_in_equally_many_batches(make_questions, make_encode):
    loaders = [ValidationLoader(make_questions(7), make_encode(), 2, SkipLog(), Share(rank, 3)) for rank in range(3)]
    batches = [[*map(ids, loader)] for loader in loaders]
    assert batches == [[[0, 3], [6]], [[1, 4], []], [[2, 5], []]]
    assert {len(loader) for loader in loaders} == {2}


def test_each_skip_is_a_line_with_stage_id_kind_and_reason(make_loader, tmp_path, caplog):
    loader = make_loader(broken={QuestionOrder(20, 0)[1]})
    loader.skips = SkipLog(tmp_path / "new" / "skips.jsonl")
    assert len(list(islice(loader, 3))) == 3
    (line,) = (tmp_path / "new" / "skips.jsonl").read_text().splitlines()
    skip = json.loads(line)
    assert (skip["stage"], skip["kind"]) == ("train", "CorruptMedia")
    assert f"{skip['id']}.mp4" in skip["reason"] and [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_batch_is_decoded_by_as_many_threads_as_asked_for(make_loader):
    loader = make_loader(count=6, step=3, num_decoders=3)
    encode, together = loader.encode, Barrier(3)

    def wait_for_the_others(question):
        together.wait(timeout=90)
        return encode(question)

    loader.encode = wait_for_the_others
    assert [*map(ids, loader)] == [*map(ids, make_loader(count=6, step=3))]


def test_the_time_that_batches_are_waited_for_is_counted(make_loader, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("ktr.data.loaders.perf_counter", lambda: float(next(clock)))
    loader = make_loader(num_decoders=0)
    batches = iter(loader)
    next(batches), next(batches)
    assert loader.seconds_waited == 2.0
    loader.peek()
    assert loader.seconds_waited == 3.0

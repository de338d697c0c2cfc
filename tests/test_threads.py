"""Several threads on one model: each gets the map that it gets alone.

A thread that ran into another's hooks, settings or weights used to fail, or to get
numbers of another film.
"""

import os
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from towers import film, state_of, timm_model, tiny_clip, tiny_vit

from radwb import attend, data, fail, models, probe, simulate
from radwb.attend import place, tower
from radwb.attend.doubt.heads import ablate_heads
from radwb.attend.progress import reported
from radwb.attend.threads import Replaced
from radwb.models import turns
from radwb.models.turns import in_turn

QUESTION = ("right pleural effusion", "no pleural effusion")
SLOW = ("occlusion", "smoothgrad", "integrated_gradients", "rise")
HOOKED = ("attention", "value_norm", "rollout", "relevance", "similarity", "gradcam")
FILMS = [film(seed) for seed in range(4)]
LIMIT_S = 60


def started(job):
    """A running thread, and a list that gets what the job gives or raises."""
    got = []

    def run():
        try:
            got.append(job())
        except BaseException as problem:
            got.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, got


def at_once(*jobs):
    """What each job gives in a thread of its own; a deadlock is a failure."""
    together = threading.Barrier(len(jobs))

    def after_the_others(job):
        together.wait(LIMIT_S)
        return job()

    threads = [started(partial(after_the_others, job)) for job in jobs]
    end = time.monotonic() + LIMIT_S
    results = []
    for thread, got in threads:
        thread.join(max(0, end - time.monotonic()))
        assert not thread.is_alive(), "the threads wait for each other"
        if isinstance(got[0], BaseException):
            raise got[0]
        results.append(got[0])
    return results


def maps_of(model, methods, films, target=QUESTION):
    """A map by each of the methods of each of the films, one call each."""
    maps = []
    for method in methods:
        for scan in films:
            map = attend.attention_map(model, scan, method=method, target=target)
            maps.append(map.values)
    return maps


def all_equal(some, others):
    pairs = zip(some, others, strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def all_of(model):
    """Whatever another thread might leave behind on a model, and in torch."""
    weights, training = state_of(model)
    hooks = []
    for module in model.net.modules():
        hooks += [*module._forward_hooks, *module._forward_pre_hooks]
    return (
        {name: value.tolist() for name, value in weights.items()},
        training,
        [parameter.requires_grad for parameter in model.net.parameters()],
        hooks,
        [*torch.nn.modules.module._global_forward_pre_hooks],
        F.scaled_dot_product_attention,
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.mha.get_fastpath_enabled(),
    )


@pytest.fixture(scope="module")
def tiny():
    return models.load("radwb-tiny")


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


# ---- maps


def check_maps(model, jobs, target=QUESTION):
    """jobs: (methods, films) of each thread."""
    work = [partial(maps_of, model, *job, target) for job in jobs]
    alone = [job() for job in work]
    before = all_of(model)
    for maps, want in zip(at_once(*work), alone, strict=True):
        assert all_equal(maps, want)
    assert all_of(model) == before


@pytest.mark.parametrize("slow", SLOW)
def test_a_map_is_the_same_beside_a_slow_one_of_another_film(clip, slow):
    fast = ("attention", "relevance", "gradcam", "value_norm", "flow") * 3
    check_maps(clip, [([slow], FILMS[:1]), (fast, FILMS[1:3])])


def test_four_threads_on_one_model_disturb_each_other_nowhere(clip):
    jobs = [
        (["occlusion", "smoothgrad"], FILMS[:2]),
        (["similarity", "relevance", "gradcam"] * 2, FILMS[1:]),
        (["integrated_gradients", "attention"], FILMS[2:]),
        (["rollout", "layercam", "value_norm"] * 2, FILMS[:2]),
    ]
    check_maps(clip, jobs)


def test_threads_on_the_model_of_the_package(tiny):
    fast = ["relevance", "gradcam", "attention"]
    jobs = [(["occlusion"], FILMS[:1]), (fast, FILMS[1:]), (fast, FILMS[:2])]
    check_maps(tiny, jobs)


def test_threads_on_a_cnn():
    cnn = timm_model("resnet10t", size=64)
    fast = ["gradcam", "layercam", "gradcam++"] * 3
    jobs = [(["rise"], FILMS[:1]), (fast, FILMS[1:3])]
    check_maps(cnn, jobs, target="b")


def test_threads_on_a_network_that_is_training(clip):
    clip.net.train()
    clip.net.visual.conv1.requires_grad_(False)
    try:
        jobs = [(["occlusion"], FILMS[:2]), (["relevance", "gradcam"] * 4, FILMS[2:])]
        check_maps(clip, jobs, target=3)
    finally:
        clip.net.eval().requires_grad_(True)


def test_threads_on_a_volume():
    monai = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "mlp_dim": 64, "num_layers": 2, "num_heads": 3}
    net = monai.ViT(1, (32, 32, 32), 8, classification=True, **shape)
    net = attend.Net3d(net, (32, 32, 32), (-1000, 400))
    draw = np.random.default_rng(0)
    grey = draw.normal(0, 400, (2, 20, 30, 24))
    cts = [data.Volume(voxels, np.eye(4), "CT") for voxels in grey]

    def maps(methods, ct):
        asked = partial(attend.volume_map, net, ct)
        target = {"attention": None, "rollout": None}
        return [asked(method=m, target=target.get(m, 1)).values for m in methods]

    work = [
        partial(maps, ["occlusion"], cts[0]),
        partial(maps, ["relevance", "gradcam", "rollout", "attention"] * 3, cts[1]),
    ]
    alone = [job() for job in work]
    for got, want in zip(at_once(*work), alone, strict=True):
        assert all_equal(got, want)


def test_checks_of_maps_beside_other_threads(clip):
    scans = [film(seed) for seed in range(5)]
    heat = maps_of(clip, ["gradcam"], scans)

    def sanity():
        how = {"method": "gradcam", "target": QUESTION, "draws": 1}
        return attend.sanity_check(clip, scans, **how).values.to_numpy()

    def faith():
        how = {"target": QUESTION, "shares": [0.5]}
        return attend.faithfulness(clip, scans, heat, **how).gains.to_numpy()

    def silent():
        how = {"target": QUESTION, "draws": 3, "batch": 2}
        return attend.compare_ablation(clip, scans, [(0, 1)], **how)["mean"]

    work = [sanity, faith, silent, lambda: maps_of(clip, ["relevance"] * 9, scans)]
    alone = [job() for job in work]
    for got, want in zip(at_once(*work), alone, strict=True):
        assert np.array_equal(got, want)


# ---- others who run the network, without asking


def in_the_midst(inner, intrude):
    """Let another thread run `intrude` each time this thread comes to `inner`."""
    thread = threading.get_ident()

    def hook(*_):
        if threading.get_ident() == thread:
            other, got = started(intrude)
            other.join(LIMIT_S)
            assert torch.is_tensor(got[0]), got

    return inner.register_forward_pre_hook(hook)


@pytest.mark.parametrize("method", HOOKED)
def test_who_runs_the_network_in_the_midst_of_a_capture_changes_nothing(clip, method):
    x = clip.preprocess(FILMS[1:3])
    alone = clip.net.encode_image(x)
    want = maps_of(clip, [method], FILMS[:1])
    answers = []

    def intrude():
        answers.append(clip.net.encode_image(x))
        return answers[-1]

    with ExitStack() as hooks:
        for block in clip.net.visual.transformer.resblocks[1:]:
            for inner in (block.ln_1, block.mlp):  # before the attention and behind
                hooks.callback(in_the_midst(inner, intrude).remove)
        assert all_equal(maps_of(clip, [method], FILMS[:1]), want)
    assert answers
    for answer in answers:  # frozen weights round in another way
        torch.testing.assert_close(answer, alone, rtol=1e-5, atol=1e-6)


def test_who_runs_a_cnn_in_the_midst_of_a_search_changes_nothing():
    cnn = timm_model("resnet10t", size=96)
    want = maps_of(cnn, ["gradcam"], FILMS[:1], "a")
    found = dict(place._places.pop(cnn.net))
    x = cnn.preprocess(FILMS[1:3])
    hook = in_the_midst(cnn.net.layer2, lambda: cnn.net(x))
    try:
        assert all_equal(maps_of(cnn, ["gradcam"], FILMS[:1], "a"), want)
    finally:
        hook.remove()
    assert place._places[cnn.net] == found


def test_embeddings_and_scores_are_the_same_beside_maps(tiny):
    table = simulate.cohort(n=24, seed=0)
    squares = data.images(table, tiny.size, fit=tiny.fit)

    def ask():
        Z = models.embed(tiny, table, batch=4)
        scores = probe.zero_shot(tiny, table, ["Pleural Effusion"], embeddings=Z)
        patches = fail.patch_features(tiny, squares, batch=4)
        return [Z, scores.values.to_numpy(), patches]

    def mapped():
        return maps_of(tiny, ["relevance", "gradcam", "attention"] * 3, FILMS[:2])

    alone = [ask(), mapped()]
    for got, want in zip(at_once(ask, mapped), alone, strict=True):
        assert all_equal(got, want)


def test_maps_wait_while_heads_are_silent(clip):
    want = maps_of(clip, ["attention", "gradcam"], FILMS[:1])
    silent = threading.Event()

    def silence():
        with ablate_heads(clip, [(0, 0), (1, 1)]):
            silent.set()
            time.sleep(0.3)
            return maps_of(clip, ["gradcam"], FILMS[:1])

    other, ablated = started(silence)
    assert silent.wait(LIMIT_S)
    assert all_equal(maps_of(clip, ["attention", "gradcam"], FILMS[:1]), want)
    other.join(LIMIT_S)
    assert not np.array_equal(ablated[0][0], want[1])


# ---- turns


def test_a_fast_map_waits_for_a_few_batches_of_a_slow_one(clip):
    batches = []  # of RISE, 63 in all
    begun = threading.Event()

    def tell(text=""):
        if text.startswith("RISE"):
            batches.append(text)
        if len(batches) > 3:
            begun.set()

    def slow():
        with reported(tell):
            maps_of(clip, ["rise"], FILMS[:1])

    thread, got = started(slow)
    assert begun.wait(LIMIT_S)
    before = len(batches)
    maps_of(clip, ["relevance"], FILMS[1:2])
    # three turns: two phrases, the forward and backward; and what runs meanwhile
    assert len(batches) - before <= 5
    thread.join(LIMIT_S)
    assert got == [None]
    assert len(batches) == 63


def test_turns_come_in_the_order_of_asking_and_a_holder_may_enter_again():
    net = torch.nn.Identity()
    order = []

    def enter(n):
        with in_turn(net), in_turn(net):
            order.append(n)

    with in_turn(net), in_turn(net):
        threads = []
        for n in range(5):
            threads.append(started(partial(enter, n))[0])
            while len(in_turn(net).waiting) <= n:
                time.sleep(0.001)
    with in_turn(net):  # behind all of them
        assert order == [0, 1, 2, 3, 4]
    for thread in threads:
        thread.join(LIMIT_S)


def test_settings_are_put_back_however_threads_interleave():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()).train()
    within, left = threading.Event(), threading.Event()
    held = threading.Event()

    def first():
        with tower.as_it_was(net):
            held.set()
            within.wait(0.2)  # the other comes in only where nothing keeps it out
        left.set()

    def second():
        held.wait(LIMIT_S)
        with tower.as_it_was(net):
            within.set()
            left.wait(LIMIT_S)
            return [module.training for module in net.modules()]

    assert at_once(first, second)[1] == [False, False, False]
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_two_models_in_two_threads_do_not_wait_for_each_other(clip):
    vit = tiny_vit()

    def both(first, second):
        maps = []
        for (model, target), method in zip(
            [first, second] * 6, ("relevance", "attention", "gradcam") * 4, strict=True
        ):
            maps += maps_of(model, [method], FILMS[:1], target)
        return maps

    asks = (clip, QUESTION), (vit, "b")
    work = [partial(both, *asks), partial(both, *asks[::-1])]
    alone = [job() for job in work]
    for got, want in zip(at_once(*work), alone, strict=True):
        assert all_equal(got, want)


def test_a_thread_that_holds_one_network_can_not_wait_for_ever_for_another():
    nets = [torch.nn.Identity(), torch.nn.Identity()]
    held = threading.Barrier(2)

    def hold(mine, other):
        with in_turn(mine):
            held.wait(LIMIT_S)
            try:
                with in_turn(other):
                    return "both"
            except RuntimeError as problem:
                return str(problem)

    answers = at_once(partial(hold, *nets), partial(hold, *nets[::-1]))
    refused, got = sorted(answers, key=lambda answer: answer == "both")
    assert got == "both"
    assert refused.startswith("expected threads to take turns in one network at a time")
    assert not turns._awaited


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("at", ["a step", "the midst of a pass"])
@pytest.mark.parametrize("method", ["rise", "smoothgrad", "relevance"])
def test_who_is_cancelled_lets_go(clip, method, at):
    want = maps_of(clip, ["relevance"], FILMS[:1])
    before = all_of(clip)
    calls = []

    def tell(text=""):
        calls.append(text)
        steps = [call for call in calls if call]
        if len(steps) > 1 or (at != "a step" and len(calls) > 30):
            raise Cancelled

    def mapped():
        with reported(tell):
            how = {"method": method, "targets": QUESTION, "batch": 2}
            attend.attention_maps(clip, FILMS, **how)

    def stopped():
        with pytest.raises(Cancelled):
            mapped()

    at_once(stopped, partial(maps_of, clip, ["gradcam"] * 4, FILMS[:1]))
    assert all_equal(at_once(partial(maps_of, clip, ["relevance"], FILMS[:1]))[0], want)
    assert all_of(clip) == before


def test_a_listener_hears_its_own_thread_alone(clip):
    heard, done = [], threading.Event()

    def listen():
        with reported(lambda *_: heard.append(threading.get_ident())):
            done.wait(LIMIT_S)

    thread, _ = started(listen)
    maps_of(clip, ["relevance"], FILMS[:1])
    done.set()
    thread.join(LIMIT_S)
    assert heard == []
    with reported(lambda *_: heard.append(threading.get_ident())):
        maps_of(clip, ["relevance"], FILMS[:1])
    assert set(heard) == {threading.get_ident()}


def test_a_function_is_replaced_for_each_thread_by_its_own():
    class Owner:
        name = staticmethod(lambda: "original")

    original, replaced = Owner.name, Replaced(Owner, "name")
    entered, other_entered = threading.Event(), threading.Event()

    def other():
        entered.wait(LIMIT_S)
        between = Owner.name()
        with replaced.by(lambda: "theirs"):
            other_entered.set()
            time.sleep(0.1)  # until the first has left
            return between, Owner.name()

    def first():
        with replaced.by(lambda: "mine") as before:
            entered.set()
            other_entered.wait(LIMIT_S)
            return Owner.name(), before()

    got = at_once(other, first)
    assert got == [("original", "theirs"), ("mine", "original")]
    assert Owner.name is original


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
def test_an_interrupt_while_waiting_gives_up_the_place():
    net = torch.nn.Identity()
    held, done = threading.Event(), threading.Event()

    def hold():
        with in_turn(net):
            held.set()
            done.wait(LIMIT_S)

    def interrupt():
        while not in_turn(net).waiting:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    holder, _ = started(hold)
    held.wait(LIMIT_S)
    started(interrupt)
    with pytest.raises(KeyboardInterrupt), in_turn(net):
        pass
    assert not in_turn(net).waiting
    assert not turns._awaited
    done.set()
    holder.join(LIMIT_S)
    assert at_once(lambda: in_turn(net).__enter__()) == [None]  # it is free


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent():
    net = torch.nn.Identity()
    held, done = threading.Event(), threading.Event()

    def hold():
        with in_turn(net):
            held.set()
            done.wait(LIMIT_S)

    holder, _ = started(hold)
    held.wait(LIMIT_S)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        with in_turn(net):
            os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done.set()
    holder.join(LIMIT_S)
    assert ended == 0

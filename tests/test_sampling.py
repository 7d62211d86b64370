"""Sampling laws against brute force, the counter-based generator against its reference, seeds from paths."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decoding.errors import ConfigError
from decoding.sampling import draw, log_softmax, sampling_law
from decoding.seeds import SeededRng, counter_uniforms, derive_seed, invert_cdf
from decoding.types import MAX_SEED, SamplingParams

# Multiples of 1/8: many ties, and differences that survive rounding.
ROWS = arrays(np.float64, st.integers(2, 12), elements=st.integers(-40, 40).map(lambda n: n / 8))
JUST_UNDER_1 = np.nextafter(1.0, 0.0)


def params(**keywords):
    return SamplingParams(seed=0, **keywords)


def law_of(logits, **keywords):
    return sampling_law(log_softmax(logits), params(**keywords))


def normalised(weights):
    return weights / weights.sum()


@given(ROWS)
def test_log_softmax_is_the_textbook_formula(logits):
    np.testing.assert_allclose(log_softmax(logits), np.log(np.exp(logits) / np.exp(logits).sum()), atol=1e-12)


def test_log_softmax_stands_large_and_forbidden_logits():
    """exp(1000) overflows; a token at minus infinity stays impossible."""
    np.testing.assert_allclose(log_softmax(np.array([1000.0, 1000.0, -np.inf])), [-np.log(2), -np.log(2), -np.inf])


@given(ROWS, st.sampled_from([0.3, 0.7, 1.0, 2.0]))
def test_temperature_divides_the_logits(logits, temperature):
    expected = normalised(np.exp(logits / temperature - (logits / temperature).max()))
    np.testing.assert_allclose(law_of(logits, temperature=temperature), expected, atol=1e-12)


@given(ROWS, st.integers(1, 14))
def test_top_k_keeps_the_k_likeliest_and_what_ties_with_them(logits, k):
    kept = [sum(other > logit for other in logits) < k for logit in logits]
    np.testing.assert_allclose(law_of(logits, top_k=k), normalised(np.exp(logits) * kept), atol=1e-12)


@given(ROWS, st.sampled_from([0.05, 0.3, 1.0]))
def test_min_p_is_relative_to_the_likeliest(logits, min_p):
    # Logits are multiples of 1/8 and no ratio exp(n / 8) is one of these, except 1: no comparison is a close one.
    kept = np.exp(logits - logits.max()) >= min_p
    np.testing.assert_allclose(law_of(logits, min_p=min_p), normalised(np.exp(logits) * kept), atol=1e-12)


@settings(max_examples=50)
@given(ROWS.filter(lambda row: len(row) <= 9), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_top_p_is_a_smallest_set_that_reaches_p(logits, top_p):
    """By trying all sets: none with fewer tokens reaches p, and none as small holds more."""
    full, law = law_of(logits), law_of(logits, top_p=top_p)
    kept = law > 0
    masses = {
        size: max(full[list(chosen)].sum() for chosen in itertools.combinations(range(len(full)), size))
        for size in (kept.sum() - 1, kept.sum())
    }
    assert full[kept].sum() == pytest.approx(masses[kept.sum()])
    assert full[kept].sum() >= top_p - 1e-12
    assert masses[kept.sum() - 1] < top_p + 1e-12
    np.testing.assert_allclose(law, normalised(full * kept), atol=1e-12)


def test_a_tiny_top_p_keeps_one_token():
    assert (law_of(np.array([0.0, 0.1, 0.2]), top_p=1e-9) > 0).tolist() == [False, False, True]


def test_filters_apply_in_vllms_order():
    """top_p counts what top_k has left: 0.4 of 0.7 is 0.57, enough for p = 0.5; of the whole law it is not."""
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(law_of(logits, top_k=2, top_p=0.5), [1, 0, 0, 0])
    np.testing.assert_allclose(law_of(logits, top_p=0.5), [4 / 7, 3 / 7, 0, 0])
    # min_p compares after the temperature: at 2 the ratio 0.25 becomes 0.5.
    np.testing.assert_allclose(law_of(logits, temperature=2.0, min_p=0.45) > 0, [True, True, True, True])
    np.testing.assert_allclose(law_of(logits, min_p=0.45) > 0, [True, True, True, False])


def test_no_filter_touches_its_argument():
    """Engines hand in rows of shared arrays."""
    logprobs = log_softmax(np.array([0.0, 1.0, 2.0]))
    before = logprobs.copy()
    sampling_law(logprobs, params(temperature=0.5, top_k=2, top_p=0.5, min_p=0.1))
    assert (logprobs == before).all()


@given(ROWS)
def test_greedy_is_the_first_argmax_whatever_the_filters_and_the_seed(logits):
    for seed in (0, 7):
        drawn = draw(logits, SamplingParams(seed=seed, temperature=0.0, top_p=0.1, top_k=2), 3)
        assert drawn.token_id == logits.argmax()
        assert drawn.sampling_logprob == 0.0
        assert drawn.logprob == pytest.approx(log_softmax(logits).max())


def test_draws_follow_the_law_and_report_both_logprobs():
    """20,000 seeds at one position, as a batch of requests would draw: within 4.5 standard deviations everywhere."""
    logits = np.array([0.3, -1.0, 1.2, 0.0, 2.0, -3.0])
    sampling = {"temperature": 0.8, "top_p": 0.95}
    law, logprobs = law_of(logits, **sampling), log_softmax(logits)
    draws = [draw(logits, SamplingParams(seed=seed, **sampling), 5) for seed in range(20_000)]
    counts = np.bincount([one.token_id for one in draws], minlength=6)
    assert (counts[law == 0] == 0).all()
    assert (np.abs(counts - 20_000 * law) <= 4.5 * np.sqrt(20_000 * law * (1 - law))).all()
    for one in draws[:100]:
        assert one.logprob == pytest.approx(logprobs[one.token_id])
        assert one.sampling_logprob == pytest.approx(np.log(law[one.token_id]))


def test_splitmix64_gives_the_published_stream():
    """The first outputs of Vigna's splitmix64.c for two seeds, as other libraries' tests list them."""
    published = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
        1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431],
    }
    for seed, outputs in published.items():
        counters = np.arange(len(outputs), dtype=np.uint64)
        uniforms = counter_uniforms(np.full(len(outputs), seed, dtype=np.uint64), counters)
        assert uniforms.tolist() == [(output >> 11) / 2**53 for output in outputs]


def test_uniforms_depend_on_seed_and_counter_alone():
    seeds, counters = np.array([5, MAX_SEED, 0], np.uint64), np.array([3, 2**40, 0], np.uint64)
    together = counter_uniforms(seeds, counters)
    alone = [counter_uniforms(seeds[i : i + 1], counters[i : i + 1])[0] for i in range(3)]
    assert together.tolist() == alone


@pytest.mark.parametrize("along", ["counters of one seed", "first draws of seeds in a row", "first draws of paths"])
def test_uniforms_are_uniform_and_neighbours_unrelated(along):
    count = 50_000
    seeds = np.full(count, 42, np.uint64) if along.startswith("counters") else np.arange(count, dtype=np.uint64)
    if along.endswith("paths"):
        seeds = np.array([derive_seed(0, "problem", i) for i in range(count)], np.uint64)
    counters = np.arange(count, dtype=np.uint64) if along.startswith("counters") else np.zeros(count, np.uint64)
    uniforms = counter_uniforms(seeds, counters)
    assert uniforms.min() >= 0
    assert uniforms.max() < 1
    cells = np.bincount((uniforms * 100).astype(int), minlength=100)
    assert ((cells - count / 100) ** 2 / (count / 100)).sum() < 99 + 4.5 * np.sqrt(2 * 99)
    pairs = np.bincount((uniforms[:-1] * 10).astype(int) * 10 + (uniforms[1:] * 10).astype(int), minlength=100)
    assert ((pairs - count / 100) ** 2 / (count / 100)).sum() < 99 + 4.5 * np.sqrt(2 * 99)


@given(
    arrays(np.float64, st.integers(1, 9), elements=st.sampled_from([0.0, 0.1, 0.3, 1e-300, 1.0, 7.0])),
    st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, JUST_UNDER_1])),
)
def test_inversion_never_returns_a_token_of_zero_weight(weights, uniform):
    if weights.sum() == 0:
        with pytest.raises(ValueError, match="positive"):
            invert_cdf(weights, uniform)
        return
    index = invert_cdf(weights, uniform)
    assert weights[index] > 0
    assert weights[:index].sum() <= uniform * weights.sum() * (1 + 1e-12)


def test_inversion_stays_among_the_possible_tokens_at_both_ends():
    """Sums of tenths round, and uniform x total rounds up to the total where the weights are as small as can be."""
    for size in range(1, 40):
        assert invert_cdf(np.array([0.1] * size + [0.0, 0.0]), JUST_UNDER_1) == size - 1
        assert invert_cdf(np.array([0.0, 0.0] + [0.1] * size), 0.0) == 2
    assert invert_cdf(np.array([0.0, 5e-324, 0.0]), 0.9) == 1


def test_inversion_refuses_weights_that_are_not_numbers():
    with pytest.raises(ValueError, match="positive"):
        invert_cdf(np.array([0.5, np.nan]), 0.5)


def test_seeds_tell_paths_apart_by_value_type_and_place():
    paths = [
        (),
        (1,),
        ("1",),
        (1, 2),
        (12,),
        ("1", 2),
        (1, "2"),
        ("12",),
        ("1, 2",),
        ("1', '2",),
        ("1", "2"),
        ("",),
        (0,),
    ]
    seeds = [derive_seed(root, *path) for root in (0, 1) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert derive_seed(0, 1) != derive_seed(1, 0)
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_seeds_are_the_same_in_every_process_and_version():
    """Stores are keyed by them: a change here makes every stored run unreachable."""
    assert derive_seed(0, "problem", 3, "sample", 1) == 1999571365053725659


def test_seeded_rngs_repeat_and_follow_their_weights():
    first, again = (SeededRng(derive_seed(0, "a")) for _ in range(2))
    weights = [0.0, 1.0, 3.0]
    drawn = [first.categorical(weights) for _ in range(4000)]
    assert drawn == [again.categorical(weights) for _ in range(4000)]
    counts = np.bincount(drawn, minlength=3)
    assert counts[0] == 0
    assert abs(counts[2] - 3000) < 4.5 * np.sqrt(4000 * 0.75 * 0.25)
    assert first.uniform() == again.uniform()


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": MAX_SEED + 1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 1.5},
        {"max_tokens": 0},
        {"stop": ("",)},
    ],
)
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SamplingParams(**{"seed": 0, **wrong})

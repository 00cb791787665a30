import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.runner.generation.content import ContentSpan, Features, digest_of
from engines.runner.generation.kv.blocks import BLOCK, Block, BlockStore, Chain

FULL, WINDOW = 10, 3


def chain(*blocks: int) -> list[bytes]:
    """The keys of a sequence whose blocks repeat one token each."""
    tokens = [token for token in blocks for _ in range(BLOCK)]
    return Chain(b"model").grow(tokens, len(tokens))


def put(store: BlockStore[str], *blocks: int, windows: bool = True, start: int = 0) -> None:
    keys = chain(*blocks)
    parts = [Block(f"full {key!r}", f"window {key!r}" if windows else None) for key in keys[start:]]
    store.put(keys, start, parts, (FULL, WINDOW))


def test_a_key_knows_all_that_stands_before_its_block() -> None:
    assert chain(1, 2)[:1] == chain(1)
    assert chain(1, 2)[1] != chain(2)[0]
    assert chain(1, 2)[1] != chain(3, 2)[1]


def test_a_chain_grows_with_its_sequence_and_never_reads_what_it_knows_again() -> None:
    tokens = list(range(5 * BLOCK))
    grown = Chain(b"model")
    for length in range(0, len(tokens) + 1, 7):
        assert grown.grow(tokens, length) == Chain(b"model").grow(tokens, length)


NOTHING: Features = np.zeros(0, np.float32)
pieces = st.lists(
    st.one_of(
        st.integers(0, 1),  # a token
        st.tuples(st.sampled_from([b"sound", b"other", b"soun"]), st.integers(1, 20)),  # a content and its length
    ),
    max_size=12,
)
Prompt = tuple[bytes, list[int], list[ContentSpan]]


@st.composite
def prompts(draw: st.DrawFn) -> tuple[Prompt, Prompt]:
    """Two prompts that often begin alike; a content's tokens are all the same, as those that stand for sound are."""
    begins, models = draw(pieces), st.sampled_from([b"one", b"another"])
    return made(draw(models), begins + draw(pieces)), made(draw(models), begins + draw(pieces))


def made(model: bytes, parts: list[int | tuple[bytes, int]]) -> Prompt:
    tokens: list[int] = []
    spans: list[ContentSpan] = []
    for part in parts:
        if isinstance(part, int):
            tokens.append(part)
        else:
            digest, length = part
            spans.append(ContentSpan(len(tokens), len(tokens) + length, NOTHING, digest))
            tokens += [1] * length
    return model, tokens, spans


def positions(prompt: Prompt) -> list[tuple[int, bytes, int]]:
    """Of each position its token, the digest of its content, and its offset there."""
    _, tokens, spans = prompt
    held = [(token, b"", 0) for token in tokens]
    for span in spans:
        for place in range(span.begin, span.end):
            held[place] = (tokens[place], span.digest, place - span.begin)
    return held


@given(prompts())
def test_two_prompts_have_keys_in_common_exactly_up_to_where_model_token_or_content_differ(
    two: tuple[Prompt, Prompt],
) -> None:
    one, other = ([Chain(model, spans).grow(tokens, len(tokens))] for model, tokens, spans in two)
    same = 0
    for mine, its in zip(*map(positions, two), strict=False):
        if mine != its:
            break
        same += 1
    shared = same // BLOCK if two[0][0] == two[1][0] else 0
    assert one[0][:shared] == other[0][:shared]
    assert not {*one[0][shared:]} & {*other[0][shared:]}


def test_a_digest_tells_contents_apart_by_values_and_shape() -> None:
    features = np.arange(6, dtype=np.float32)
    assert digest_of(features) == digest_of(features.copy())
    assert len({digest_of(one) for one in (features, features + 1, features.reshape(2, 3), features[:5])}) == 4


def test_what_was_put_is_found_up_to_where_sequences_part() -> None:
    store: BlockStore[str] = BlockStore(reach=0)
    put(store, 1, 2, 3)
    assert store.usable(chain(1, 2, 3, 4)) == 3
    assert store.usable(chain(1, 2, 9)) == 2
    assert store.usable(chain(9, 2, 3)) == 0
    assert [block.full for block in store.take(chain(1, 2))] == [f"full {key!r}" for key in chain(1, 2)]


def test_with_a_window_a_chain_is_usable_only_where_the_last_blocks_have_theirs() -> None:
    store: BlockStore[str] = BlockStore(reach=2)
    put(store, 1, 2)
    put(store, 1, 2, 3, 4, 5, windows=False, start=2)
    assert store.usable(chain(1, 2, 3, 4, 5)) == 2
    put(store, 1, 2, 3, 4, 5, start=3)
    assert store.usable(chain(1, 2, 3, 4, 5)) == 5
    assert store.usable(chain(1, 2, 3, 4)) == 2
    assert [block.window is not None for block in store.take(chain(1, 2, 3, 4, 5))] == [False, False, False, True, True]


def test_window_parts_that_no_sequence_goes_on_behind_give_way_first() -> None:
    store: BlockStore[str] = BlockStore(reach=1)
    put(store, 1, 2, 3, 4)
    store.shrink(4 * FULL + 2 * WINDOW)
    assert store.usable(chain(1, 2, 3, 4)) == 4
    store.shrink(4 * FULL + WINDOW)
    assert store.usable(chain(1, 2, 3, 4)) == 4


def test_the_least_recently_used_branch_gives_way_before_what_all_share() -> None:
    store: BlockStore[str] = BlockStore(reach=0)
    put(store, 1, 2, 3)
    put(store, 1, 2, 4)
    store.take(chain(1, 2, 3))
    store.shrink(3 * FULL)
    assert (store.usable(chain(1, 2, 3)), store.usable(chain(1, 2, 4))) == (3, 2)
    store.shrink(1 * FULL)
    assert store.usable(chain(1, 2, 3)) == 1


def test_blocks_behind_a_hole_are_not_stored() -> None:
    store: BlockStore[str] = BlockStore(reach=0)
    put(store, 1, 2, 3, start=2)
    assert store.bytes == 0


sequences = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@given(st.lists(st.tuples(sequences, st.integers(0, 120), st.booleans()), max_size=25), st.integers(0, 3))
def test_whatever_is_put_and_gives_way_no_block_is_without_its_parents_and_bytes_are_counted(
    history: list[tuple[list[int], int, bool]], reach: int
) -> None:
    store: BlockStore[str] = BlockStore(reach)
    known: set[tuple[int, ...]] = set()
    for blocks, limit, windows in history:
        usable = store.usable(chain(*blocks))
        store.take(chain(*blocks)[:usable])
        put(store, *blocks, windows=windows and reach > 0, start=usable)
        known |= {tuple(blocks[:count]) for count in range(1, len(blocks) + 1)}
        store.shrink(limit)
        assert store.bytes <= limit
        here = {one for one in known if chain(*one)[-1] in store}
        assert all(one[:-1] in here for one in here if len(one) > 1)
        held = sum(FULL + WINDOW * ((chain(*one)[-1], "window") in store._parts) for one in here)
        assert held == store.bytes
        assert all(store.usable(chain(*one)) <= len(one) for one in here)

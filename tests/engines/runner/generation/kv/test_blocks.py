from hypothesis import given
from hypothesis import strategies as st

from engines.runner.generation.kv.blocks import BLOCK, Block, BlockStore, Chain

FULL, WINDOW = 10, 3


def chain(*blocks: int) -> list[bytes]:
    """The keys of a sequence whose blocks repeat one token each."""
    tokens = [token for token in blocks for _ in range(BLOCK)]
    return Chain().grow(tokens, len(tokens))


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
    grown = Chain()
    for length in range(0, len(tokens) + 1, 7):
        assert grown.grow(tokens, length) == Chain().grow(tokens, length)


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

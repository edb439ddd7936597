from redraft.bench.measure import in_new_process, peak_memory

SIZE = 400 << 20


def test_peak_memory_is_that_of_the_call_alone_whatever_this_process_has_held() -> None:
    held = len(b"x" * 2 * SIZE)
    program = "(len(b'x' * size), peak_memory())[1]"
    small, large = (in_new_process(eval, program, {"size": size, "peak_memory": peak_memory}) for size in (1, SIZE))
    assert held <= peak_memory()
    assert 0.9 * SIZE < large - small < 1.1 * SIZE
    assert small < SIZE

import pytest
import torch

from securitynet.targets.threads import threads_for


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("side", "n_threads"), [(8, 1), (16, 1), (17, 3), (32, 3)])
def test_small_images_get_one_thread_and_the_others_what_there_was(side, n_threads):
    with threads_for(side, side):
        assert torch.get_num_threads() == n_threads
    assert torch.get_num_threads() == 3


def test_the_number_comes_back_after_an_error():
    with pytest.raises(KeyError), threads_for(8, 8):
        raise KeyError
    assert torch.get_num_threads() == 3

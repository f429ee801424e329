"""References: what every attack asks again is computed once, and nobody can change it."""

import numpy as np
import pytest

from securitynet.errors import RefusedError
from securitynet.targets.references import References


def references(is_out):
    asked = []
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(3), (len(is_out), is_out.shape[1])))

    def answers(r):
        asked.append(r)
        return log_p[r]

    found = References("x", is_out, ~is_out, answers, shadow=None)
    return found, asked, np.exp(log_p)


def test_the_mean_is_that_of_the_speakers_and_computed_once():
    is_out = np.array([[True, False, True], [True, True, False]])
    found, asked, p = references(is_out)
    speakers = found.speakers()
    assert (speakers.sum(0) == 1).all() and not (speakers & ~is_out).any()
    expected = np.where(speakers[..., None], p, 0).sum(0)
    n_asked = None
    for _ in range(2):
        np.testing.assert_allclose(np.exp(found.mean_log_p()), expected)
        n_asked = n_asked or len(asked)
    assert len(asked) == n_asked


@pytest.mark.parametrize("name", ["speakers", "mean_log_p"])
def test_what_is_shared_cannot_be_written_to(name):
    found, _, _ = references(np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="read-only"):
        getattr(found, name)()[0] = 1


def test_unsound_references_are_refused_every_time():
    found, _, _ = references(np.array([[True, False]]))
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"50\.0%"):
            found.mean_log_p()

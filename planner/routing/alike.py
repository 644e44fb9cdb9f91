"""How alike the tokens of one prompt choose experts, from the prompts themselves."""

from collections import Counter
from collections.abc import Sequence


def repeated_text_correlation(texts: Sequence[Sequence[int]], prompt_tokens: int) -> float:
    r"""``prompt_correlation`` of prompts that are each a short text repeated to one length.

    If equal tokens choose equal experts and different ones independently, two tokens of one prompt
    agree as often as they are equal, less what two of different prompts agree anyway:

    .. math:: \rho = \Bigl\langle \sum_v f_{pv}^2 \Bigr\rangle_p
              - \sum_v \langle f_{pv} \rangle_p^2

    with :math:`f_{pv}` the share of token ``v`` in prompt ``p``.

    Parameters
    ----------
    texts : token ids of each text, none of them empty.
    prompt_tokens : length that each is repeated and cut to. [tokens]

    References
    ----------
    .. [1] F. Xue et al., "OpenMoE", arXiv:2402.01739 (routing depends on token ids above all, with
       little regard to context).
    .. [2] L. Kish, "Survey Sampling", 1965, section 5.4 (variance of clustered samples).
    """
    equal, mean = 0.0, Counter[int]()
    for text in texts:
        whole, rest = divmod(prompt_tokens, len(text))
        shares = Counter({token: whole * n for token, n in Counter(text).items()})
        shares.update(text[:rest])
        equal += sum((n / prompt_tokens) ** 2 for n in shares.values())
        for token, n in shares.items():
            mean[token] += n
    every = len(texts) * prompt_tokens
    return equal / len(texts) - sum((n / every) ** 2 for n in mean.values())

"""The figures of Stable Cascade's two stages. Requesters know pictures made with exactly these."""

#: Side of a picture over the side of the first stage's latent, with one pass and with two.
COMPRESSION, COMPRESSION_OF_TWO_PASSES = 42, 32
#: cfg of the second stage, which is told no text, with one pass and with two.
DECODER_CFG, DECODER_CFG_OF_TWO_PASSES = 1.0, 1.1
#: The first stage's share of the steps; the second gets the others.
PRIOR_SHARE, DECODER_SHARE = 0.67, 0.33


def prior_steps(steps: int) -> int:
    return max(1, round(steps * PRIOR_SHARE))


def decoder_steps(steps: int) -> int:
    return max(1, round(steps * DECODER_SHARE))


def compression(hires: bool) -> int:
    return COMPRESSION_OF_TWO_PASSES if hires else COMPRESSION


def decoder_cfg(hires: bool) -> float:
    return DECODER_CFG_OF_TWO_PASSES if hires else DECODER_CFG

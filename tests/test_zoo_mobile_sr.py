"""Mobile super-resolution in the zoo: counts of facts, states, and the merging of what was trained in branches."""

from __future__ import annotations

import pytest

from instep.graph.text import parse
from instep.report.table import table_of_graph
from instep.zoo import path_of

#: (entry, arguments, parameters): counts that papers, checkpoints or the seed's log state.
COUNTS = [
    ("vapsr", {}, 342_220), ("vapsr", {"blocks": 20, "scale": 3}, 336_811),
    ("vapsr", {"blocks": 20, "scale": 2}, 329_236), ("vapsr_s", {}, 154_956),
    ("vapsr_0", {}, 154_252), ("vapsr_1", {}, 155_916), ("vapsr_2", {}, 131_276), ("vapsr_3", {}, 131_276),
    ("vapsr_3_1", {}, 73_484), ("vapsr_3_2", {}, 64_108), ("vapsr_4", {}, 64_108), ("vapsr_4_1", {}, 59_468),
    ("vapsr_4_2_0", {}, 64_108), ("vapsr_4_2_1", {}, 64_108), ("vapsr_4_3", {}, 63_852),
    ("swrn", {}, 43_472), ("swrn", {"blocks": 2}, 36_512), ("swrn_1", {}, 36_512),
    ("mobile_rrn", {}, 35_664), ("mobile_rrn_32", {}, 126_576), ("mobile_rrn_64", {}, 474_288),
    ("swat_0", {}, 50_624), ("swat_1", {}, 33_984), ("swat_2", {}, 25_664), ("swat_3", {}, 25_664),
    ("swat_3_1", {}, 24_160), ("swat_3_2", {}, 26_016), ("swat_4", {}, 53_696), ("swat_5", {}, 25_664),
    ("swat_6", {}, 21_056),
    ("ecbsr", {"c": 8, "scale": 2}, 2_748), ("ecbsr", {"c": 8}, 3_624), ("ecbsr", {"scale": 2}, 10_100),
    ("ecbsr", {}, 11_840), ("ecbsr", {"m": 10, "c": 32}, 97_776), ("ecbsr", {"m": 16, "c": 64}, 601_808),
    ("ecbsr", {"c": 8, "relu": True}, 3_584), ("ecbsr", {"relu": True}, 11_760),
    ("ecbsr_training", {"c": 8}, 16_624), ("ecbsr_training", {}, 47_120),
    ("skipskip", {}, 62_048), ("eesrnet", {}, 28_192), ("diggers", {}, 23_371),
    ("rlfn_s", {}, 470_208), ("rlfn_s", {"scale": 2}, 454_620), ("rlfn_0", {}, 306_992),
    ("quicksrnet_s", {"scale": 1.5}, 22_875), ("quicksrnet_m", {"scale": 1.5}, 50_619),
    ("quicksrnet_l", {"scale": 1.5}, 415_695),
    ("abpn", {"nf": 32}, 52_279), ("abpn", {"nf": 32, "scale": 4}, 72_544),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "count"), COUNTS)
def test_parameters_are_those_of_the_sources(name: str, args: dict, count: int) -> None:
    assert table_of_graph(parse(path_of(name), args=args, initial=False), name).parameters == count

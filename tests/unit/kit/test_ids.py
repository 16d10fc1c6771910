from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit import ids


@given(st.uuids())
def test_a_uuid_comes_back_from_its_typed_form(value: UUID) -> None:
    assert ids.decode("pay", ids.encode("pay", value)) == value


def test_the_typed_form_is_the_one_of_the_typeid_specification() -> None:
    assert ids.encode("prefix", UUID("01890a5d-ac96-774b-bcce-b302099a8057")) == "prefix_01h455vb4pex5vsknk084sn02q"


@pytest.mark.parametrize(
    "text", ["", "pay_", "pay_01h455vb4pex5vsknk084sn02", "pay_81h455vb4pex5vsknk084sn02q", "op_01h455vb4pex5vsknk084sn02q",
             "pay_01H455VB4PEX5VSKNK084SN02Q", "pay_01h455vb4pex5vsknk084sn02l", "pay_01h455vb4pex5vsknk084sn0é"]
)  # fmt: skip
def test_what_encode_cannot_have_made_is_refused(text: str) -> None:
    assert ids.decode("pay", text) is None


def test_uuid7_has_its_version_and_variant_and_sorts_by_time() -> None:
    early, late = ids.uuid7(at_ms=1_000), ids.uuid7(at_ms=1_001)
    assert (early.version, early.variant) == (7, UUID(int=1 << 63).variant)
    assert early < late
    assert early.int >> 80 == 1_000


def test_many_ids_of_one_millisecond_differ() -> None:
    assert len({ids.uuid7(at_ms=5) for _ in range(10_000)}) == 10_000

"""What people paste, and what it names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from denoised.catalog.characters import FORBIDDEN
from denoised.catalog.model import Url
from denoised.contribute.identify import Identified, identify
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking

FABRIC = Identified("arxiv", "2307.10159", "https://arxiv.org/abs/2307.10159")


@pytest.mark.parametrize(
    "pasted",
    [
        "2307.10159",
        "  2307.10159\n",
        "<2307.10159>",
        "2307.10159v2",
        "2307.10159v12.pdf",
        "arXiv:2307.10159",
        "arXiv:2307.10159v2",
        "arxiv: 2307.10159.",
        "ARXIV:2307.10159v2 [cs.CV] 19 Jul 2023",
        "https://arxiv.org/abs/2307.10159v1",
        "http://arxiv.org/abs/2307.10159",
        "HTTPS://ArXiv.org/abs/2307.10159",
        "https://www.arxiv.org/pdf/2307.10159v3.pdf",
        "https://arxiv.org/pdf/2307.10159.pdfv1",
        "https://arxiv.org/abs/2307.10159?context=cs.LG#references",
        "https://arxiv.org/abs/2307.10159/",
        "https://export.arxiv.org/abs/2307.10159",
        "arxiv.org/html/2307.10159v1",
        "https://browse.arxiv.org/html/2307.10159v1",
        "https://ar5iv.labs.arxiv.org/html/2307.10159",
        "https://ar5iv.org/abs/2307.10159",
        "https://www.alphaxiv.org/abs/2307.10159v1",
        "alphaxiv.org/overview/2307.10159",
        "https://huggingface.co/papers/2307.10159",
        "huggingface.co/papers/2307.10159",
        "https://scirate.com/arxiv/2307.10159",
        "10.48550/arXiv.2307.10159",
        "10.48550/ARXIV.2307.10159",
        "doi:10.48550/arXiv.2307.10159",
        "https://doi.org/10.48550/arXiv.2307.10159",
        "http://dx.doi.org/10.48550/arxiv.2307.10159v2",
    ],
)
def test_every_way_to_write_an_arxiv_paper_is_one(pasted: str) -> None:
    assert identify(pasted) == FABRIC


@pytest.mark.parametrize(
    "pasted, value",
    [
        ("hep-th/9901001", "hep-th/9901001"),
        ("HEP-TH/9901001v3", "hep-th/9901001"),
        ("https://arxiv.org/abs/math.GT/0309136", "math.GT/0309136"),
        ("https://arxiv.org/pdf/math.gt/0309136v1.pdf", "math.GT/0309136"),
        ("10.48550/arXiv.hep-th/9901001", "hep-th/9901001"),
        ("0704.0001", "0704.0001"),
    ],
)
def test_identifiers_from_before_2015(pasted: str, value: str) -> None:
    assert identify(pasted) == Identified("arxiv", value, f"https://arxiv.org/abs/{value}")


@pytest.mark.parametrize(
    "pasted, value, url",
    [
        ("10.1145/3528233.3530757", "10.1145/3528233.3530757", "https://doi.org/10.1145/3528233.3530757"),
        (
            "doi: 10.1145/3528233.3530757.",
            "10.1145/3528233.3530757",
            "https://doi.org/10.1145/3528233.3530757",
        ),
        ("https://doi.org/10.1109/CVPR.2022.1", "10.1109/CVPR.2022.1", "https://doi.org/10.1109/CVPR.2022.1"),
        ("doi.org/10.1109/CVPR.2022.1", "10.1109/CVPR.2022.1", "https://doi.org/10.1109/CVPR.2022.1"),
        (
            "10.1002/(SICI)1097(199806)50:1<1::AID>3.0.CO;2-#",
            "10.1002/(SICI)1097(199806)50:1<1::AID>3.0.CO;2-#",
            "https://doi.org/10.1002/(SICI)1097(199806)50:1%3C1::AID%3E3.0.CO;2-%23",
        ),
    ],
)
def test_other_dois(pasted: str, value: str, url: str) -> None:
    assert identify(pasted) == Identified("doi", value, url)
    assert identify(url) == Identified("doi", value, url)


@pytest.mark.parametrize(
    "pasted",
    [
        "https://openreview.net/forum?id=St1giarCHLP",
        "https://openreview.net/pdf?id=St1giarCHLP",
        "http://www.openreview.net/forum?id=St1giarCHLP&noteId=abc#x",
        "openreview.net/pdf?id=St1giarCHLP",
    ],
)
def test_openreview_is_read_in_its_forum(pasted: str) -> None:
    forum = "https://openreview.net/forum?id=St1giarCHLP"
    assert identify(pasted) == Identified("url", forum, forum)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/paper.pdf",
        "http://proceedings.mlr.press/v139/nichol21a.html",
        "https://huggingface.co/papers/trending",
        "https://huggingface.co/blog/annotated-diffusion",
        "https://openreview.net/group?id=ICLR.cc",
        "https://notarxiv.org/abs/2307.10159",
        "https://dl.acm.org/doi/10.1145/3528233.3530757",
    ],
)
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert identify(url) == Identified("url", url, url)


EXAMPLE = "for example 2307.10159, 10.1145/3528233.3530757, https://openreview.net/forum?id=St1giarCHLP"


@pytest.mark.parametrize(
    "pasted, shown",
    [
        ("", ""),
        ("DDIM", "DDIM"),
        ("example.com/paper", "example.com/paper"),
        ("2307.1015", "2307.1015"),  # a digit is missing
        ("2313.10159", "2313.10159"),  # no such month
        ("10.1145/", "10.1145/"),
        ("doi.org/10.x", "doi.org/10.x"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("https://", "https://"),
        ("https://user:pw@example.com/x", "https://user:pw@example.com/x"),
        ("https://example.com/a b", "https://example.com/a b"),
        ("https://localhost/x", "https://localhost/x"),
        ("https://[::1", "https://[::1"),
        ("https://example.com/\u202egpj.exe", "https://example.com/<U+202E>gpj.exe"),
        ("https://example.com/" + "a" * 9000, "https://example.com/" + "a" * 59 + "…"),
    ],
)
def test_what_names_nothing_is_told_with_examples(pasted: str, shown: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError) as caught:
        identify(pasted)
    assert caught.value.message == f"`{shown}` is no arXiv identifier, DOI or address"
    assert caught.value.help == EXAMPLE and caught.value.code == Exit.USAGE
    with speaking("ko"), pytest.raises(DenoisedError) as caught:
        identify(pasted)
    assert caught.value.message == f"`{shown}`: arXiv 번호도 DOI도 주소도 아니다"


@pytest.mark.parametrize(
    "pasted", ["arXiv:2307.1015", "https://arxiv.org/abs/2307.1015v2", "10.48550/arXiv.2307.1015"]
)
def test_an_identifier_that_arxiv_never_gave(pasted: str) -> None:
    with (
        speaking("en"),
        pytest.raises(DenoisedError, match=r"`2307\.1015(v2)?` is no identifier that arXiv gives") as caught,
    ):
        identify(pasted)
    assert caught.value.help == "write it as 2307.10159, or until March 2007 as hep-th/9901001"


@pytest.mark.parametrize(
    "pasted", ["https://arxiv.org/list/cs.CV/recent", "arxiv.org/abs", "https://arxiv.org"]
)
def test_a_page_of_arxiv_that_is_no_paper(pasted: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError, match="is no address of a paper on arXiv"):
        identify(pasted)


numbers = st.builds(
    lambda year, month, number: f"{year:02}{month:02}.{number:05}",
    st.integers(15, 40),
    st.integers(1, 12),
    st.integers(0, 99999),
)


@settings(deadline=None)
@given(
    number=numbers,
    version=st.none() | st.integers(1, 99),
    around=st.sampled_from(
        ["{}", "arXiv:{}", "https://arxiv.org/abs/{}", "https://arxiv.org/pdf/{}.pdf", "10.48550/arXiv.{}"]
    ),
)
def test_the_version_is_dropped_and_the_number_kept(number: str, version: int | None, around: str) -> None:
    written = number if version is None else f"{number}v{version}"
    assert identify(around.format(written)) == identify(number)
    assert identify(number).value == number


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.builds(
        "{}{}".format,
        st.sampled_from(["https://", "arxiv.org/abs/", "10.1145/", "https://doi.org/10.1145/", "arXiv:"]),
        st.text(max_size=40),
    )
)
def test_anything_is_refused_or_has_a_normal_form(pasted: str) -> None:
    try:
        found = identify(pasted)
    except DenoisedError as error:
        refused = error
    else:
        assert TypeAdapter(Url).validate_python(found.url)  # fit for the catalog
        assert identify(found.url) == found
        return
    assert refused.code == Exit.USAGE and refused.help and not FORBIDDEN.search(refused.message)

"""Everything that can be wrong with a catalog: one code each, told in Korean and in English.

Codes are stable: pages and pull requests refer to them, so a code is never given a second meaning.
E01xx cannot be read, E02xx a value is wrong, E03xx two places disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from denoised.catalog.characters import visible
from denoised.language import Language, Phrase
from denoised.terminal import cut

Value = str | Phrase  # what a message is filled with: text from the file, or words in both languages


class Span(NamedTuple):
    """A stretch of the file. Lines and columns count from 1, in characters; the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Code:
    """One kind of finding: what is wrong, what belongs at the marked place, and what to write."""

    message: Phrase
    label: Phrase
    help: Phrase  # where a whole line fits, the line to write


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a catalog, and where."""

    file: str
    span: Span
    code: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def line(self) -> int:
        return self.span.line

    @property
    def column(self) -> int:
        return self.span.column

    @property
    def end_line(self) -> int:
        return self.span.end_line

    @property
    def end_column(self) -> int:
        return self.span.end_column

    def message(self, language: Language) -> str:
        """What is wrong, in one line."""
        return self._say(CODES[self.code].message, language)

    def label(self, language: Language) -> str:
        """What belongs at the marked place."""
        return self._say(CODES[self.code].label, language)

    def help(self, language: Language) -> str:
        """What to write or do."""
        return self._say(CODES[self.code].help, language)

    def _say(self, template: Phrase, language: Language) -> str:
        filled = {
            name: value.to(language) if isinstance(value, Phrase) else value
            for name, value in self.values.items()
        }
        return cut(visible(template.to(language).format_map(filled)), 400)


def quoted(text: str) -> str:
    """Text from the file, in backquotes, short enough for a message."""
    return f"`{cut(text, 60)}`"


def did_you_mean(names: Iterable[str], otherwise: Phrase) -> Phrase:
    """A suggestion, or where nothing is near, what else helps."""
    listed = ", ".join(f"`{name}`" for name in names)
    return Phrase(ko=f"혹시 {listed}인가?", en=f"did you mean {listed}?") if listed else otherwise


CODES: Mapping[str, Code] = {
    "E0101": Code(
        Phrase(ko="파일이 {limit}보다 크다", en="the file is larger than {limit}"),
        Phrase(ko="", en=""),
        Phrase(
            ko="논문 만 편의 카탈로그도 이보다 작다. 맞는 파일인지 확인한다",
            en="even ten thousand papers take less: is this the right file?",
        ),
    ),
    "E0102": Code(
        Phrase(ko="바이트 {byte}: UTF-8이 아니다", en="the byte {byte} is not UTF-8"),
        Phrase(ko="여기부터 읽을 수 없다", en="cannot be read from here on"),
        Phrase(
            ko="파일을 UTF-8로 저장한다. 예: iconv -f CP949 -t UTF-8",
            en="save the file as UTF-8, for example with iconv -f CP949 -t UTF-8",
        ),
    ),
    "E0103": Code(
        Phrase(ko="파일이 바이트 순서 표시(BOM)로 시작한다", en="the file begins with a byte-order mark"),
        Phrase(ko="보이지 않는 U+FEFF", en="an invisible U+FEFF"),
        Phrase(ko="BOM 없는 UTF-8로 저장한다", en="save the file as UTF-8 without BOM"),
    ),
    "E0104": Code(
        Phrase(
            ko="{value}: 유니코드 정규형 NFC가 아니다", en="{value} is not in the Unicode normal form NFC"
        ),
        Phrase(ko="자모나 부호가 풀려 있다", en="decomposed letters"),
        Phrase(
            ko="다시 입력한다 (macOS의 파일 이름에서 복사한 한글은 풀려 있다)",
            en="type it again (Hangul copied from macOS file names comes decomposed)",
        ),
    ),
    "E0105": Code(
        Phrase(ko="{character}: 쓸 수 없는 문자이다", en="{character} may not stand in the catalog"),
        Phrase(ko="눈에 보이지 않는다", en="invisible to a reader"),
        Phrase(ko="지우거나, 빈칸이 필요하면 보통 빈칸을 쓴다", en="delete it, or write an ordinary space"),
    ),
    "E0106": Code(
        Phrase(ko="YAML로 읽을 수 없다: {problem}", en="this is not YAML: {problem}"),
        Phrase(ko="여기에서 멈췄다", en="stopped here"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0107": Code(
        Phrase(ko="앵커와 별칭은 쓸 수 없다: {value}", en="anchors and aliases are not allowed: {value}"),
        Phrase(ko="값 자체를 쓴다", en="write the value itself"),
        Phrase(
            ko="항목 하나는 다른 항목 없이 읽혀야 한다. 값을 여기에 그대로 옮긴다",
            en="an entry must be readable on its own: copy the value here",
        ),
    ),
    "E0108": Code(
        Phrase(ko="YAML 태그는 쓸 수 없다: {value}", en="YAML tags are not allowed: {value}"),
        Phrase(ko="태그를 지운다", en="delete the tag"),
        Phrase(ko="값의 자료형은 필드가 정한다", en="the field decides the type of its value"),
    ),
    "E0109": Code(
        Phrase(ko="파일에는 YAML 문서 하나만 있어야 한다", en="the file must hold one YAML document"),
        Phrase(ko="새 문서가 여기서 시작한다", en="another document starts here"),
        Phrase(
            ko="`---`, `...`, `%` 줄을 지우고 한 문서로 합친다",
            en="delete the `---`, `...` or `%` line and make it one document",
        ),
    ),
    "E0110": Code(
        Phrase(ko="병합 키 `<<`는 쓸 수 없다", en="the merge key `<<` is not allowed"),
        Phrase(ko="필드를 하나씩 쓴다", en="write the fields out"),
        Phrase(
            ko="항목 하나는 다른 항목 없이 읽혀야 한다. 필드를 여기에 그대로 옮긴다",
            en="an entry must be readable on its own: copy the fields here",
        ),
    ),
    "E0111": Code(
        Phrase(ko="{limit}겹보다 깊이 들어갔다", en="nested deeper than {limit} levels"),
        Phrase(ko="너무 깊다", en="too deep"),
        Phrase(ko="카탈로그는 네다섯 겹이면 된다", en="a catalog needs four or five levels"),
    ),
    "E0112": Code(
        Phrase(ko="필드 이름이 낱말이 아니다", en="the name of a field must be a word"),
        Phrase(ko="이름이 올 자리", en="a name belongs here"),
        Phrase(ko="`이름: 값` 꼴로 쓴다", en="write `name: value`"),
    ),
    "E0113": Code(
        Phrase(ko="{field} 필드가 두 번 나온다", en="the field {field} is given twice"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(ko="둘 중 하나를 지운다", en="delete one of the two"),
    ),
    "E0114": Code(
        Phrase(ko="파일이 비어 있다", en="the file is empty"),
        Phrase(ko="", en=""),
        Phrase(ko="`categories:`와 `papers:`가 있어야 한다", en="it must have `categories:` and `papers:`"),
    ),
    "E0115": Code(
        Phrase(ko="YAML 지시문은 쓸 수 없다", en="YAML directives are not allowed"),
        Phrase(ko="이 줄을 지운다", en="delete this line"),
        Phrase(ko="카탈로그는 `categories:`로 시작한다", en="a catalog begins with `categories:`"),
    ),
    "E0201": Code(
        Phrase(
            ko="{field}: 필요한 것은 {expected}, 적힌 것은 {found}",
            en="{field} must be {expected}, not {found}",
        ),
        Phrase(ko="{expected} 자리", en="{expected} belongs here"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0202": Code(
        Phrase(ko="{owner}에 {field} 필드가 없다", en="{owner} has no {field}"),
        Phrase(ko="{field} 필드가 필요하다", en="needs {field}"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0203": Code(
        Phrase(ko="{field} 값이 {kind}, YAML은 {read}", en="{field} is {kind}, so YAML would read {read}"),
        Phrase(ko="따옴표로 감싼 글이어야 한다", en="must be a quoted string"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0204": Code(
        Phrase(ko="{owner}에 없는 필드이다: {field}", en="{owner} has no field called {field}"),
        Phrase(ko="모르는 필드", en="unknown field"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0205": Code(
        Phrase(
            ko="{field}: 필요한 것은 {expected}, 적힌 것은 {value}",
            en="{field} must be {expected}, not {value}",
        ),
        Phrase(ko="{expected} 자리", en="{expected} belongs here"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0206": Code(
        Phrase(ko="{field}에 쓸 수 없는 값이다: {value}", en="{value} is no {field} that we know"),
        Phrase(ko="모르는 값", en="unknown value"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0207": Code(
        Phrase(
            ko="{field}: 소문자 낱말을 붙임표로 이은 꼴이 아니다 ({value})",
            en="{field} must be lower-case words joined by hyphens, not {value}",
        ),
        Phrase(ko="a-z, 0-9와 붙임표만", en="only a-z, 0-9 and hyphens"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0208": Code(
        Phrase(ko="{value}: arXiv 식별자가 아니다", en="{value} is not an arXiv identifier"),
        Phrase(ko="연월, 점, 번호. 판 번호는 뺀다", en="year and month, dot, number; no version"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0209": Code(
        Phrase(ko="{field}: 웹 주소가 아니다 ({value})", en="{field} must be a web address, not {value}"),
        Phrase(ko="http:// 또는 https:// 주소", en="an address with http:// or https://"),
        Phrase(
            ko="브라우저 주소창의 주소를 그대로 쓴다: https://…",
            en="copy the address from the browser: https://…",
        ),
    ),
    "E0210": Code(
        Phrase(ko="{value}: 달력에 있는 날짜가 아니다", en="{value} is not a date of the calendar"),
        Phrase(ko="연-월-일", en="year-month-day"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0211": Code(
        Phrase(ko="{field} 값이 비어 있다", en="{field} is empty"),
        Phrase(ko="값을 쓴다", en="write a value"),
        Phrase(ko="없어도 되는 필드라면 줄을 지운다", en="or, where the field may be missing, delete it"),
    ),
    "E0212": Code(
        Phrase(ko="{field}: 아직 쓰지 않은 자리이다", en="{field} is still a placeholder"),
        Phrase(ko="내용을 쓴다", en="write the text"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0213": Code(
        Phrase(ko="{field}: 한글이 한 글자도 없다", en="{field} holds no Hangul"),
        Phrase(ko="한국어로 쓴다", en="write Korean"),
        Phrase(ko="`ko`에는 한국어, `en`에는 영어를 쓴다", en="Korean belongs in `ko`, English in `en`"),
    ),
    "E0214": Code(
        Phrase(ko="{field}: 영어 자리에 한글이 더 많다", en="{field} holds more Hangul than English"),
        Phrase(ko="영어로 쓴다", en="write English"),
        Phrase(ko="`ko`에는 한국어, `en`에는 영어를 쓴다", en="Korean belongs in `ko`, English in `en`"),
    ),
    "E0215": Code(
        Phrase(
            ko="{owner}에 {field} 필드가 없다. kind가 `{kind}`이면 필요하다",
            en="{owner} has no {field}, which a `{kind}` must have",
        ),
        Phrase(ko="{field} 필드가 필요하다", en="needs {field}"),
        Phrase(ko="{fix}", en="{fix}"),
    ),
    "E0216": Code(
        Phrase(ko="{field}: {value} 값은 범위를 벗어난다", en="{field} is out of range: {value}"),
        Phrase(ko="{expected} 자리", en="{expected} belongs here"),
        Phrase(ko="출처에 적힌 값을 그대로 쓴다", en="copy the number from its source"),
    ),
    "E0217": Code(
        Phrase(
            ko="{field}: 줄바꿈이나 불필요한 빈칸이 있다", en="{field} has line breaks or superfluous spaces"
        ),
        Phrase(ko="한 줄, 낱말 사이 빈칸 하나", en="one line, single spaces"),
        Phrase(
            ko="`|`나 `>` 없이 쓴다. 긴 글은 다음 줄에 들여 써서 이어도 된다",
            en="write it without `|` or `>`; a long text may go on, indented, on the next line",
        ),
    ),
    "E0218": Code(
        Phrase(ko="{field}: {value} 값이 되풀이된다", en="{field} repeats {value}"),
        Phrase(ko="두 번째", en="a second time"),
        Phrase(ko="하나를 지운다", en="delete one of the two"),
    ),
    "E0219": Code(
        Phrase(
            ko="{field}: 정해진 표기가 아니다: {value}",
            en="{field} is not in its canonical spelling: {value}",
        ),
        Phrase(ko="이름, 해, 그리고 괄호", en="a name, a year, perhaps brackets"),
        Phrase(
            ko='"NeurIPS 2021", "ICLR 2021 (Oral)", "NeurIPS 2022 Workshop"처럼 쓴다. arXiv뿐이면 venue를 쓰지 않는다',
            en='as "NeurIPS 2021", "ICLR 2021 (Oral)" or "NeurIPS 2022 Workshop"; no venue where there is only arXiv',
        ),
    ),
    "E0220": Code(
        Phrase(ko="{value}: 아직 오지 않은 날이다", en="{value} lies in the future"),
        Phrase(ko="오늘은 {today}", en="today is {today}"),
        Phrase(ko="첫 공개판의 날짜를 쓴다", en="write the day of the first public version"),
    ),
    "E0301": Code(
        Phrase(ko="id {value} 항목이 이미 있다", en="there already is a paper with the id {value}"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(
            ko="같은 논문이면 하나로 합치고, 다른 논문이면 id를 바꾼다",
            en="merge the two if they are one paper, otherwise choose another id",
        ),
    ),
    "E0302": Code(
        Phrase(ko="범주 {value} 항목이 이미 있다", en="there already is a category {value}"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(ko="하나를 지운다", en="delete one of the two"),
    ),
    "E0303": Code(
        Phrase(ko="없는 범주이다: {value}", en="there is no category {value}"),
        Phrase(ko="모르는 범주", en="unknown category"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0304": Code(
        Phrase(ko="{field}: 카탈로그에 없는 논문이다 ({value})", en="{field}: there is no paper {value}"),
        Phrase(ko="모르는 id", en="unknown id"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0305": Code(
        Phrase(ko="{field}: {value} 항목이 자기 자신을 가리킨다", en="{field}: {value} names itself"),
        Phrase(ko="자기 자신", en="the entry itself"),
        Phrase(ko="이 id를 지운다", en="delete this id"),
    ),
    "E0306": Code(
        Phrase(
            ko="차례가 어긋났다: {before} 다음에 {value}", en="out of order: {value} stands after {before}"
        ),
        Phrase(ko="id 차례로 놓는다", en="entries are sorted by id"),
        Phrase(ko="{place}", en="{place}"),
    ),
    "E0307": Code(
        Phrase(ko="arXiv {value}: 이미 {other} 항목에 있다", en="arXiv {value} already belongs to {other}"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(
            ko="같은 논문이면 하나로 합치고, 아니면 식별자를 바로잡는다",
            en="merge the two if they are one paper, otherwise correct the identifier",
        ),
    ),
    "E0308": Code(
        Phrase(ko="{field}: 제자리로 돌아온다: {cycle}", en="{field} goes in a circle: {cycle}"),
        Phrase(ko="돌아오는 고리", en="closes the circle"),
        Phrase(ko="나중 논문이 먼저 논문 위에 선다", en="the later paper builds on the earlier one"),
    ),
    "E0309": Code(
        Phrase(ko="없는 태그이다: {value}", en="there is no tag {value}"),
        Phrase(ko="모르는 태그", en="unknown tag"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0310": Code(
        Phrase(ko="태그 {value} 항목이 이미 있다", en="there already is a tag {value}"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(ko="하나를 지운다", en="delete one of the two"),
    ),
    "E0311": Code(
        Phrase(
            ko="{value}: arXiv {arxiv} 식별자의 달({month})과 맞지 않는다",
            en="{value} does not fit arXiv {arxiv}, which is of {month}",
        ),
        Phrase(ko="첫 공개판의 날짜", en="the day of the first public version"),
        Phrase(
            ko="arXiv 초록 쪽의 v1 날짜를 쓴다. 다른 곳에 먼저 나왔으면 그 주소를 links에 쓴다",
            en="copy the date of v1 from the abstract's page; if it came out elsewhere before, add that address to links",
        ),
    ),
    "E0312": Code(
        Phrase(ko="제목이 {other} 항목과 같다", en="the title is that of {other}"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(
            ko="같은 것이면 하나로 합치고, 아니면 제목을 바로잡는다",
            en="merge the two if they are one work, otherwise correct the title",
        ),
    ),
    "E0313": Code(
        Phrase(ko="BibTeX 키 {key}: {other} 항목과 같다", en="its BibTeX key {key} is also that of {other}"),
        Phrase(ko="처음은 {first}번째 줄", en="first on line {first}"),
        Phrase(ko="붙임표를 빼도 다른 id를 고른다", en="choose an id that differs in more than its hyphens"),
    ),
    "E0314": Code(
        Phrase(
            ko="{value} 항목에 {field} 필드가 없다. 러너가 있으면 필요하다: {file}",
            en="{value} has a runner, {file}, and no {field}",
        ),
        Phrase(ko="{field} 필드가 필요하다", en="needs {field}"),
        Phrase(
            ko="러너가 다시 재는 주장(claim)과 그 방법(test)을 두 언어로 쓴다",
            en="write in both languages what the runner re-measures (claim), and how (test)",
        ),
    ),
    "E0315": Code(
        Phrase(ko="{file}: 어느 항목의 러너도 아니다", en="{file} is the runner of no entry"),
        Phrase(ko="여기에 없는 논문", en="not among these"),
        Phrase(ko="{hint}", en="{hint}"),
    ),
    "E0316": Code(
        Phrase(
            ko="arXiv {value}: 러너에 적힌 식별자와 다르다 ({file}: {cited})",
            en="arXiv {value}, but the runner {file} cites {cited}",
        ),
        Phrase(ko="러너와 다른 식별자", en="not the runner's"),
        Phrase(
            ko="둘 중 틀린 쪽을 고친다: 항목의 links.arxiv 또는 러너 첫머리의 설명",
            en="correct the one that is wrong: links.arxiv here, or the docstring at the runner's top",
        ),
    ),
}

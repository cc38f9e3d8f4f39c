"""What fences call languages, and the marks by which code is known to be of one."""

from __future__ import annotations

ALIASES = {
    "py": "python",
    "python3": "python",
    "py3": "python",
    "pycon": "python",
    "js": "javascript",
    "jsx": "javascript",
    "node": "javascript",
    "ts": "typescript",
    "tsx": "typescript",
    "c++": "cpp",
    "cc": "cpp",
    "cxx": "cpp",
    "c#": "csharp",
    "cs": "csharp",
    "golang": "go",
    "rs": "rust",
    "rb": "ruby",
    "sh": "bash",
    "shell": "bash",
    "zsh": "bash",
    "console": "bash",
    "kt": "kotlin",
    "pl": "perl",
    "hs": "haskell",
    "ps1": "powershell",
    "objective-c": "objc",
    "objectivec": "objc",
    "mysql": "sql",
    "postgresql": "sql",
    "sqlite": "sql",
    "yml": "yaml",
    "htm": "html",
    "docker": "dockerfile",
    "tex": "latex",
    "vb.net": "vb",
    "f#": "fsharp",
}
#: Fences of these hold no program.
NOT_CODE = frozenset(
    {"text", "txt", "plaintext", "plain", "output", "log", "markdown", "md", "csv", "none", "diff"}
)

_HEAD = (
    r"^[ \t]*(?:public |private |static )*"
    r"(?:void|int|float|double|bool|boolean|char|long)(?:\[\])* \w+\("
)

#: Each language's marks; how many different ones a text bears is the evidence for it.
MARKS: dict[str, tuple[str, ...]] = {
    "python": (
        r"^[ \t]*(?:async )?def \w+\(.*\).*:",
        r"^[ \t]*(?:import \w[\w.]*(?: as \w+)?|from [\w.]+ import .+)\s*$",
        r"^[ \t]*(?:if|elif|for|while|with|try|else|except|class)\b[^{};]*:\s*(?:#.*)?$",
        r"\bprint\(",
        r"\bself\.|__\w+__|\blen\(|\brange\(|\blambda \w+:",
    ),
    "javascript": (
        r"\b(?:const|let|var) \w+ = ",
        r"\bfunction\s*\w*\s*\([^:)]*\)\s*\{",
        r"=> ?[{(\w]",
        r"\bconsole\.log\(|\bdocument\.|\bmodule\.exports|\bwindow\.",
        r"\brequire\(['\"]|^import .+ from ['\"]|===",
    ),
    "typescript": (
        r"[\w)] ?: (?:string|number|boolean|any|void|unknown|Promise<)\b",
        r"^[ \t]*(?:export )?(?:interface|type|enum) \w+(?: =)?",
        r"\b(?:const|let) \w+: \w+",
        r"\b(?:private|public|readonly) \w+: ",
    ),
    "java": (
        r"\bpublic (?:static |final |abstract )*(?:class|interface|enum|void|int|String|boolean)\b",
        r"\bSystem\.out\.|\bString\[\]|\bpublic static void main",
        r"^import java|\bnew ArrayList|\bScanner\b|@Override",
        r"\b(?:private|protected) (?:final )?\w+(?:<.+>)? \w+;|\bnew \w+\[|\bString \w+\b",
        _HEAD,
    ),
    "c": (
        r"#include ?<\w+\.h>",
        r"\b(?:printf|scanf|malloc|sizeof|strlen)\(",
        r"\bint main\((?:void|int argc.*)?\)",
        r"\b(?:char|int|void|struct \w+) ?\*\w+",
        _HEAD,
    ),
    "cpp": (
        r"#include ?<\w+>",
        r"\bstd::|\busing namespace std|\btemplate ?<",
        r"\b(?:cout|cerr) ?<<|\bcin ?>>",
        r"\bvector<|\bstring \w+\(|&\w+\)|\bpublic:\s*$|\bbool\b",
        _HEAD,
    ),
    "csharp": (
        r"^[ \t]*using [A-Z][\w.]*;",
        r"\bConsole\.(?:Write|Read)",
        r"^[ \t]*namespace \w+|\bstatic void Main\(|\{ get; (?:private )?set; \}",
        r"\bpublic (?:static |async |override |virtual )*(?:string|bool|Task)\b",
        r"^[ \t]*public (?:\w+ )*\w+ [A-Z]\w+\(",
    ),
    "go": (
        r"^package \w+",
        r"^func (?:\(\w+ \*?\w+\) )?\w*\(",
        r"\bfmt\.\w+\(",
        r"\w :?= (?:range |make\(|\[\])|\w := ",
    ),
    "rust": (
        r"\bfn \w+(?:<.+>)?\(.*\)(?: -> .+)? \{",
        r"\blet mut |\bimpl\b|\bpub (?:fn|struct)\b|^use \w+::",
        r"\bprintln!\(|\bvec!\[|\.unwrap\(\)|&str\b|&mut ",
    ),
    "php": (r"<\?php", r"\$\w+ ?(?:=|->)", r"\becho [\"'$]", r"\bfunction \w+\(\$?"),
    "ruby": (
        r"^[ \t]*def [\w.?!]+(?:\([^)]*\))?\s*$",
        r"^[ \t]*end\s*$",
        r"\bputs\b|\.each do|\bdo \|\w+",
        r"^require ['\"]|\battr_accessor\b|\.nil\?|@\w+ = ",
    ),
    "bash": (
        r"^#!/.*sh\b",
        r"^[ \t]*(?:fi|done|esac)\b",
        r"\$\(|\$\{?[A-Za-z_]\w*|\bthen\s*$",
        r"^[ \t]*(?:sudo|apt|cd|ls|grep|find|awk|sed|tar|curl|chmod|mkdir|git|docker|pip|df|ps) ",
        r"\| ?(?:grep|awk|sort|head|tail|wc|xargs|sed|cut)\b",
    ),
    "sql": (
        r"(?i)\bSELECT\b[\s\S]+?\bFROM\b",
        r"(?i)\b(?:INSERT INTO|DELETE FROM|CREATE (?:TABLE|INDEX|VIEW)|(?:ALTER|DROP) TABLE)\b",
        r"(?i)\bUPDATE\b \w+ \bSET\b",
        r"(?i)\b(?:GROUP BY|ORDER BY|INNER JOIN|LEFT JOIN|WHERE \w+)\b",
    ),
    "html": (
        r"(?i)<!DOCTYPE html|<html\b",
        r"(?i)</(?:div|p|a|body|head|form|table|ul|ol|button|script|span|h[1-6]|nav|section)>",
        r"(?i)<(?:input|img|br|link|meta|div|form|table|a|p|button)\b[^>]*>",
    ),
    "css": (
        r"^[ \t]*[.#]?[\w-][\w\s.#:>,-]*\{[^{}]*[\w-]+ ?: ?[^;{}]+;",
        r"^[ \t]*(?:color|background(?:-color)?|margin|padding|font-\w+|display|border): ?[^;]+;",
    ),
    "kotlin": (
        r"\bfun \w+\(",
        r"\bval \w+(?:: \w+)? = |\bprintln\(",
        r"\bdata class\b|\?\.|\bwhen ?\(",
    ),
    "swift": (
        r"\bfunc \w+\(.*\)(?: -> \w+)? \{",
        r"\b(?:let|var) \w+(?:: \[?\w+\]?)? = ",
        r"\bguard let\b|\bimport (?:UIKit|Foundation)\b|\bprint\(",
    ),
    "r": (r"\w+ ?<- ?", r"\blibrary\(\w+\)|\bdata\.frame\(|\bc\(\d", r"<- ?function\("),
    "perl": (r"\bmy [$@%]\w+", r"^use (?:strict|warnings)", r"=~ |\bsub \w+ \{"),
    "scala": (
        r"\bdef \w+(?:\[\w+\])?\(.*\)(?:: \w+(?:\[.+\])?)? = ",
        r"\bobject \w+|\bcase class\b",
        r"\bval \w+ = ",
    ),
    "lua": (
        r"\blocal (?:function )?\w+",
        r"\bfunction [\w.:]*\([^)]*\)\s*$",
        r"^[ \t]*end\s*$",
        r"\bthen\s*$",
    ),
    "haskell": (r"^\w+ ::", r"^\w+(?: \w+)+ = ", r"^import (?:qualified )?[A-Z]|^module "),
    "json": (r"\A\s*[\[{]\s*[\"{\[]", r"\"[\w-]+\": ?(?:[\"\d\[{]|true|false|null)"),
}

"""One small file a language, written for these tests, and a middle that each level must find."""

from __future__ import annotations

from typing import NamedTuple


class Snippet(NamedTuple):
    text: str
    expression: str
    statement: str
    block: str | None
    function: str
    klass: str | None


SNIPPETS = {
    "python": Snippet(
        "class Box:\n    size = 3\n\n    def grow(self, by):\n        if by > 0:\n"
        "            self.size += by\n        return self.size * 2\n",
        "self.size * 2",
        "return self.size * 2",
        "self.size += by",
        "if by > 0:\n            self.size += by\n        return self.size * 2",
        "size = 3\n\n    def grow(self, by):\n        if by > 0:\n"
        "            self.size += by\n        return self.size * 2",
    ),
    "javascript": Snippet(
        "class Box {\n  grow(by) {\n    if (by > 0) { this.size += by; }\n"
        "    return this.size * 2;\n  }\n}\n",
        "this.size * 2",
        "return this.size * 2;",
        "{ this.size += by; }",
        "{\n    if (by > 0) { this.size += by; }\n    return this.size * 2;\n  }",
        "{\n  grow(by) {\n    if (by > 0) { this.size += by; }\n    return this.size * 2;\n  }\n}",
    ),
    "typescript": Snippet(
        "interface Named { name: string }\nfunction twice(x: number): number {\n"
        "  while (x < 3) { x += 1; }\n  return x * 2;\n}\n",
        "x * 2",
        "return x * 2;",
        "{ x += 1; }",
        "{\n  while (x < 3) { x += 1; }\n  return x * 2;\n}",
        "{ name: string }",
    ),
    "tsx": Snippet(
        "class View { x = 1 }\n"
        "const twice = (x: number) => { if (x) { x++; } return <b>{x * 2}</b>; };\n",
        "x * 2",
        "return <b>{x * 2}</b>;",
        "{ x++; }",
        "{ if (x) { x++; } return <b>{x * 2}</b>; }",
        "{ x = 1 }",
    ),
    "java": Snippet(
        "class Box {\n  int twice(int x) {\n    try { x = next(x); } finally { done(); }\n"
        "    return x * 2;\n  }\n}\n",
        "x * 2",
        "return x * 2;",
        "{ x = next(x); }",
        "{\n    try { x = next(x); } finally { done(); }\n    return x * 2;\n  }",
        "{\n  int twice(int x) {\n    try { x = next(x); } finally { done(); }\n"
        "    return x * 2;\n  }\n}",
    ),
    "c": Snippet(
        "struct box { int size; };\nint twice(int x) {\n  for (;;) { x += 1; break; }\n"
        "  return x * 2;\n}\n",
        "x * 2",
        "return x * 2;",
        "{ x += 1; break; }",
        "{\n  for (;;) { x += 1; break; }\n  return x * 2;\n}",
        "{ int size; }",
    ),
    "cpp": Snippet(
        "class Box { int size = 1; };\n"
        "int twice(int x) {\n  if (x) { x += 1; }\n  return x * 2;\n}\n",
        "x * 2",
        "return x * 2;",
        "{ x += 1; }",
        "{\n  if (x) { x += 1; }\n  return x * 2;\n}",
        "{ int size = 1; }",
    ),
    "go": Snippet(
        "package p\n\ntype Box struct { size int }\n\nfunc twice(x int) int {\n"
        "\tif x > 0 { x++ }\n\treturn x * 2\n}\n",
        "x * 2",
        "return x * 2",
        "{ x++ }",
        "{\n\tif x > 0 { x++ }\n\treturn x * 2\n}",
        "{ size int }",
    ),
    "rust": Snippet(
        "struct Bx { size: i32 }\nfn twice(mut x: i32) -> i32 {\n    while x < 3 { x += 1; }\n"
        "    let y = x * 2;\n    y\n}\n",
        "x * 2",
        "let y = x * 2;",
        "{ x += 1; }",
        "{\n    while x < 3 { x += 1; }\n    let y = x * 2;\n    y\n}",
        "{ size: i32 }",
    ),
    "ruby": Snippet(
        "class Box\n  def twice(x)\n    x += 1 unless x > 3\n    while x < 9 do\n      x += 2\n"
        "    end\n    x * 2\n  end\nend\n",
        "x * 2",
        "x += 1 unless x > 3",
        "do\n      x += 2\n    end",
        "x += 1 unless x > 3\n    while x < 9 do\n      x += 2\n    end\n    x * 2",
        "def twice(x)\n    x += 1 unless x > 3\n    while x < 9 do\n      x += 2\n"
        "    end\n    x * 2\n  end",
    ),
    "php": Snippet(
        "<?php\nclass Box { public $size = 1; }\nfunction twice($x) {\n  if ($x) { $x += 1; }\n"
        "  return $x * 2;\n}\n",
        "$x * 2",
        "return $x * 2;",
        "{ $x += 1; }",
        "{\n  if ($x) { $x += 1; }\n  return $x * 2;\n}",
        "{ public $size = 1; }",
    ),
    "c_sharp": Snippet(
        "class Box {\n  int Twice(int x) {\n    if (x > 0) { x += 1; }\n"
        "    return x * 2;\n  }\n}\n",
        "x * 2",
        "return x * 2;",
        "{ x += 1; }",
        "{\n    if (x > 0) { x += 1; }\n    return x * 2;\n  }",
        "{\n  int Twice(int x) {\n    if (x > 0) { x += 1; }\n    return x * 2;\n  }\n}",
    ),
    "bash": Snippet(
        'twice() {\n  for x in 1 2; do\n    echo "$x"\n  done\n  y=$(wc -l < "$1")\n}\n',
        '$(wc -l < "$1")',
        'echo "$x"',
        'do\n    echo "$x"\n  done',
        '{\n  for x in 1 2; do\n    echo "$x"\n  done\n  y=$(wc -l < "$1")\n}',
        None,
    ),
    "lua": Snippet(
        "local function twice(x)\n  if x > 0 then\n    x = x + 1\n  end\n  return x * 2\nend\n",
        "x * 2",
        "return x * 2",
        "x = x + 1",
        "if x > 0 then\n    x = x + 1\n  end\n  return x * 2",
        None,
    ),
    "kotlin": Snippet(
        "class Box {\n  fun twice(x: Int): Int {\n    if (x > 0) { step(x) }\n    val y = x * 2\n"
        "    return y\n  }\n}\n",
        "x * 2",
        "val y = x * 2",
        "{ step(x) }",
        "{\n    if (x > 0) { step(x) }\n    val y = x * 2\n    return y\n  }",
        "{\n  fun twice(x: Int): Int {\n    if (x > 0) { step(x) }\n    val y = x * 2\n"
        "    return y\n  }\n}",
    ),
    "scala": Snippet(
        "class Box {\n  def twice(x: Int): Int = {\n    if (x > 0) { step(x) }\n    val y = x * 2\n"
        "    y\n  }\n}\n",
        "x * 2",
        "val y = x * 2",
        "{ step(x) }",
        "{\n    if (x > 0) { step(x) }\n    val y = x * 2\n    y\n  }",
        "{\n  def twice(x: Int): Int = {\n    if (x > 0) { step(x) }\n    val y = x * 2\n"
        "    y\n  }\n}",
    ),
}

"""Small graphs with Ifs and Scans, by what they are of; their float inputs are trained, c and d decide on branches."""

from __future__ import annotations

BRANCHES = """(float[N, 3] x, float[3, 4] w, float[4] b, bool c, bool d) => (float[N, 4] y) {
    h = Sin (x)
    y = If (c) < then_branch = yes () => (float[N, 4] p) { THEN }, else_branch = no () => (float[N, 4] r) { ELSE } >
}"""
PLAIN = "u = Sigmoid (h) v = MatMul (u, w) r = Add (v, b)"
NESTED = """m = MatMul (h, w)
    k = If (d) <
        then_branch = a () => (float[N, 4] k1) { e = Exp (m) k1 = Mul (e, b) },
        else_branch = o () => (float[N, 4] k2) { k2 = Sin (m) }
    >
    n = Mul (k, m) p = Sin (n)"""
RANKS = """(float[N, 3] x, float[3] w, bool c) => (float[A] y) <int64[1] all = {-1}> {
    h = If (c) <
        then_branch = yes () => (float[N, 3, 1] p) { q = Mul (x, w) e = Sin (q) t = Transpose (e) u = Transpose (t)
            a = Constant <value_ints = [2]> () p = Unsqueeze (u, a) },
        else_branch = no () => (float[N, 3] r) { s = Add (x, w) r = Exp (s) }
    >
    f = Reshape (h, all) y = Mul (f, f)
}"""
SCAN = """(float[T, N, 3] x, float[N, 4] s, float[3, 4] w, float[4, 4] u, float[4] b, bool c)
    => (float[N, 4] f, float[] y) {
    f, y = Scan <num_scan_inputs = 1FLAGS, body = step (A) => (B) { BODY }> (INPUTS)
}"""


def scan(
    body: str,
    flags: str = "",
    arguments: str = "float[N, 4] a, float[N, 3] t",
    results: str = "float[N, 4] o, float[N, 4] z",
    inputs: str = "s, x",
) -> str:
    parts = {"FLAGS": flags, "(A)": f"({arguments})", "(B)": f"({results})", "BODY": body, "INPUTS": inputs}
    text = SCAN
    for old, new in parts.items():
        text = text.replace(old, new)
    return text


RNN = "m = MatMul (t, w) k = MatMul (a, u) n = Add (m, k) l = Add (n, b) o = Tanh (l)"

CONTROL: dict[str, str] = {
    "branches": BRANCHES.replace("THEN", "q = MatMul (h, w) p = Tanh (q)").replace("ELSE", PLAIN),
    "a branch that reads a weight twice": BRANCHES.replace(
        "THEN", "m = MatMul (h, w) q = Mul (m, b) p = Mul (q, b)"
    ).replace("ELSE", PLAIN),
    "a branch of what is around it": BRANCHES.replace("w) {", "w) {")
    .replace("THEN", "o = Constant <value = float[3, 1] {1, 2, 3}> () l = MatMul (h, o) p = Add (l, b)")
    .replace("ELSE", PLAIN),
    "nested branches": BRANCHES.replace("THEN", NESTED).replace("ELSE", PLAIN),
    "branches of different ranks": RANKS,
    "a branch in two outputs": """(float[N, 3] x, float[3] w, bool c) => (float[N, 3] y, float[3] z) {
        y, v = If (c) <
            then_branch = yes () => (float[N, 3] p, float[3] q) { q = Exp (w) p = Mul (x, q) },
            else_branch = no () => (float[N, 3] r, float[3] s) { r = Sin (x) s = Identity (w) }
        >
        z = Mul (v, w)
    }""",
    "one branch that gives a value of both": """(float[3] x, float[3] w, bool c) => (float[3] y) {
        h = Mul (x, w)
        i = If (c) <
            then_branch = yes () => (float[3] p) { p = Identity (h) },
            else_branch = no () => (float[3] r) { k = Constant <value = float[3] {1, 2, 3}> () r = Identity (k) }
        >
        y = Mul (i, h)
    }""",
    "a recurrent layer": scan(f"{RNN} z = Mul (o, a)"),
    "from the last step on": scan(f"{RNN} z = Mul (o, a)", ", scan_input_directions = [1]"),
    "stacked from behind": scan(f"{RNN} z = Mul (o, a)", ", scan_output_directions = [1]"),
    "with axes and directions that say what is so without them": scan(
        f"{RNN} z = Mul (o, a)",
        ", scan_input_axes = [0], scan_output_axes = [0], scan_input_directions = [0], scan_output_directions = [0]",
    ),
    "along other axes": scan(
        f"{RNN} z = Mul (o, a)",
        ", scan_input_axes = [1], scan_output_axes = [-1], scan_input_directions = [1]",
        arguments="float[T, 4] a, float[T, 3] t",
        results="float[T, 4] o, float[T, 4] z",
        inputs="s3, x",
    )
    .replace("float[N, 4] s,", "float[T, 4] s3,")
    .replace("float[N, 4] f", "float[T, 4] f"),
    "a state that nothing reads": scan("m = MatMul (t, w) o = Sin (m) z = Exp (m)"),
    "a state that stays": scan("m = MatMul (t, w) o = Identity (a) z = Mul (m, a)"),
    "a state alone": scan(RNN, results="float[N, 4] o").replace("f, y = Scan", "f = Scan").replace(", float[] y)", ")"),
    "what is stacked alone": """(float[T, 3] x, float[3] w) => (float[T, 3] y) {
        y = Scan <num_scan_inputs = 2, scan_input_directions = [0, 1],
            body = step (float[3] t, float[3] v) => (float[3] z) { m = Mul (t, w) z = Mul (m, v) }> (x, x)
    }""",
    "a branch at each step": scan(
        f"""{RNN} z = If (c) <
            then_branch = yes () => (float[N, 4] p) {{ e = Exp (l) p = Mul (e, b) }},
            else_branch = no () => (float[N, 4] r) {{ g = Sin (o) r = Mul (g, a) }}
        >"""
    ),
    "a scan in a branch": """(float[T, 3] x, float[3] w, float[3] s, bool c) => (float[3] y) {
        y = If (c) <
            then_branch = yes () => (float[3] p) {
                e = Exp (s)
                p, q = Scan <num_scan_inputs = 1, body = step (float[3] a, float[3] t) => (float[3] o, float[3] z) {
                    m = Mul (t, w) n = Add (m, a) o = Sin (n) z = Identity (o)
                }> (e, x)
            },
            else_branch = no () => (float[3] r) { r = Mul (s, w) }
        >
    }""",
    "a scan at each step": """(float[T, 3] x, float[K, 3] v, float[3] w, float[3] s) => (float[T, K, 3] y) {
        f, y = Scan <num_scan_inputs = 1, body = outer (float[3] a, float[3] t) => (float[3] o, float[K, 3] z) {
            e = Mul (t, w)
            o, z = Scan <num_scan_inputs = 1, body = inner (float[3] k, float[3] l) => (float[3] i, float[3] j) {
                m = Mul (l, e) n = Add (m, k) i = Sin (n) j = Exp (n)
            }> (a, v)
        }> (s, x)
    }""",
}

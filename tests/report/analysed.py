"""Makes an analysis.json as a build writes it, from seeded made-up numbers that add up."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fusechat.report.collect import Findings

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
WORDS = [
    ("no response", "response", "the source gave no response"),
    ("truncated", "response", "every response was cut or empty"),
    ("identical", "response", "best and worst response are the same text"),
    ("unscorable", "judge", "no response could be judged"),
    ("all wrong", "verdict", "no response is right"),
    ("all right", "verdict", "no response is wrong"),
    ("margin under", "margin", "the scores are too near to each other"),
    ("margin over", "margin", "the scores are too far apart"),
    ("not drawn", "rule", "the split did not use it"),
]
REWARD = ("truncated", "identical", "margin under", "margin over")
VERDICT = ("truncated", "unscorable", "all wrong", "all right")
STYLES = ("code fence", "list", "heading", "bold")


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Nearest-rank quantiles under the names that analysis.json uses."""
    ranked = sorted(values)
    return {f"{q:g}": round(ranked[round(q * (len(ranked) - 1))], 5) for q in LEVELS}


class Maker:
    """Draws the numbers of each domain."""

    def __init__(self, sources: Sequence[str], seed: int = 3) -> None:
        self.sources, self.random = list(sources), random.Random(seed)

    def analysis(self, domains: Mapping[str, int]) -> dict[str, Any]:
        """The whole file: `domains` maps each domain to its prompts; zh has no pairs."""
        words = [{"word": w, "kind": k, "means": m} for w, k, m in WORDS]
        return {
            "format": 1, "sources": self.sources, "words": words,
            "domains": {name: self.domain(name, n) for name, n in domains.items()},
        }  # fmt: skip

    def domain(self, name: str, prompts: int) -> dict[str, Any]:
        """One domain: chat by reward, math and code by a verdict and reward, zh without scores."""
        verdict = {"math": "math", "code": "code"}.get(name)
        pairs = name != "zh"
        rule = {"use": "best_of", "by": "reward" if pairs else None, "correct_by": verdict}
        strategies = {"sft": rule} | ({"dpo": rule} if pairs else {})
        out = {
            "rule": "pair_else_sft" if pairs else "sft_only",
            "sources": self.sources,
            "strategies": strategies,
            "funnel": self.funnel(name, prompts, list(strategies), bool(verdict)),
            "attribution": self.attribution(name, prompts, list(strategies), verdict),
            "judges": [self.judge(verdict)] if verdict else [],
            "lengths": [{"score": "reward", **self.each(self.length)}] if pairs else [],
            "ablation": self.ablation(prompts, verdict),
        }  # fmt: skip
        return out | ({"windows": self.windows(prompts), "parity": self.parity()} if pairs else {})

    def each(self, make: Any) -> dict[str, Any]:
        """`all` and `sources`, drawn by `make`."""
        return {"all": make(), "sources": {source: make() for source in self.sources}}

    def cut(self, total: int, parts: Sequence[str], gives: float) -> dict[str, Any]:
        """A G: how many give one, and the words of all others."""
        given = round(total * gives)
        words = Counter(self.random.choice(parts) for _ in range(total - given))
        return {"gives": given, "words": dict(words.most_common())}

    def funnel(self, name: str, prompts: int, tables: list[str], verdict: bool) -> dict[str, Any]:
        half = prompts // 2
        origins = {f"{name}_a": half, f"{name}_b": prompts - half}
        found = {o: self.counts(n, tables, verdict) for o, n in origins.items()}
        return {**self.counts(prompts, tables, verdict), "origins": found}

    def counts(self, prompts: int, tables: list[str], verdict: bool) -> dict[str, Any]:
        words = VERDICT if verdict else REWARD
        dropped = prompts // 5
        dpo = (prompts - dropped) // 2 if "dpo" in tables else 0
        lost = Counter(self.random.choice([*words, "not drawn"]) for _ in range(dropped))
        shares = {"sft": 0.9, "dpo": 0.6}
        return {
            "prompts": prompts, "sft_prompts": prompts - dropped - dpo, "dpo_prompts": dpo,
            "in_both": 0, "dropped": dropped, "dropped_words": dict(lost.most_common()),
            "dropped_with_response": dropped // 2, "dropped_with_pair": dropped // 4,
            "tables": {t: self.cut(prompts, words, shares[t]) for t in tables},
            "sources": {
                t: {
                    s: self.cut(prompts, words, shares[t] * (0.3 + 0.7 * self.random.random()))
                    for s in self.sources
                }
                for t in tables
            },
        }  # fmt: skip

    def windows(self, prompts: int) -> dict[str, Any]:
        low, high = 0.01, 0.1
        gaps = {s: [self.random.gauss(0.06, 0.05) for _ in range(prompts)] for s in self.sources}
        edges = [round(-0.1 + 0.3 * i / 24, 4) for i in range(25)]
        best = [max(found) for found in zip(*gaps.values(), strict=True)]

        def kept(least: float | None, most: float | None) -> int:
            return sum(
                any((least is None or g[i] >= least) and (most is None or g[i] <= most)
                    for g in gaps.values())
                for i in range(prompts)
            )  # fmt: skip

        at = [round(0.005 * i, 4) for i in range(41)]
        return {
            "by": "reward", "min_margin": low, "max_margin": high, "prompts": prompts,
            "kept": kept(low, high), "without_min": kept(None, high),
            "without_max": kept(low, None), "without_window": kept(None, None),
            "quantiles": quantiles(best),
            "max_curve": {"at": at, "prompts": [kept(low, x) for x in at]},
            "min_curve": {"at": at, "prompts": [kept(x, high) for x in at]},
            "grid": {
                "min": at[:20:4], "max": at[10::5],
                "prompts": [[kept(a, b) for b in at[10::5]] for a in at[:20:4]],
            },
            "edges": edges, "note": "",
            "sources": {s: self.gaps(found, edges, low, high) for s, found in gaps.items()},
        }  # fmt: skip

    def gaps(
        self, found: Sequence[float], edges: list[float], low: float, high: float
    ) -> dict[str, Any]:
        counts = [0] * (len(edges) - 1)
        for gap in found:
            place = sum(gap >= edge for edge in edges[1:-1])
            counts[place] += 1
        return {
            "n": len(found), "under": sum(g < low for g in found),
            "inside": sum(low <= g <= high for g in found), "over": sum(g > high for g in found),
            "not_positive": sum(g <= 0 for g in found), "quantiles": quantiles(found),
            "counts": counts,
        }  # fmt: skip

    def attribution(
        self, name: str, prompts: int, tables: list[str], verdict: str | None
    ) -> dict[str, Any]:
        def picks(total: int) -> dict[str, int]:
            return dict(Counter(self.random.choice(self.sources) for _ in range(total)))

        duels = []
        for i, a in enumerate(self.sources):
            for b in self.sources[i + 1 :]:
                wins, ties = self.random.randrange(prompts // 2), self.random.randrange(3)
                duels.append({"a": a, "b": b, "n": prompts, "a_wins": wins, "ties": ties,
                              "b_wins": prompts - wins - ties})  # fmt: skip
        scored = "dpo" in tables
        return {
            "picks": {t: picks(prompts // 2) for t in tables},
            "rows": {t: picks(prompts // 3) for t in tables},
            "origins": {f"{name}_a": {t: picks(prompts // 4) for t in tables}},
            "only": {t: picks(prompts // 9) for t in tables},
            "duels": {"measure": "best score" if scored else "", "pairs": duels if scored else []},
            "sources": {s: self.source(prompts, verdict, scored) for s in self.sources},
        }

    def source(self, prompts: int, verdict: str | None, scored: bool) -> dict[str, Any]:
        best = [self.random.gauss(0.13, 0.02) for _ in range(prompts)] if scored else []
        n = prompts * 4
        right = self.random.randrange(n)
        return {
            "responses": n, "whole": n - 9, "cut": 5, "empty": 1, "failed": 3,
            "best": quantiles(best) if best else {},
            "mean_best": sum(best) / len(best) if best else None,
            "right": {verdict: {"judged": n, "right": right}} if verdict else {},
        }  # fmt: skip

    def same_prompt(self) -> dict[str, Any]:
        pairs, higher = 240, self.random.randrange(60, 230)
        return {"pairs": pairs, "higher": higher, "ties": 4, "share": (higher + 2) / pairs}

    def judge(self, verdict: str) -> dict[str, Any]:
        return {"score": "reward", "verdict": verdict, **self.each(self.knows)}

    def knows(self) -> dict[str, Any]:
        right = [self.random.gauss(0.13, 0.02) for _ in range(90)]
        wrong = [self.random.gauss(0.11, 0.02) for _ in range(70)]
        sides = {
            name: {"n": len(v), "mean": sum(v) / len(v), "quantiles": quantiles(v)}
            for name, v in (("right", right), ("wrong", wrong))
        }
        auc = sum((r > w) for r in right for w in wrong) / (len(right) * len(wrong))
        return {**sides, "auc": auc, "sampled": False, "same_prompt": self.same_prompt()}

    def length(self) -> dict[str, Any]:
        rank = self.random.uniform(-0.6, 0.6)
        return {"n": 320, "spearman": rank, "sampled": False, "same_prompt": self.same_prompt()}

    def parity(self) -> dict[str, Any]:
        return self.each(self.lengths)

    def lengths(self) -> dict[str, Any]:
        found = [self.random.gauss(self.random.choice([-3, 8]), 12) for _ in range(50)]
        style = {s: {"chosen": self.random.random(), "rejected": 0.2} for s in STYLES}
        return {
            "pairs": 52, "counted": 50, "longer": sum(f > 0 for f in found) / 50, "equal": 0.02,
            "mean": sum(found) / 50, "mean_chosen": 62.0, "mean_rejected": 55.5,
            "quantiles": quantiles(found), "style": style, "style_pairs": 52,
        }  # fmt: skip

    def ablation(self, prompts: int, verdict: str | None) -> dict[str, Any]:
        def built(loss: float) -> dict[str, Any]:
            dpo, sft = round(prompts * 0.4 * loss), round(prompts * 0.4 * loss)
            right = {verdict: round(prompts * loss)} if verdict else {}
            return {"sft_prompts": sft, "dpo_prompts": dpo, "dropped": prompts - sft - dpo,
                    "mean_best": 0.13 * loss, "right": right}  # fmt: skip

        share = self.random.uniform
        return {
            "all": built(1.0), "note": "",
            "without": {s: built(share(0.8, 1)) for s in self.sources},
            "alone": {s: built(share(0.3, 0.8)) for s in self.sources},
        }  # fmt: skip


def changed(findings: Findings, domain: str, key: str, value: Any) -> Findings:
    """The findings with one entry of one domain in its analysis put in place of the real one."""
    analysis = json.loads(json.dumps(findings.analysis))
    analysis["domains"][domain][key] = value
    return replace(findings, analysis=analysis)

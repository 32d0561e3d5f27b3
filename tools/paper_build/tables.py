"""Tables of the write-up as LaTeX, from docs/paper/data."""

LIKELIHOODS = {"mse": "squared error", "sigma": r"fitted deviation", "bernoulli": "Bernoulli"}
DATA_SETS = {"heads24": "MakeHuman", "family": "built-in"}
LATENTS = ("deterministic", "gaussian", "categorical", "fsq", "mixture", "vamp")
NONE = "--"


def escape(text):
    for a, b in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("&", r"\&"), ("%", r"\%"), ("#", r"\#")):
        text = text.replace(a, b)
    return text


def number(x, digits=3):
    """Large numbers whole with thin spaces, small ones with `digits` places, tiny ones as powers of ten."""
    if x is None or x != x:
        return NONE
    if isinstance(x, int) and abs(x) < 100:
        return str(x).replace("-", "$-$")
    if x == 0:
        return "0" if digits == 0 else f"{0:.{digits}f}"
    if abs(x) >= 100:
        return f"{x:,.0f}".replace(",", r"\," if abs(x) >= 9999.5 else "").replace("-", "$-$")
    if abs(x) >= 10:
        return f"{x:.1f}".replace("-", "$-$")
    if abs(x) < 0.5 * 10**-digits and digits > 0:
        return f"{0:.{digits}f}"
    return f"{x:.{digits}f}".replace("-", "$-$")


def power(x, digits=2):
    """In scientific notation where plain digits would hide it; exact powers of ten without their 1."""
    if x is None:
        return NONE
    if x == 0 or 1e-3 <= abs(x) < 1e5:
        text = f"{x:.{digits}g}"
        return text if "e" not in text else f"{x:.0f}"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    exponent = f"10^{{{int(exponent)}}}"
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"${exponent}$" if mantissa == "1" else rf"${mantissa}\times {exponent}$"


def spread(stat, digits=3):
    """Mean and deviation over the seeds."""
    if not stat.there:
        return NONE
    if stat.count < 2:
        return number(stat.mean, digits)
    if abs(stat.mean) >= 100:
        return rf"{number(stat.mean)}\,{{\tiny$\pm$\,{stat.deviation:,.0f}}}"
    places = 1 if abs(stat.mean) >= 10 else digits
    return rf"{number(stat.mean, digits)}\,{{\tiny$\pm$\,{stat.deviation:.{places}f}}}"


def tabular(columns, head, rows, size=r"\footnotesize", groups=None):
    """Booktabs; `groups` a line above the head, with its rules; a row that is a string goes in as it is."""
    lines = [size, r"\setlength{\tabcolsep}{3.5pt}", rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    if groups:
        lines.append(groups)
    lines += [" & ".join(head) + r" \\", r"\midrule"]
    lines += [row if isinstance(row, str) else " & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def verdicts(grids):
    """Claims by grid: the order of the first grid, then what others have beside it."""
    claims = {}
    for grid in grids:
        for verdict in grid.verdicts:
            claims.setdefault(slug(verdict["claim"]), {})[grid.name] = verdict
    rows = []
    for by_grid in claims.values():
        any_of = next(iter(by_grid.values()))
        row = [rf"{escape(any_of['claim'])}\newline{{\scriptsize\itshape {escape(any_of['measure'])}}}"]
        for grid in grids:
            v = by_grid.get(grid.name)
            row += [v["outcome"], rf"{number(v['effect'])}\,{{\tiny$\pm$\,{v['spread']:.3f}}}"] if v else [NONE, NONE]
        rows += [row, r"\addlinespace[2pt]"]
    widths = (r"p{0.42\textwidth}" if len(grids) > 1 else r"p{0.62\textwidth}") + "lr" * len(grids)
    head = ["claim, \\textit{measure}"] + ["verdict", "effect"] * len(grids)
    return tabular(widths, head, rows, groups=group_line([f"planes of {g.cells[0].s['planes']}" for g in grids], 2, 1))


def group_line(names, width, before):
    cells = [""] * before + [rf"\multicolumn{{{width}}}{{c}}{{{name}}}" for name in names]
    rules = [rf"\cmidrule(lr){{{before + 1 + k * width}-{before + (k + 1) * width}}}" for k in range(len(names))]
    return " & ".join(cells) + r" \\ " + " ".join(rules)


SLUGS = (
    ("fails, whatever", "must-fail"), ("explodes", "explodes"), ("collapses at", "collapses"), ("mean of the data", "mean"),
    ("edge alone", "edge"), ("schedule", "schedule"), ("Continuous planes", "continuous"), ("iscrete latents", "others"),
)


def slug(claim):
    return next((name for part, name in SLUGS if part in claim), claim)


def weight_name(cell):
    s = cell.s
    kind = LIKELIHOODS[s["likelihood"]] + (f", {s['reduction']}" if s["likelihood"] == "mse" else "")
    return kind, power(s["beta"])


def weights(grid):
    """Representation x likelihood x weight: what was predicted and found."""
    found = {}
    for cell in grid.cells:
        if cell.plain:
            s = cell.s
            key = (s["likelihood"], s["reduction"], s["beta"])
            found.setdefault(key, {})[s["representation"]] = cell
    rows, last = [], None
    for by_representation in found.values():
        first = next(iter(by_representation.values()))
        kind, beta = weight_name(first)
        row = [kind if kind != last else "", beta]
        if last is not None and kind != last:
            rows.append(r"\addlinespace[2pt]")
        last = kind
        for representation in ("binary", "continuous"):
            cell = by_representation.get(representation)
            if not cell:
                row += [NONE] * 5
                continue
            row += [
                power(cell.noise),
                number(cell.predicted_explained, 2) if cell.s["likelihood"] == "mse" else NONE,
                spread(cell.end("of_draw"), 2),
                spread(cell.end("of_mean"), 2),
                spread(cell.last("rate"), 1),
            ]
        rows.append(row)
    head = ["likelihood", r"$\beta$"] + ["$s$", "pred.", "draw", "mean", "nats"] * 2
    return tabular("ll" + "rrrrr" * 2, head, rows, size=r"\scriptsize", groups=group_line(["binary planes", "continuous planes"], 5, 2))


def others(grid):
    """Schedules, softened planes, other latents and priors."""
    names = {"schedule": "control", "blurred": "blurred", "latent": "latent"}
    rows, last = [], None
    for cell in grid.cells:
        learned = cell.gaussian and cell.s["prior"] != "standard"
        if cell.role not in names and not learned:
            continue
        group = "prior" if learned else names[cell.role]
        if last not in (None, group):
            rows.append(r"\addlinespace[2pt]")
        rows.append(
            [group if group != last else "", escape(cell.name), spread(cell.end("of_mean"), 2), spread(cell.end("of_draw"), 2),
             spread(cell.end("of_shuffled"), 2), spread(cell.last("rate"), 1), spread(cell.last("active"), 0),
             spread(cell.end("empty"), 2), spread(cell.end("empty_drawn"), 2), spread(cell.end("score"), 2)]
        )
        last = group
    head = ["", "cell", "mean", "draw", "another's", "nats", "active", "empty", "empty draws", "F"]
    return tabular("llrrrrrrrr", head, rows, size=r"\scriptsize", groups=r"& & \multicolumn{3}{c}{variance explained by} & & & & & \\ \cmidrule(lr){3-5}")


def size_rows(spectra):
    rows = [
        [str(row["planes"]), number(row["values"]), power(row["noise"]), power(row["mesh"]["largest"], 3),
         power(row["mesh"]["critical_beta"][0]), power(row["four_sites"]["critical_beta"][0]),
         power(row["four_sites"]["critical_beta"][1]), power(row["patch_32"]["critical_beta"][0]),
         power(row["patch_32"]["critical_beta"][1]), number(row["patch_32"]["explained"], 3)]
        for row in spectra["sizes"]
    ]
    head = ["planes", "$D$", r"$s=\beta D/2$", r"$\lambda_{\max}$", "heads", "strongest", "median", "strongest", "median", "kept"]
    groups = (r"& & & & & \multicolumn{2}{c}{$4\times4$ sites} & \multicolumn{3}{c}{patches of 32 pixels} \\"
              r" \cmidrule(lr){6-7} \cmidrule(lr){8-10}")
    return tabular("rrrrrrrrrr", head, rows, groups=groups)


def study(grid):
    head = ["", "$s$", "predicted", "explained", "draw", "nats, first", "highest", "last", "active", "empty", "F", "ceiling"]
    rows = []
    for cell in grid.cells:
        rates = [run["looks"]["rate"] for run in cell.runs if "rate" in run["looks"]]
        highest = max(max(rate) for rate in rates) if rates else None
        rows.append(
            [escape(cell.name), power(cell.noise), number(cell.predicted_explained), spread(cell.end("of_mean")),
             spread(cell.end("of_draw")), spread(cell.first("rate")), number(highest), spread(cell.last("rate")),
             spread(cell.last("active"), 0), spread(cell.end("empty"), 2), spread(cell.end("score")), spread(cell.end("ceiling"))]
        )
    return tabular("l" + "r" * 11, head, rows, size=r"\scriptsize")


def sets(content):
    """Latents on sets of heads: training and left-out heads against the ceiling, then what draws of the priors are."""
    fit, draws = [], []
    for data, by_latent in content["sets"].items():
        if fit:
            fit.append(r"\addlinespace[2pt]")
            draws.append(r"\addlinespace[2pt]")
        order = sorted(by_latent, key=lambda name: LATENTS.index(name) if name in LATENTS else len(LATENTS))
        for at, latent in enumerate(order):
            entry = by_latent[latent]
            label = escape(DATA_SETS.get(data, data)) if at == 0 else ""
            part = lambda which, code: number((entry[which] or {}).get(code), 3)
            fit.append(
                [label, escape(latent), number(entry["floats"]), number(entry["kl"], 1), part("train", "mesh"), part("train", "linear"),
                 part("train", "ceiling"), part("held_out", "mesh"), part("held_out", "linear"), part("held_out", "ceiling")]
            )
            for prior, s in entry["samples"].items():
                draws.append(
                    [label, escape(latent), escape(prior), str(s["count"]), str(s["with_surface"]), str(s["watertight"]),
                     number(s["components"], 1), number(s["non_manifold"], 1), number(s["nearest"], 4), number(s["ratio"], 2),
                     str(s["different_nearest"] or NONE)]
                )
                label = ""
    head = ["set", "latent", "floats", "nats", "network", "linear", "ceiling", "network", "linear", "ceiling"]
    groups = r"& & & & \multicolumn{3}{c}{F at 0.01, trained on} & \multicolumn{3}{c}{F at 0.01, left out} \\ \cmidrule(lr){5-7} \cmidrule(lr){8-10}"
    first = tabular("llrrrrrrrr", head, fit, groups=groups)
    head = ["set", "latent", "prior", "draws", "surface", "watertight", "parts", "non-manifold", "nearest", "ratio", "heads"]
    return first, tabular("lllrrrrrrrr", head, draws or [[NONE] * 11])


def all_tables(grids, spectra, set_data):
    """File name to LaTeX, for what is there."""
    small = [grids[name] for name in ("quick", "standard") if name in grids]
    found = {f"weights-{grid.name}": weights(grid) for grid in small} | {f"others-{grid.name}": others(grid) for grid in small}
    judged = [grid for grid in small if grid.verdicts]
    if judged:
        found["verdicts"] = verdicts(judged)
    if spectra:
        found["sizes"] = size_rows(spectra)
    if "study" in grids:
        found["study"] = study(grids["study"])
    if set_data:
        found["sets"], found["samples"] = sets(set_data)
    return found

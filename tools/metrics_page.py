"""Write the table of metrics into docs/monitoring.md: `python -m tools.metrics_page`."""

from pathlib import Path

from worker.dashboard.metrics import METRICS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "monitoring.md"
BEGIN, END = "<!-- metrics: python -m tools.metrics_page -->\n", "<!-- end of metrics -->\n"


def metrics_table() -> str:
    """The table as Markdown."""
    rows = [
        f"| `{spec.full_name}` | {spec.kind} | {', '.join(f'`{label}`' for label in spec.labels)} | {spec.help} |"
        for spec in METRICS
    ]
    return "\n".join(("| metric | kind | labels beside `worker` | what |", "|---|---|---|---|", *rows, ""))


def main() -> None:
    """Replace what stands between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{metrics_table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What a model is put through before it is shipped: harder conditions, groups, plain baselines, explanations, what it learned.

Each part gives ``ReportPart``: numbers for ``report.json`` and pictures for ``report.html``.
"""

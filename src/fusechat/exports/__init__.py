"""Exports of a run for other tools: TRL, LLaMA-Factory, the whole pool, the trained model."""

from fusechat.exports.trl import export_trl as export_trl

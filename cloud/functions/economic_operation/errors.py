"""What can be wrong with economic operation. Codes are stable; every text says what to do next."""

from __future__ import annotations

from protos.errors import KangError


class EconomicError(KangError):
    """Economic operation refuses."""

    code = "E-ECO"
    zh = "经济运行：{problem}。"
    en = "Economic operation: {problem}."


class SettingError(EconomicError):
    """A setting will not do; names the field."""

    code = "E-ECO-SETTING"
    zh = "字段 {field}：{problem_zh}。请修改后再保存，已填内容保留。"
    en = "Field {field}: {problem_en}. Correct it and save again; what you typed is kept."


class StaleSettingError(EconomicError):
    """Somebody else changed it meanwhile."""

    code = "E-ECO-STALE"
    zh = "{by} 已在此期间修改了设置（版本 {version}）。请查看新值后再改。"
    en = "{by} changed the settings meanwhile (version {version}). Look at the new values, then change yours."


class NothingToPlanError(EconomicError):
    """A project without anything to move, or without anything measured."""

    code = "E-ECO-NOTHING"
    zh = "该项目无法规划：{problem_zh}。"
    en = "This project cannot be planned: {problem_en}."

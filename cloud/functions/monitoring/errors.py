"""What can be wrong with a question about measurements. Must not know: HTTP."""

from __future__ import annotations

from protos.errors import KangError


class HistoryQueryError(KangError):
    """A history query cannot be answered; values: reason_zh, reason_en."""

    code = "E-HISTORY-QUERY"
    zh = "历史查询不合规：{reason_zh}。"
    en = "The history query is not valid: {reason_en}."


class TooManyStreamsError(KangError):
    """The portal has as many live streams as it can serve."""

    code = "E-STREAMS"
    zh = "实时连接数已满（{limit}）。请关闭不用的页面后重试；页面仍会定时刷新。"
    en = "There are as many live connections as this portal serves ({limit}). Close pages you do not need; pages still refresh by themselves."

package hearpack.core.ui

import hearpack.core.audio.CaptureFault
import hearpack.core.audio.OpenedCapture
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.printable
import hearpack.core.stream.Failure
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.eventSpan

private const val ROWS = 50
private val OF_PERMISSION = setOf(NoticeKind.PERMISSION_DENIED, NoticeKind.PERMISSION_DENIED_FOR_GOOD)

/** The next state of the screens: pure, so that every message is tested without a phone. */
fun reduce(
    state: UiState,
    event: UiEvent,
): UiState =
    when (event) {
        is UiEvent.PageChosen -> {
            if (state.stream == StreamPhase.IDLE) {
                UiState(page = event.page, models = state.models, permission = state.permission)
            } else {
                state
            }
        }

        is UiEvent.BundleAbsent -> {
            state.broken(event.page, ModelPhase.ABSENT, Notice(NoticeKind.BUNDLE_ABSENT, "", NoticeAction.NONE, true))
        }

        is UiEvent.BundleRefused -> {
            state.broken(event.page, ModelPhase.BROKEN, Notice(of(event.fault), event.message, NoticeAction.NONE, true))
        }

        is UiEvent.EngineRefused -> {
            val notice = Notice(NoticeKind.ENGINE_REFUSED, printable(event.message), NoticeAction.TRY_AGAIN, true)
            state.broken(event.page, ModelPhase.BROKEN, notice)
        }

        is UiEvent.EngineReady -> {
            state.model(event.page) { ready(it, event) }
        }

        is UiEvent.Checking -> {
            state.model(event.page) { it.copy(phase = ModelPhase.CHECKING, checked = event.fraction) }
        }

        is UiEvent.SelfChecked -> {
            state.model(event.page) { checked(it, event.result) }
        }

        is UiEvent.PermissionGranted -> {
            state.copy(permission = Permission.GRANTED, notice = state.notice?.takeIf { it.kind !in OF_PERMISSION })
        }

        is UiEvent.PermissionDenied -> {
            denied(state, event.canAskAgain)
        }

        is UiEvent.StartPressed -> {
            started(state)
        }

        is UiEvent.Opened -> {
            opened(state, event.opened)
        }

        is UiEvent.EventCame -> {
            state.copy(events = withEvent(state.events, event))
        }

        is UiEvent.FiguresCame -> {
            if (state.stream == StreamPhase.IDLE) state else state.copy(figures = event.figures)
        }

        is UiEvent.Silenced -> {
            silenced(state, event.silenced)
        }

        is UiEvent.Failed -> {
            failed(state, event.failure)
        }

        is UiEvent.Stopped -> {
            state.copy(
                stream = StreamPhase.IDLE,
                canCompare = event.hasRecording,
                canShare = state.opened != null,
                notice = state.notice?.takeIf { it.blocking },
            )
        }
    }

private fun UiState.model(
    page: Page,
    change: (ModelState) -> ModelState,
) = copy(models = models + (page to change(models.getValue(page))))

private fun UiState.broken(
    page: Page,
    phase: ModelPhase,
    notice: Notice,
) = model(page) { it.copy(phase = phase, notice = notice) }

private fun of(fault: BundleFault): NoticeKind =
    when (fault) {
        BundleFault.MISSING -> NoticeKind.BUNDLE_MISSING
        BundleFault.INVALID -> NoticeKind.BUNDLE_INVALID
        BundleFault.NEWER_SCHEMA -> NoticeKind.BUNDLE_NEWER_SCHEMA
        BundleFault.DAMAGED -> NoticeKind.BUNDLE_DAMAGED
        BundleFault.MISMATCH -> NoticeKind.BUNDLE_MISMATCH
    }

private fun ready(
    model: ModelState,
    event: UiEvent.EngineReady,
): ModelState {
    val why = event.refused.joinToString("; ") { (unit, reason) -> "$unit: $reason" }
    val fallback = Notice(NoticeKind.ACCELERATOR_REFUSED, printable(why), NoticeAction.NONE, false)
    return model.copy(
        phase = ModelPhase.READY,
        name = event.name,
        info = event.info,
        coldStart = event.coldStart,
        notice = fallback.takeIf { event.refused.isNotEmpty() },
    )
}

private fun checked(
    model: ModelState,
    result: SelfCheckReport,
): ModelState {
    val passed = model.copy(phase = ModelPhase.READY, checked = 1.0, selfCheck = result)
    if (result.passed) return passed
    val where = result.firstBadFrame?.let { "frame $it at ${"%.1f".format(result.firstBadSecond)} s, " } ?: ""
    val figure = "%.4g".format(result.figure)
    val detail = "$where${result.metric} $figure, limit ${result.limit}; ${result.nonFinite} values not finite"
    // Not blocking: the page says that its results are not to be trusted, and lets one look at them.
    return passed.copy(notice = Notice(NoticeKind.SELF_CHECK_FAILED, detail, NoticeAction.NONE, false))
}

private fun denied(
    state: UiState,
    canAskAgain: Boolean,
): UiState {
    val permission = if (canAskAgain) Permission.DENIED else Permission.DENIED_FOR_GOOD
    val kind = if (canAskAgain) NoticeKind.PERMISSION_DENIED else NoticeKind.PERMISSION_DENIED_FOR_GOOD
    val action = if (canAskAgain) NoticeAction.ASK_AGAIN else NoticeAction.OPEN_SETTINGS
    return state.copy(permission = permission, stream = StreamPhase.IDLE, notice = Notice(kind, "", action, true))
}

private fun started(state: UiState): UiState =
    if (!state.canStart || state.permission != Permission.GRANTED) {
        state
    } else {
        state.copy(
            stream = StreamPhase.STARTING,
            notice = null,
            events = emptyList(),
            figures = null,
            opened = null,
            canCompare = false,
            canShare = false,
        )
    }

private fun opened(
    state: UiState,
    opened: OpenedCapture,
): UiState {
    if (state.stream == StreamPhase.IDLE) return state
    val before = state.opened
    val notice =
        when {
            before != null -> {
                val detail = "${before.port} ${before.granted.rateHz} Hz -> ${opened.port} ${opened.granted.rateHz} Hz"
                Notice(NoticeKind.ROUTE_CHANGED, detail, NoticeAction.NONE, false)
            }

            state.page == Page.ENHANCE && !opened.output.isHeadset -> {
                Notice(NoticeKind.MONITOR_NEEDS_HEADSET, "", NoticeAction.NONE, false)
            }

            else -> {
                null
            }
        }
    return state.copy(stream = StreamPhase.RUNNING, opened = opened, notice = notice)
}

private fun withEvent(
    rows: List<EventRow>,
    came: UiEvent.EventCame,
): List<EventRow> {
    val event = came.event
    val rate = came.sampleRateHz.toDouble()
    val (begin, end) = eventSpan(event, came.hopSamples, came.firstEnd)
    val row = EventRow(printable(event.label), begin / rate, end?.let { it / rate }, event.confidence)
    val open = rows.indexOfFirst { it.label == row.label && it.onsetSeconds == row.onsetSeconds }
    return if (open >= 0) rows.mapIndexed { i, old -> if (i == open) row else old } else (listOf(row) + rows).take(ROWS)
}

private fun silenced(
    state: UiState,
    silenced: Boolean,
): UiState {
    if (silenced) return state.copy(notice = Notice(NoticeKind.MIC_SILENCED, "", NoticeAction.NONE, false))
    return state.copy(notice = state.notice?.takeIf { it.kind != NoticeKind.MIC_SILENCED })
}

private fun failed(
    state: UiState,
    failure: Failure,
): UiState {
    if (failure.fault == CaptureFault.NO_PERMISSION) return denied(state, canAskAgain = true)
    val kind =
        when (failure.fault) {
            CaptureFault.TAKEN -> NoticeKind.MIC_TAKEN
            CaptureFault.UNAVAILABLE, CaptureFault.ROUTE_CHANGED -> NoticeKind.MIC_UNAVAILABLE
            else -> NoticeKind.STREAM_FAILED
        }
    val notice = Notice(kind, printable(failure.message), NoticeAction.TRY_AGAIN, true)
    return state.copy(stream = StreamPhase.IDLE, notice = notice, canShare = state.opened != null)
}
